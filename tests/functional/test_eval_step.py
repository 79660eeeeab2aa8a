from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import AxisType, PartitionSpec

from fmnist_jax import (
    Batch,
    Dataset,
    Model,
    evaluate_batches,
    make_eval_step,
    make_evaluate,
    make_mirrored_predict,
    make_predict,
    make_probabilities,
    padded_batches,
    stacked_batches,
    summarize,
)
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.labels import PADDING_LABEL

COUNT = 23


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 28, 28, 1), dtype=np.uint8)
    return Dataset(images, rng.integers(0, 10, COUNT, dtype=np.int32))


def first_pixels(params: Params, batch_stats: BatchStats, images: Array | np.ndarray) -> Array:
    """A classifier whose logits NumPy can compute from the images."""
    return jnp.asarray(images)[:, 0, :10, 0].astype(jnp.float32) / 50


def empty_init(key: Array) -> tuple[Params, BatchStats]:
    return {}, {}


def numpy_summary(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    logits64 = logits.astype(np.float64)
    losses = np.log(np.exp(logits64).sum(-1)) - logits64[np.arange(len(labels)), labels]
    return losses.mean(), (logits64.argmax(-1) == labels).mean()


@pytest.mark.parametrize("batch_size", [1, 2, 7, COUNT - 1, COUNT, COUNT + 1, 100])
def test_every_example_counts_once_for_any_batch_size(dataset: Dataset, batch_size: int) -> None:
    metrics = evaluate_batches(jax.jit(make_eval_step(first_pixels)), {}, {}, padded_batches(dataset, batch_size))
    loss, accuracy, examples = summarize(metrics)
    expected = numpy_summary(dataset.images[:, 0, :10, 0] / np.float32(50), dataset.labels)
    assert examples == COUNT
    np.testing.assert_array_equal(np.sum(metrics.confusion, axis=1), np.bincount(dataset.labels, minlength=10))
    assert accuracy == expected[1]
    assert loss == pytest.approx(expected[0], rel=1e-5)


def test_predict_normalises_the_images_and_uses_the_running_statistics(batch: Batch) -> None:
    def apply(
        params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        assert not train
        assert key is None
        logits = images.reshape(len(images), -1)[:, :10] * params["scale"] + batch_stats["shift"]
        return logits, {"shift": jnp.nan}

    predict = make_predict(Model(empty_init, apply))
    logits = predict({"scale": jnp.float32(2)}, {"shift": jnp.float32(3)}, batch.images)
    expected = np.asarray(batch.images).reshape(8, -1)[:, :10].astype(np.float64) / 255 * 2 + 3
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_network_metrics_do_not_depend_on_batching_or_padding_pixels(
    model: Model, variables: tuple[Params, BatchStats], dataset: Dataset
) -> None:
    predict = jax.jit(make_predict(model))
    eval_step = jax.jit(make_eval_step(predict))

    def brighten_padding(batch: Batch) -> Batch:
        padding = np.asarray(batch.labels) == PADDING_LABEL
        return Batch(np.where(padding[:, None, None, None], np.uint8(255), batch.images), batch.labels)

    logits = np.asarray(predict(*variables, dataset.images))
    expected = numpy_summary(logits, dataset.labels)
    for transform in (brighten_padding, lambda batch: batch):
        batches = [transform(batch) for batch in padded_batches(dataset, 8)]
        loss, accuracy, examples = summarize(evaluate_batches(eval_step, *variables, batches))
        assert (examples, accuracy) == (COUNT, expected[1])
        assert loss == pytest.approx(expected[0], rel=1e-4)


def test_prediction_of_an_example_does_not_depend_on_the_rest_of_the_batch(
    model: Model, variables: tuple[Params, BatchStats], dataset: Dataset
) -> None:
    predict = jax.jit(make_predict(model))
    logits = predict(*variables, dataset.images)
    assert (logits.shape, logits.dtype) == ((COUNT, 10), jnp.float32)
    np.testing.assert_allclose(predict(*variables, dataset.images[4:5])[0], logits[4], rtol=1e-4, atol=1e-5)


def test_eval_step_sums_a_custom_loss(dataset: Dataset) -> None:
    def label_as_loss(logits: Array, labels: Array) -> Array:
        return labels.astype(jnp.float32)

    metrics = make_eval_step(first_pixels, loss_fn=label_as_loss)({}, {}, Batch(dataset.images, dataset.labels))
    assert metrics.loss_sum == dataset.labels.sum()


def test_vmapped_eval_step_equals_one_call_per_model(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch
) -> None:
    eval_step = make_eval_step(make_predict(model))
    models = [jax.tree.map(lambda leaf, factor=factor: factor * leaf, variables) for factor in (1.0, 0.5, 2.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    mapped = jax.jit(jax.vmap(eval_step, in_axes=(0, 0, None)))(*stacked, batch)
    for i, variables_i in enumerate(models):
        single = jax.jit(eval_step)(*variables_i, batch)
        np.testing.assert_array_equal(mapped.confusion[i], single.confusion)
        np.testing.assert_allclose(mapped.loss_sum[i], single.loss_sum, rtol=1e-4)


def test_mirrored_predict_averages_the_logits_of_both_orientations(
    model: Model, variables: tuple[Params, BatchStats], dataset: Dataset
) -> None:
    predict = jax.jit(make_predict(model))
    mirrored_predict = make_mirrored_predict(predict)
    actual = mirrored_predict(*variables, dataset.images)
    mirrored = np.ascontiguousarray(dataset.images[:, :, ::-1])
    expected = (np.asarray(predict(*variables, dataset.images)) + np.asarray(predict(*variables, mirrored))) / 2
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    np.testing.assert_allclose(mirrored_predict(*variables, mirrored), actual, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.jit(mirrored_predict)(*variables, dataset.images), actual, rtol=1e-4, atol=1e-5)


def test_predict_does_not_rescale_floats_and_rejects_other_dtypes(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch
) -> None:
    predict = jax.jit(make_predict(model))
    scaled = np.asarray(batch.images, np.float32) / 255
    np.testing.assert_allclose(predict(*variables, scaled), predict(*variables, batch.images), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="images are int32: expected uint8"):
        predict(*variables, np.asarray(batch.images, np.int32))


def test_custom_metrics_are_summed_over_batches(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch
) -> None:
    def metrics_fn(logits: Array, labels: Array, losses: Array) -> dict[str, Array]:
        return {"count": jnp.int32(len(labels)), "loss": losses.sum()}

    step = jax.jit(make_eval_step(make_predict(model), metrics_fn=metrics_fn))
    once, twice = (evaluate_batches(step, *variables, [batch] * times) for times in (1, 2))
    assert (int(once["count"]), int(twice["count"])) == (8, 16)
    np.testing.assert_allclose(twice["loss"], 2 * once["loss"], rtol=1e-6)


@pytest.mark.parametrize("batch_size", [3, 8, 20])
def test_make_evaluate_equals_evaluating_batch_by_batch(
    model: Model, variables: tuple[Params, BatchStats], dataset: Dataset, batch_size: int
) -> None:
    eval_step = make_eval_step(make_predict(model))
    actual = jax.jit(make_evaluate(eval_step))(*variables, stacked_batches(dataset, batch_size))
    expected = evaluate_batches(jax.jit(eval_step), *variables, padded_batches(dataset, batch_size))
    np.testing.assert_array_equal(actual.confusion, expected.confusion)
    np.testing.assert_allclose(actual.loss_sum, expected.loss_sum, rtol=1e-5)
    assert actual.confusion.sum() == len(dataset)


def test_make_evaluate_of_a_vmapped_step_equals_each_model_alone(model: Model, dataset: Dataset) -> None:
    eval_step = make_eval_step(make_predict(model))
    variables = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(3), 2))
    actual = jax.jit(make_evaluate(jax.vmap(eval_step, in_axes=(0, 0, None))))(*variables, stacked_batches(dataset, 8))
    evaluate_one = jax.jit(eval_step)
    for index in range(2):
        params, batch_stats = jax.tree.map(lambda leaf, index=index: leaf[index], variables)
        expected = evaluate_batches(evaluate_one, params, batch_stats, padded_batches(dataset, 8))
        np.testing.assert_array_equal(actual.confusion[index], expected.confusion)
        np.testing.assert_allclose(actual.loss_sum[index], expected.loss_sum, rtol=1e-4)
    assert (actual.confusion[0] != actual.confusion[1]).any()


def test_make_evaluate_runs_on_shards_of_models_and_of_rows(model: Model, dataset: Dataset) -> None:
    eval_step, batches = make_eval_step(make_predict(model)), stacked_batches(dataset, 8)
    by_model, replicated, by_row = (PartitionSpec(*axes) for axes in (("data",), (), (None, "data")))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    variables = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(3), 2))
    evaluate_models = make_evaluate(jax.vmap(eval_step, in_axes=(0, 0, None)))
    expected = jax.jit(evaluate_models)(*variables, batches)
    actual = jax.jit(
        jax.shard_map(evaluate_models, mesh=mesh, in_specs=(by_model, by_model, replicated), out_specs=by_model)
    )(*variables, batches)
    np.testing.assert_array_equal(actual.confusion, expected.confusion)

    def evaluate_rows(*operands: Any) -> Any:
        return jax.tree.map(lambda sums: sums[None], make_evaluate(eval_step)(*operands))

    single = jax.tree.map(lambda leaf: leaf[0], variables)
    partial_sums = jax.jit(
        jax.shard_map(evaluate_rows, mesh=mesh, in_specs=(replicated, replicated, by_row), out_specs=by_model)
    )(*single, batches)
    np.testing.assert_array_equal(partial_sums.confusion.sum(0), expected.confusion[0])


def test_probabilities_are_the_softmax_of_the_logits(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch
) -> None:
    predict = make_predict(model)
    logits, probabilities = (jax.jit(fn)(*variables, batch.images) for fn in (predict, make_probabilities(predict)))
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
