"""A training over 1, 2 and 8 devices, and draws over 4: the same draws bit for bit, the same sums to rounding."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from fmnist_jax import (
    AugmentConfig,
    Batch,
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
    TrainConfig,
    in_turn,
    make_augment,
    make_eval_step,
    make_mix,
    make_parallel_chunk,
    make_parallel_eval_step,
    make_parallel_predict,
    make_predict,
    make_recipe,
    make_train_chunk,
    over_mesh,
    sample_mirrored_batch,
    sample_own_rows,
)
from fmnist_jax.data.synthetic import draw
from fmnist_jax.functional.state import TrainState

BATCH, IMAGES, STEPS = 16, 70, 50  # batches reach across the ends of epochs
AUGMENT = AugmentConfig(flip="random", crop_padding=2, rotation=15.0, erase_probability=0.5, cutout=6)
CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=IMAGES, validation_size=0),
    model=ModelConfig(family="plain", widths=(4, 8), depths=(1, 1), dropout=0.1),
    optim=OptimConfig(peak_lr=0.3, weight_decay=5e-4),  # so large that a mistake would grow
    augment=AugmentConfig(erase_probability=0.25),
    train=TrainConfig(epochs=12, batch_size=BATCH, average_decay=0.9),
)


def mesh_of(devices: int, axis: str = "data") -> Mesh:
    return jax.make_mesh((devices,), (axis,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


@pytest.fixture(scope="module")
def data() -> Batch:
    return Batch(*draw(IMAGES, 0))


def on(mesh: Mesh, tree: Any) -> Any:
    return jax.device_put(tree, NamedSharding(mesh, P()))


def from_all_shards(rows: Array) -> Array:
    """The rows of all shards, on each of them: a sum to which every shard but one adds zeros."""
    everything = jnp.zeros((rows.shape[0] * lax.axis_size("data"), *rows.shape[1:]), rows.dtype)
    own = lax.dynamic_update_slice_in_dim(
        lax.pcast(everything, "data", to="varying"), rows, lax.axis_index("data") * rows.shape[0], 0
    )
    return lax.psum(own, "data")


@pytest.mark.parametrize(
    ("devices", "mixed"),
    [(2, {"mixup_alpha": 0.4}), (4, {"cutmix_alpha": 1.0}), (8, {"mixup_alpha": 0.4})],
    ids=["mixup-2", "cutmix-4", "mixup-8"],
)
def test_order_and_every_augmentation_are_the_same_bits(data: Batch, devices: int, mixed: dict[str, float]) -> None:
    config = replace(AUGMENT, **mixed)  # type: ignore[arg-type]
    augment, mix, key = make_augment(config), make_mix(config), jax.random.key(7)

    def drawn(batch: Batch) -> tuple[Array, Array]:
        images = augment(key, jnp.asarray(batch.images)).astype(jnp.float32) / 255
        return mix(key, images, batch.labels)

    def on_a_shard(data: Batch, step: Array) -> tuple[Array, Array, Array]:
        batch = sample_own_rows(sample_mirrored_batch, "data")(data, key, step, BATCH)
        images, weights = drawn(batch)
        return from_all_shards(batch.labels), from_all_shards(images), from_all_shards(weights)

    mesh = mesh_of(devices)
    sharded = jax.jit(jax.shard_map(on_a_shard, mesh=mesh, in_specs=(P(), P()), out_specs=P()))
    alone = jax.jit(lambda data, step: sample_mirrored_batch(data, key, step, BATCH))
    for step in (0, 4):  # the fifth batch begins in one epoch and ends in the next
        batch = alone(data, jnp.int32(step))
        expected = batch.labels, *jax.jit(drawn)(batch)
        for got, whole in zip(sharded(on(mesh, data), on(mesh, jnp.int32(step))), expected, strict=True):
            np.testing.assert_array_equal(got, whole)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return make_recipe(CONFIG)


@pytest.fixture(scope="module")
def start(recipe: Recipe) -> TrainState:
    return jax.jit(recipe.init)(jax.random.key(1))


def losses(chunk: Callable[..., Any], mesh: Mesh, state: TrainState, data: Batch) -> np.ndarray:
    _, metrics = jax.jit(chunk)(on(mesh, state), on(mesh, data), on(mesh, jnp.int32(STEPS)))
    return np.asarray(metrics.loss_sum) / BATCH


@pytest.fixture(scope="module")
def alone(recipe: Recipe, start: TrainState, data: Batch) -> np.ndarray:
    """The losses of one device."""
    return losses(make_train_chunk(recipe.step, BATCH, STEPS, sample=recipe.sample), mesh_of(1), start, data)


@pytest.fixture(scope="module")
def drift(recipe: Recipe, start: TrainState, data: Batch, alone: np.ndarray) -> float:
    """How far the losses of one device go from where they were when the last bits of its weights are changed."""
    chunk = make_train_chunk(recipe.step, BATCH, STEPS, sample=recipe.sample)
    leaves, structure = jax.tree.flatten(start.params)

    def nudged(key: Array) -> TrainState:
        directions = (
            jnp.where(jax.random.bernoulli(own, shape=leaf.shape), jnp.inf, -jnp.inf)
            for own, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        )
        return replace(start, params=jax.tree.unflatten(structure, map(jnp.nextafter, leaves, directions)))

    states = jax.tree.map(lambda *same: jnp.stack(same), *map(nudged, jax.random.split(jax.random.key(1), 8)))
    drifted = losses(in_turn(chunk, (0, None, None)), mesh_of(1), states, data)
    return float(np.abs(drifted - alone).max())


@pytest.fixture(scope="module", params=[2, 8])
def spread(request: pytest.FixtureRequest, recipe: Recipe, start: TrainState, data: Batch) -> np.ndarray:
    """The losses of several devices."""
    mesh = mesh_of(request.param)
    return losses(make_parallel_chunk(recipe.step, BATCH, STEPS, mesh, sample=recipe.sample), mesh, start, data)


def test_the_first_loss_is_that_of_one_device_and_fifty_steps_drift_as_last_bits_do(
    spread: np.ndarray, alone: np.ndarray, drift: float
) -> None:
    found = spread
    assert found[0] == pytest.approx(alone[0], rel=1e-6)
    assert np.abs(found[:3] - alone[:3]).max() < 1e-4
    assert drift < 0.1  # or the comparison would say nothing
    # Sums over shards round at every step, the control at the first: where its steps forget that, at 1e-4 of the loss.
    assert np.abs(found - alone).max() <= max(2 * drift, 1e-4)


def test_on_one_device_the_chunk_is_the_plain_one(recipe: Recipe, start: TrainState, data: Batch, alone: Any) -> None:
    mesh = mesh_of(1)
    chunk = make_parallel_chunk(recipe.step, BATCH, STEPS, mesh, sample=recipe.sample)
    np.testing.assert_array_equal(losses(chunk, mesh, start, data), alone)


def test_devices_that_cannot_share_a_batch_are_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="batch_size is 18: expected a multiple of the 4 devices"):
        make_parallel_chunk(recipe.step, 18, STEPS, mesh_of(4))


@pytest.mark.parametrize("devices", [1, 2])
def test_a_chunk_that_is_too_long_is_refused(recipe: Recipe, start: TrainState, data: Batch, devices: int) -> None:
    chunk = make_parallel_chunk(recipe.step, BATCH, STEPS, mesh_of(devices))
    with pytest.raises(ValueError, match=f"num_steps is {STEPS + 1}: expected at most max_steps .{STEPS}."):
        chunk(start, data, STEPS + 1)


@pytest.mark.parametrize("devices", [1, 8])
def test_evaluation_counts_each_image_once_and_padding_never(recipe: Recipe, start: TrainState, devices: int) -> None:
    rng, mesh = np.random.default_rng(1), mesh_of(devices)
    labels = np.array([*range(10), 3, *[-1] * 5], np.int32)
    batch = Batch(rng.integers(0, 256, (16, 28, 28, 1), np.uint8), labels)
    predict = make_predict(recipe.model)
    eval_step = make_eval_step(predict)
    weights = on(mesh, (start.params, start.batch_stats))
    spread = jax.device_put(batch, NamedSharding(mesh, P("data")))
    got = jax.jit(make_parallel_eval_step(eval_step, mesh))(*weights, spread)
    expected = jax.jit(eval_step)(start.params, start.batch_stats, batch)
    np.testing.assert_array_equal(got.confusion, expected.confusion)
    np.testing.assert_allclose(got.loss_sum, expected.loss_sum, rtol=1e-6)
    assert got.confusion.sum() == 11
    logits = jax.jit(make_parallel_predict(predict, mesh))(*weights, spread.images)
    expected_logits = jax.jit(predict)(start.params, start.batch_stats, batch.images)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-5, atol=1e-5)


def test_members_on_devices_of_their_own_are_what_they_are_on_one(recipe: Recipe, data: Batch) -> None:
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    states = jax.jit(in_turn(recipe.init))(keys)
    members = in_turn(make_train_chunk(recipe.step, BATCH, 3, sample=recipe.sample), (0, None, None))
    mesh = mesh_of(2, "member")
    own, shared = P("member"), P()
    sharded = over_mesh(members, mesh, (own, shared, shared), own)
    placed = jax.device_put(states, NamedSharding(mesh, own)), on(mesh, data), on(mesh, jnp.int32(3))
    _, got = jax.jit(sharded)(*placed)
    _, expected = jax.jit(members)(states, data, jnp.int32(3))
    np.testing.assert_allclose(got.loss_sum[:, 0], expected.loss_sum[:, 0], rtol=1e-6)
    np.testing.assert_allclose(got.loss_sum, expected.loss_sum, rtol=1e-3)
    text = jax.jit(sharded).lower(*placed).as_text()
    assert "all_reduce" not in text  # members have nothing to tell one another


def test_gradients_and_statistics_are_what_is_summed_and_little_else(
    recipe: Recipe, start: TrainState, data: Batch
) -> None:
    mesh = mesh_of(2)
    chunk = make_parallel_chunk(recipe.step, BATCH, 1, mesh, sample=recipe.sample)
    text = jax.jit(chunk).lower(start, data, jnp.int32(1)).as_text()
    norms, leaves = 2, len(jax.tree.leaves(start.params))
    # Of each norm one sum forward and one backward, of each leaf its gradient, of the batch loss and metrics.
    assert text.count("stablehlo.all_reduce") <= 2 * norms + leaves + 3


def test_init_is_the_same_wherever_it_is_computed(recipe: Recipe, start: TrainState) -> None:
    mesh = mesh_of(8)
    spread = jax.jit(recipe.init, out_shardings=NamedSharding(mesh, P()))(jax.random.key(1))
    for got, expected in zip(jax.tree.leaves(spread.params), jax.tree.leaves(start.params), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_evaluation_and_prediction_take_host_arrays_on_explicit_axes(recipe: Recipe, start: TrainState) -> None:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    assert mesh.axis_types == (AxisType.Explicit,)
    images, labels = draw(16, 3)
    predict = make_predict(recipe.model)
    alone = jax.jit(predict)(start.params, start.batch_stats, images)
    for call in (make_parallel_predict(predict, mesh), jax.jit(make_parallel_predict(predict, mesh))):
        np.testing.assert_allclose(call(start.params, start.batch_stats, images), alone, atol=1e-5)
    evaluate = jax.jit(make_parallel_eval_step(make_eval_step(predict), mesh))
    metrics = evaluate(start.params, start.batch_stats, Batch(images, labels))
    expected = jax.jit(make_eval_step(predict))(start.params, start.batch_stats, Batch(images, labels))
    np.testing.assert_array_equal(metrics.confusion, expected.confusion)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_mesh_of_other_axes_is_refused(recipe: Recipe, devices: int) -> None:
    mesh, predict = mesh_of(devices, "rows"), make_predict(recipe.model)
    for make in (
        lambda: make_parallel_chunk(recipe.step, BATCH, STEPS, mesh),
        lambda: make_parallel_eval_step(make_eval_step(predict), mesh),
        lambda: make_parallel_predict(predict, mesh),
    ):
        with pytest.raises(ValueError, match="the mesh has the axes rows: expected one, 'data'"):
            make()
