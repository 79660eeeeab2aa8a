"""Single steps and chunks: against NumPy with a linear model, and against each other with a convolutional one."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fmnist_jax import (
    AugmentConfig,
    Batch,
    ConfigError,
    Metrics,
    Model,
    ModelConfig,
    OptimConfig,
    TrainState,
    batch_indices,
    init_state,
    make_augment,
    make_cross_entropy,
    make_model,
    make_optimizer,
    make_sample,
    make_schedule,
    make_train_chunk,
    make_train_step,
    one_hot,
    sample_batch,
    sample_mirrored_batch,
)
from fmnist_jax.functional.descent import TrainStep
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.train_step import Sample, TrainChunk

MAX_STEPS = 4


def linear_init(key: Array) -> tuple[Params, BatchStats]:
    kernel = 0.01 * jax.random.normal(key, (784, 10))
    return {"kernel": kernel, "bias": jnp.zeros(10)}, {"calls": jnp.zeros(())}


def linear_apply(
    params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
) -> tuple[Array, BatchStats]:
    logits = images.reshape(len(images), -1) @ params["kernel"] + params["bias"][None]
    return logits, {"calls": batch_stats["calls"] + 1}


LINEAR = Model(linear_init, linear_apply)


class Network(NamedTuple):
    """The convolutional model with everything random switched on, compiled once for all tests."""

    step: TrainStep
    compiled_step: TrainStep
    states: TrainState
    """Eight states, along a leading axis."""
    state: TrainState
    """The first of them."""


@pytest.fixture(scope="module")
def network(key: Array) -> Network:
    # The smallest with a pooled convolution and one without pooling, because it is compiled in five ways.
    model = make_model(ModelConfig(family="plain", widths=(4,), depths=(2,), dropout=0.3))
    config = OptimConfig(peak_lr=0.05, warmup=0.0, momentum=0.9, weight_decay=1e-3)
    optimizer = make_optimizer(config, make_schedule(config, 50))
    step = make_train_step(model, optimizer, augment=make_augment(AugmentConfig(flip="random", crop_padding=2)))

    states = jax.jit(jax.vmap(lambda key: init_state(model, optimizer, key)))(jax.random.split(key, 8))
    return Network(step, jax.jit(step), states, select_member(states, 0))


@pytest.fixture(scope="module")
def data() -> Batch:
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    return Batch(jnp.asarray(images), jnp.arange(20, dtype=jnp.int32) % 10)


@pytest.fixture(scope="module")
def chunk(network: Network) -> TrainChunk:
    return jax.jit(make_train_chunk(network.step, 8, MAX_STEPS))


def select_member(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], tree)


def to_numpy(tree: Any) -> Any:
    """The leaves as NumPy arrays, typed keys as their key data."""
    return jax.tree.map(
        lambda leaf: np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf),
        tree,
    )


def assert_equal(actual: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, to_numpy(actual), to_numpy(expected))


def assert_close(actual: Any, expected: Any) -> None:
    """Compares up to the rounding of float32 sums in another order."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), to_numpy(actual), to_numpy(expected)
    )


def run_steps(network: Network, batches: list[Batch]) -> tuple[TrainState, list[Metrics]]:
    state, rows = network.state, []
    for batch in batches:
        state, metrics = network.compiled_step(state, batch)
        rows.append(metrics)
    return state, rows


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_steps_equal_gradient_descent_on_the_mean_loss_in_numpy(batch: Batch, key: Array, smoothing: float) -> None:
    optimizer = optax.sgd(0.5)
    step = jax.jit(make_train_step(LINEAR, optimizer, loss_fn=make_cross_entropy(smoothing)))
    state = init_state(LINEAR, optimizer, key)
    kernel, bias = (np.asarray(state.params[name], np.float64) for name in ("kernel", "bias"))
    pixels = np.asarray(batch.images, np.float64).reshape(8, -1) / 255
    targets = (1 - smoothing) * np.eye(10)[batch.labels] + smoothing / 10
    for count in range(1, 4):
        state, metrics = step(state, batch)
        logits = pixels @ kernel + bias
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(metrics.loss_sum, -(targets * np.log(probabilities)).sum(), rtol=1e-4)
        confusion = np.zeros((10, 10))
        np.add.at(confusion, (batch.labels, logits.argmax(-1)), 1)
        np.testing.assert_array_equal(metrics.confusion, confusion)
        gradient = (probabilities - targets) / 8
        kernel, bias = kernel - 0.5 * pixels.T @ gradient, bias - 0.5 * gradient.sum(0)
        np.testing.assert_allclose(state.params["kernel"], kernel, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.params["bias"], bias, rtol=1e-4, atol=1e-5)
        assert (int(state.step), float(state.batch_stats["calls"])) == (count, count)


def test_step_keys_are_unique_and_derived_from_the_root_key_and_the_step(batch: Batch) -> None:
    seen_keys: list[Array] = []

    def augment(key: Array, images: Array) -> Array:
        seen_keys.append(key)
        return images

    def apply(
        params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        assert train
        assert key is not None
        seen_keys.append(key)
        return linear_apply(params, batch_stats, images, train=train, key=key)

    step = make_train_step(Model(linear_init, apply), optax.sgd(0.1), augment=augment)
    for seed in (0, 1):
        state = init_state(LINEAR, optax.sgd(0.1), jax.random.key(seed))
        for count in (0, 1, 5):
            state = replace(state, step=jnp.int32(count))
            after, _ = step(state, batch)
            assert_equal(after.key, state.key)
            expected = jax.random.split(jax.random.fold_in(state.key, count), 3)[:2]
            assert_equal(jnp.stack(seen_keys[-2:]), expected)
    assert len(np.unique(to_numpy(jnp.stack(seen_keys)), axis=0)) == len(seen_keys) == 12


def test_step_is_pure(network: Network, batch: Batch) -> None:
    before = jax.tree.map(np.copy, to_numpy((network.state, batch)))
    first = network.compiled_step(network.state, batch)
    assert_equal(network.compiled_step(network.state, batch), first)
    assert_equal((network.state, batch), before)


def test_randomness_depends_on_the_root_key_and_the_step(network: Network, batch: Batch) -> None:
    _, metrics = network.compiled_step(network.state, batch)
    others = [replace(network.state, step=jnp.int32(1)), replace(network.state, key=jax.random.key(9))]
    for other in others:
        assert network.compiled_step(other, batch)[1].loss_sum != metrics.loss_sum


def test_training_fits_a_small_batch(network: Network, batch: Batch) -> None:
    _, rows = run_steps(network, [batch] * 60)
    losses = np.array([row.loss_sum for row in rows]) / 8
    assert losses[0] > 2
    assert losses[-10:].mean() < 0.5 * losses[:5].mean()


def test_sample_batch_gathers_the_examples_of_batch_indices(data: Batch, key: Array) -> None:
    indices = np.asarray(batch_indices(key, 3, 8, 20))
    actual = sample_batch(data, key, 3, 8)
    assert_equal(actual, Batch(np.asarray(data.images)[indices], np.asarray(data.labels)[indices]))


def test_chunk_equals_its_steps_in_order_and_leaves_unused_rows_zero(
    network: Network, chunk: TrainChunk, data: Batch
) -> None:
    state, rows = chunk(network.state, data, jnp.int32(3))
    batches = [sample_batch(data, network.state.key, step, 8) for step in range(3)]
    expected, steps = run_steps(network, batches)
    assert_close(state, expected)
    assert rows.confusion.shape == (MAX_STEPS, 10, 10)
    for i in range(3):
        assert_close(select_member(rows, i), steps[i])
    assert not any(leaf.any() for leaf in jax.tree.leaves(select_member(rows, 3)))


def test_training_in_several_chunks_is_bit_identical_to_one_chunk(
    network: Network, chunk: TrainChunk, data: Batch
) -> None:
    expected, expected_rows = chunk(network.state, data, jnp.int32(4))
    state, parts = network.state, []
    for length in (1, 0, 2, 1):
        state, rows = chunk(state, data, jnp.int32(length))
        parts.append(jax.tree.map(lambda leaf, length=length: leaf[:length], rows))
    assert_equal(state, expected)
    assert_equal(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts), expected_rows)


def test_chunks_of_every_length_share_one_compilation(data: Batch, key: Array) -> None:
    traces = []
    step = make_train_step(LINEAR, optax.sgd(0.1))

    def counting_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        traces.append(state)
        return step(state, batch)

    chunk = jax.jit(make_train_chunk(counting_step, 8, MAX_STEPS))
    state = init_state(LINEAR, optax.sgd(0.1), key)
    state, _ = chunk(state, data, jnp.int32(0))
    assert int(state.step) == 0
    initial_count = len(traces)
    for length in (1, 3, MAX_STEPS):
        state, _ = chunk(state, data, jnp.int32(length))
    assert int(state.step) == 8
    assert len(traces) == initial_count


def test_vmapped_step_of_eight_models_equals_single_steps(network: Network, batch: Batch) -> None:
    mapped, metrics = jax.jit(jax.vmap(network.step, in_axes=(0, None)))(network.states, batch)
    assert metrics.confusion.shape == (8, 10, 10)
    for i in range(8):
        assert_close(
            (select_member(mapped, i), select_member(metrics, i)),
            network.compiled_step(select_member(network.states, i), batch),
        )


def test_scanned_step_equals_single_steps(network: Network, data: Batch) -> None:
    batches = [Batch(data.images[start : start + 8], data.labels[start : start + 8]) for start in (0, 4, 12)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    state, rows = jax.jit(lambda state, stacked: jax.lax.scan(network.step, state, stacked))(network.state, stacked)
    expected, steps = run_steps(network, batches)
    assert_close(state, expected)
    for i in range(3):
        assert_close(select_member(rows, i), steps[i])


def test_step_sharded_by_data_over_two_devices_equals_one_device(network: Network, batch: Batch) -> None:
    if jax.device_count() < 2:
        pytest.skip("needs two devices, which conftest.py makes of a CPU")
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    by_data, replicated = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    sharded = jax.device_put(batch, by_data)
    assert {shard.data.shape[0] for shard in sharded.images.addressable_shards} == {4}
    actual = jax.jit(network.step, out_shardings=replicated)(jax.device_put(network.state, replicated), sharded)
    assert actual[1].loss_sum.sharding.num_devices == 2
    assert_close(actual, network.compiled_step(network.state, batch))


def test_step_with_augmentation_keeps_dtypes_under_strict_dtype_promotion(network: Network, batch: Batch) -> None:
    with jax.numpy_dtype_promotion("strict"):
        state, _ = jax.eval_shape(network.step, network.state, batch)
    assert jax.tree.map(lambda leaf: leaf.dtype, state) == jax.tree.map(lambda leaf: leaf.dtype, network.state)


def test_sample_mirrored_batch_shows_each_example_in_both_orientations_in_two_epochs(data: Batch, key: Array) -> None:
    sample = jax.jit(sample_mirrored_batch, static_argnums=3)
    is_mirrored = np.zeros((2, 20), int) - 1
    for step in range(5):
        batch = to_numpy(sample(data, key, step, 8))
        indices = np.asarray(batch_indices(key, step, 8, 20))
        np.testing.assert_array_equal(batch.labels, np.asarray(data.labels)[indices])
        for position, index in enumerate(indices):
            image = np.asarray(data.images)[index]
            mirrored = np.array_equal(batch.images[position], image[:, ::-1])
            assert mirrored or np.array_equal(batch.images[position], image)
            is_mirrored[(step * 8 + position) // 20, index] = mirrored
    assert np.all(is_mirrored.sum(0) == 1)
    assert 0 < is_mirrored[0].sum() < 20


def test_chunk_uses_the_given_sample_function(data: Batch, key: Array) -> None:
    state, step = init_state(LINEAR, optax.sgd(0.1), key), make_train_step(LINEAR, optax.sgd(0.1))
    chunk = jax.jit(make_train_chunk(step, 8, MAX_STEPS, sample=sample_mirrored_batch))
    actual, _ = chunk(state, data, jnp.int32(3))
    expected = state
    for count in range(3):
        expected, _ = step(expected, sample_mirrored_batch(data, state.key, count, 8))
    assert_close(actual, expected)


def test_mix_receives_normalized_images_and_the_loss_receives_mixed_labels(batch: Batch, key: Array) -> None:
    seen: list[Any] = []

    def mix(key: Array, images: Array, labels: Array) -> tuple[Array, Array]:
        seen.append((images, labels))
        return images / 2, (one_hot(labels) + one_hot((labels + 1) % 10)) / 2

    state = init_state(LINEAR, optax.sgd(0.1), key)
    loss_fn = make_cross_entropy(0.0)
    _, metrics = make_train_step(LINEAR, optax.sgd(0.1), loss_fn=loss_fn, mix=mix)(state, batch)
    ((images, labels),) = seen
    pixels = np.asarray(batch.images, np.float64) / 255
    np.testing.assert_allclose(images, pixels, rtol=1e-6)
    np.testing.assert_array_equal(labels, batch.labels)
    logits = pixels.reshape(8, -1) / 2 @ np.asarray(state.params["kernel"], np.float64)
    targets = (np.eye(10)[batch.labels] + np.eye(10)[batch.labels + 1]) / 2
    expected = -(targets * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum()
    np.testing.assert_allclose(metrics.loss_sum, expected, rtol=1e-4)


@pytest.mark.parametrize("num_steps", [MAX_STEPS + 1, np.int32(9), jnp.int32(9)])
def test_chunk_rejects_more_than_max_steps(num_steps: Any, data: Batch, key: Array) -> None:
    state, step = init_state(LINEAR, optax.sgd(0.1), key), make_train_step(LINEAR, optax.sgd(0.1))
    with pytest.raises(ValueError, match=f"num_steps is {int(num_steps)}: expected at most max_steps .4."):
        make_train_chunk(step, 8, MAX_STEPS)(state, data, num_steps)


def test_step_accepts_floats_in_the_unit_range_and_rejects_other_dtypes(batch: Batch, key: Array) -> None:
    state, step = init_state(LINEAR, optax.sgd(0.1), key), make_train_step(LINEAR, optax.sgd(0.1))
    scaled = Batch((batch.images / 255).astype(np.float32), batch.labels)
    assert_close(step(state, scaled), step(state, batch))
    with pytest.raises(ValueError, match="images are int32: expected uint8"):
        step(state, Batch(batch.images.astype(np.int32), batch.labels))


def test_samplers_gather_targets_of_any_pytree(data: Batch, key: Array) -> None:
    targets = {"hard": data.labels, "soft": jnp.arange(40.0).reshape(20, 2)}
    for sample in (sample_batch, sample_mirrored_batch):
        actual, indices = sample(Batch(data.images, targets), key, 3, 8), batch_indices(key, 3, 8, 20)
        assert_equal(actual.labels, {name: leaf[indices] for name, leaf in targets.items()})


def test_make_sample_follows_the_configured_flip_and_rejects_unknown_ones() -> None:
    assert make_sample(AugmentConfig(flip="alternating")) is sample_mirrored_batch
    assert make_sample(AugmentConfig(flip="random")) is make_sample(AugmentConfig(flip="none")) is sample_batch
    unknown: Any = AugmentConfig(flip="alternate")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"--augment\.flip is 'alternate'"):
        make_sample(unknown)


@pytest.mark.parametrize("sample", [sample_batch, sample_mirrored_batch])
def test_samplers_accept_numpy_data_when_only_the_step_is_traced(sample: Sample) -> None:
    """As in a scan over steps that closes over the data, and in a chunk that is not compiled."""
    rng = np.random.default_rng(0)
    data = Batch(rng.integers(0, 256, (12, 28, 28, 1), np.uint8), np.arange(12) % 10)
    on_device, key = jax.tree.map(jnp.asarray, data), jax.random.key(0)
    _, actual = jax.lax.scan(lambda step, _: (step + 1, sample(data, key, step, 4)), jnp.int32(0), length=6)
    for step in range(6):
        expected = sample(on_device, key, jnp.int32(step), 4)
        np.testing.assert_array_equal(actual.images[step], expected.images)
        np.testing.assert_array_equal(actual.labels[step], expected.labels)

    def count(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        return replace(state, step=state.step + 1), batch.labels

    empty_state = TrainState(jnp.int32(0), {}, {}, (), key)
    after, rows = make_train_chunk(count, 4, 3, sample=sample)(empty_state, data, jnp.int32(3))
    assert int(after.step) == 3
    assert sorted(np.ravel(rows).tolist()) == sorted(data.labels.tolist())


def test_images_and_labels_of_different_lengths_are_rejected_while_tracing(network: Network, data: Batch) -> None:
    fewer = Batch(jnp.asarray(data.images), jnp.asarray(data.labels[:5]))
    with pytest.raises(ValueError, match="there are 20 images and 5 labels: expected as many of both"):
        jax.eval_shape(make_train_chunk(network.step, 8, MAX_STEPS), network.state, fewer, 2)


@pytest.mark.parametrize("sample", [sample_batch, sample_mirrored_batch])
def test_chunk_mapped_over_members_of_an_explicit_axis_equals_that_on_one_device(key: Array, sample: Sample) -> None:
    step = make_train_step(LINEAR, optax.sgd(0.1))
    chunk = jax.vmap(make_train_chunk(step, 4, MAX_STEPS, sample=sample), (0, None, None))
    states = jax.vmap(lambda key: init_state(LINEAR, optax.sgd(0.1), key))(jax.random.split(key, 2))
    rng = np.random.default_rng(0)
    data = Batch(jnp.asarray(rng.integers(0, 256, (12, 28, 28, 1), np.uint8)), jnp.arange(12) % 10)
    expected, _ = jax.jit(chunk)(states, data, 3)
    mesh = jax.make_mesh((2,), ("member",))
    assert mesh.axis_types == (AxisType.Explicit,)
    with jax.set_mesh(mesh):
        trained, _ = jax.jit(chunk)(jax.device_put(states, NamedSharding(mesh, PartitionSpec("member"))), data, 3)
    assert trained.params["kernel"].sharding.spec[0] == "member"
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(trained.params[name], expected.params[name], rtol=1e-5, atol=1e-6)
