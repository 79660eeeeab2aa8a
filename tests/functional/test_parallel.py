"""Training over 1, 2 and 8 devices, and draws over 4: draws are bit-identical, sums equal up to rounding."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
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

BATCH, IMAGES, STEPS = 16, 70, 50  # batches cross the boundaries of epochs
AUGMENT = AugmentConfig(flip="random", crop_padding=2, rotation=15.0, erase_probability=0.5, cutout=6)
CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=IMAGES, validation_size=0),
    model=ModelConfig(family="plain", widths=(4, 8), depths=(1, 1), dropout=0.1),
    optim=OptimConfig(peak_lr=0.3, weight_decay=5e-4),  # large enough for a mistake to grow
    augment=AugmentConfig(erase_probability=0.25),
    train=TrainConfig(epochs=12, batch_size=BATCH, average_decay=0.9),
)


def make_mesh(devices: int, axis: str = "data") -> Mesh:
    return jax.make_mesh((devices,), (axis,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


@pytest.fixture(scope="module")
def data() -> Batch:
    return Batch(*draw(IMAGES, 0))


def replicate(mesh: Mesh, tree: Any) -> Any:
    return jax.device_put(tree, NamedSharding(mesh, P()))


def gather_rows(rows: Array) -> Array:
    """Gathers the rows of all shards on each of them, as a sum of rows padded with zeros."""
    zeros = jnp.zeros((rows.shape[0] * lax.axis_size("data"), *rows.shape[1:]), rows.dtype)
    padded = lax.dynamic_update_slice_in_dim(
        lax.pcast(zeros, "data", to="varying"), rows, lax.axis_index("data") * rows.shape[0], 0
    )
    return lax.psum(padded, "data")


@pytest.mark.parametrize(
    ("devices", "mix_options"),
    [(2, {"mixup_alpha": 0.4}), (4, {"cutmix_alpha": 1.0}), (8, {"mixup_alpha": 0.4})],
    ids=["mixup-2", "cutmix-4", "mixup-8"],
)
def test_order_and_augmentations_are_bit_identical_to_those_of_one_device(
    data: Batch, devices: int, mix_options: dict[str, float]
) -> None:
    config = replace(AUGMENT, **mix_options)  # type: ignore[arg-type]
    augment, mix, key = make_augment(config), make_mix(config), jax.random.key(7)

    def augment_and_mix(batch: Batch) -> tuple[Array, Array]:
        images = augment(key, jnp.asarray(batch.images)).astype(jnp.float32) / 255
        return mix(key, images, batch.labels)

    def sample_on_shard(data: Batch, step: Array) -> tuple[Array, Array, Array]:
        batch = sample_own_rows(sample_mirrored_batch, "data")(data, key, step, BATCH)
        images, weights = augment_and_mix(batch)
        return gather_rows(batch.labels), gather_rows(images), gather_rows(weights)

    mesh = make_mesh(devices)
    uneven = partial(sample_own_rows(sample_mirrored_batch, "data"), data, key, jnp.int32(0), BATCH + 1)
    if devices > 1:
        with pytest.raises(ValueError, match=f"batches of 17 on {devices} shards: expected a multiple of {devices}"):
            jax.eval_shape(jax.shard_map(uneven, mesh=mesh, in_specs=(), out_specs=P("data")))
    sharded = jax.jit(jax.shard_map(sample_on_shard, mesh=mesh, in_specs=(P(), P()), out_specs=P()))
    sample_alone = jax.jit(lambda data, step: sample_mirrored_batch(data, key, step, BATCH))
    for step in (0, 4):  # the fifth batch crosses into the next epoch
        batch = sample_alone(data, jnp.int32(step))
        expected = batch.labels, *jax.jit(augment_and_mix)(batch)
        for actual, single in zip(
            sharded(replicate(mesh, data), replicate(mesh, jnp.int32(step))), expected, strict=True
        ):
            np.testing.assert_array_equal(actual, single)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return make_recipe(CONFIG)


@pytest.fixture(scope="module")
def state(recipe: Recipe) -> TrainState:
    return jax.jit(recipe.init)(jax.random.key(1))


def train_losses(chunk: Callable[..., Any], mesh: Mesh, state: TrainState, data: Batch) -> np.ndarray:
    _, metrics = jax.jit(chunk)(replicate(mesh, state), replicate(mesh, data), replicate(mesh, jnp.int32(STEPS)))
    return np.asarray(metrics.loss_sum) / BATCH


@pytest.fixture(scope="module")
def single_losses(recipe: Recipe, state: TrainState, data: Batch) -> np.ndarray:
    """The losses on one device."""
    return train_losses(make_train_chunk(recipe.step, BATCH, STEPS, sample=recipe.sample), make_mesh(1), state, data)


@pytest.fixture(scope="module")
def drift(recipe: Recipe, state: TrainState, data: Batch, single_losses: np.ndarray) -> float:
    """The largest change of the losses on one device when the last bits of its weights are changed."""
    chunk = make_train_chunk(recipe.step, BATCH, STEPS, sample=recipe.sample)
    leaves, structure = jax.tree.flatten(state.params)

    def perturb(key: Array) -> TrainState:
        directions = (
            jnp.where(jax.random.bernoulli(leaf_key, shape=leaf.shape), jnp.inf, -jnp.inf)
            for leaf_key, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        )
        return replace(state, params=jax.tree.unflatten(structure, map(jnp.nextafter, leaves, directions)))

    states = jax.tree.map(lambda *members: jnp.stack(members), *map(perturb, jax.random.split(jax.random.key(1), 8)))
    drifted = train_losses(in_turn(chunk, (0, None, None)), make_mesh(1), states, data)
    return float(np.abs(drifted - single_losses).max())


@pytest.fixture(scope="module", params=[2, 8])
def sharded_losses(request: pytest.FixtureRequest, recipe: Recipe, state: TrainState, data: Batch) -> np.ndarray:
    """The losses on several devices."""
    mesh = make_mesh(request.param)
    return train_losses(make_parallel_chunk(recipe.step, BATCH, STEPS, mesh, sample=recipe.sample), mesh, state, data)


def test_sharded_losses_drift_from_one_device_no_further_than_rounding(
    sharded_losses: np.ndarray, single_losses: np.ndarray, drift: float
) -> None:
    actual = sharded_losses
    assert actual[0] == pytest.approx(single_losses[0], rel=1e-6)
    assert np.abs(actual[:3] - single_losses[:3]).max() < 1e-4
    assert drift < 0.1  # otherwise the comparison would be meaningless
    # Sharded sums round at every step, the control only at the first; 1e-4 allows for a control that recovers.
    assert np.abs(actual - single_losses).max() <= max(2 * drift, 1e-4)


def test_parallel_chunk_on_one_device_equals_the_plain_chunk(
    recipe: Recipe, state: TrainState, data: Batch, single_losses: Any
) -> None:
    mesh = make_mesh(1)
    chunk = make_parallel_chunk(recipe.step, BATCH, STEPS, mesh, sample=recipe.sample)
    np.testing.assert_array_equal(train_losses(chunk, mesh, state, data), single_losses)


def test_batch_size_not_divisible_by_the_devices_is_rejected(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="batch_size is 18: expected a multiple of the 4 devices"):
        make_parallel_chunk(recipe.step, 18, STEPS, make_mesh(4))


@pytest.mark.parametrize("devices", [1, 2])
def test_chunk_longer_than_max_steps_is_rejected(recipe: Recipe, state: TrainState, data: Batch, devices: int) -> None:
    chunk = make_parallel_chunk(recipe.step, BATCH, STEPS, make_mesh(devices))
    with pytest.raises(ValueError, match=f"num_steps is {STEPS + 1}: expected at most max_steps .{STEPS}."):
        chunk(state, data, STEPS + 1)


@pytest.mark.parametrize("devices", [1, 8])
def test_parallel_evaluation_counts_each_image_once_and_ignores_padding(
    recipe: Recipe, state: TrainState, devices: int
) -> None:
    rng, mesh = np.random.default_rng(1), make_mesh(devices)
    labels = np.array([*range(10), 3, *[-1] * 5], np.int32)
    batch = Batch(rng.integers(0, 256, (16, 28, 28, 1), np.uint8), labels)
    predict = make_predict(recipe.model)
    eval_step = make_eval_step(predict)
    weights = replicate(mesh, (state.params, state.batch_stats))
    sharded = jax.device_put(batch, NamedSharding(mesh, P("data")))
    actual = jax.jit(make_parallel_eval_step(eval_step, mesh))(*weights, sharded)
    expected = jax.jit(eval_step)(state.params, state.batch_stats, batch)
    np.testing.assert_array_equal(actual.confusion, expected.confusion)
    np.testing.assert_allclose(actual.loss_sum, expected.loss_sum, rtol=1e-6)
    assert actual.confusion.sum() == 11
    logits = jax.jit(make_parallel_predict(predict, mesh))(*weights, sharded.images)
    expected_logits = jax.jit(predict)(state.params, state.batch_stats, batch.images)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-5, atol=1e-5)


def test_members_sharded_over_devices_equal_those_on_one_without_all_reduce(recipe: Recipe, data: Batch) -> None:
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    states = jax.jit(in_turn(recipe.init))(keys)
    members = in_turn(make_train_chunk(recipe.step, BATCH, 3, sample=recipe.sample), (0, None, None))
    mesh = make_mesh(2, "member")
    by_member, replicated = P("member"), P()
    sharded = over_mesh(members, mesh, (by_member, replicated, replicated), by_member)
    operands = (
        jax.device_put(states, NamedSharding(mesh, by_member)),
        replicate(mesh, data),
        replicate(mesh, jnp.int32(3)),
    )
    _, actual = jax.jit(sharded)(*operands)
    _, expected = jax.jit(members)(states, data, jnp.int32(3))
    np.testing.assert_allclose(actual.loss_sum[:, 0], expected.loss_sum[:, 0], rtol=1e-6)
    np.testing.assert_allclose(actual.loss_sum, expected.loss_sum, rtol=1e-3)
    text = jax.jit(sharded).lower(*operands).as_text()
    assert "all_reduce" not in text  # members do not communicate


def test_all_reduces_are_limited_to_gradients_norms_loss_and_metrics(
    recipe: Recipe, state: TrainState, data: Batch
) -> None:
    mesh = make_mesh(2)
    chunk = make_parallel_chunk(recipe.step, BATCH, 1, mesh, sample=recipe.sample)
    text = jax.jit(chunk).lower(state, data, jnp.int32(1)).as_text()
    num_norms, num_leaves = 2, len(jax.tree.leaves(state.params))
    # One sum forward and one backward for each norm, one gradient for each leaf, and the loss and metrics.
    assert 0 < text.count("stablehlo.all_reduce") <= 2 * num_norms + num_leaves + 3


def test_init_on_eight_devices_is_bit_identical_to_that_on_one(recipe: Recipe, state: TrainState) -> None:
    mesh = make_mesh(8)
    sharded = jax.jit(recipe.init, out_shardings=NamedSharding(mesh, P()))(jax.random.key(1))
    for actual, expected in zip(jax.tree.leaves(sharded.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_parallel_evaluation_and_prediction_accept_host_arrays_on_explicit_axes(
    recipe: Recipe, state: TrainState
) -> None:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    assert mesh.axis_types == (AxisType.Explicit,)
    images, labels = draw(16, 3)
    predict = make_predict(recipe.model)
    expected_logits = jax.jit(predict)(state.params, state.batch_stats, images)
    for call in (make_parallel_predict(predict, mesh), jax.jit(make_parallel_predict(predict, mesh))):
        np.testing.assert_allclose(call(state.params, state.batch_stats, images), expected_logits, atol=1e-5)
    evaluate = jax.jit(make_parallel_eval_step(make_eval_step(predict), mesh))
    metrics = evaluate(state.params, state.batch_stats, Batch(images, labels))
    expected = jax.jit(make_eval_step(predict))(state.params, state.batch_stats, Batch(images, labels))
    np.testing.assert_array_equal(metrics.confusion, expected.confusion)


@pytest.mark.parametrize("devices", [1, 2])
def test_mesh_without_a_data_axis_is_rejected(recipe: Recipe, devices: int) -> None:
    mesh, predict = make_mesh(devices, "rows"), make_predict(recipe.model)
    for make in (
        lambda: make_parallel_chunk(recipe.step, BATCH, STEPS, mesh),
        lambda: make_parallel_eval_step(make_eval_step(predict), mesh),
        lambda: make_parallel_predict(predict, mesh),
    ):
        with pytest.raises(ValueError, match="the mesh has the axes rows: expected one, 'data'"):
            make()


@pytest.mark.parametrize("in_specs", [P("data"), (P("data"), P("data")), ({"a": P("data"), "b": P("data")}, P("data"))])
def test_over_mesh_takes_any_prefix_of_specs_on_explicit_axes(in_specs: Any) -> None:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    add = over_mesh(lambda tree, x: tree["a"] + tree["b"] + x, mesh, in_specs, P("data"))
    rows = np.arange(4.0, dtype=np.float32)
    np.testing.assert_array_equal(add({"a": rows, "b": rows}, rows), 3 * rows)


def test_parallel_chunk_takes_host_arrays_on_explicit_axes(recipe: Recipe, state: TrainState, data: Batch) -> None:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    chunk = jax.jit(make_parallel_chunk(recipe.step, BATCH, 2, mesh, sample=recipe.sample))
    alone = jax.jit(make_train_chunk(recipe.step, BATCH, 2, sample=recipe.sample))
    metrics, expected = (run(state, data, np.int32(2))[1] for run in (chunk, alone))
    np.testing.assert_allclose(metrics.loss_sum, expected.loss_sum, rtol=1e-4)
