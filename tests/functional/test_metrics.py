import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from jax import Array
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from fmnist_jax import Metrics, batch_metrics, cross_entropy, make_cross_entropy, one_hot, summarize, summarize_members
from fmnist_jax.functional.labels import PADDING_LABEL
from fmnist_jax.functional.metrics import LossFn, add, total

CLASSES = np.arange(10)
BATCH = 16

# One batch size, because each is compiled; padding shrinks it to any number of examples.
LABELS = st.lists(st.integers(PADDING_LABEL, 9), min_size=BATCH, max_size=BATCH)


def draw_logits(seed: int, count: int = BATCH) -> np.ndarray:
    return 3 * np.random.default_rng(seed).normal(size=(count, 10)).astype(np.float32)


@partial(jax.jit, static_argnums=2)
def compiled_metrics(logits: Array, labels: Array, loss_fn: LossFn) -> Metrics:
    return batch_metrics(logits, labels, loss_fn(logits, labels))


def measure(logits: np.ndarray, labels: np.ndarray | list[int], loss_fn: LossFn = cross_entropy) -> Metrics:
    return compiled_metrics(jnp.asarray(logits), jnp.asarray(labels, jnp.int32), loss_fn)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits64 = logits.astype(np.float64)
    return logits64 - np.log(np.exp(logits64).sum(-1, keepdims=True))


@given(st.integers(0, 1000), LABELS)
def test_summary_equals_scikit_learn_over_the_rows_without_padding(seed: int, labels: list[int]) -> None:
    logits, kept = draw_logits(seed), np.array(labels) != PADDING_LABEL
    true, predicted, probabilities = np.array(labels)[kept], logits[kept].argmax(-1), np.exp(log_softmax(logits[kept]))
    metrics = measure(logits, labels)
    loss, accuracy, examples = summarize(metrics)
    assert examples == kept.sum()
    if examples:
        np.testing.assert_array_equal(metrics.confusion, confusion_matrix(true, predicted, labels=CLASSES))
        assert accuracy == accuracy_score(true, predicted)
        assert loss == pytest.approx(log_loss(true, probabilities, labels=CLASSES), rel=1e-5)


@given(st.integers(0, 1000), LABELS, st.lists(st.booleans(), min_size=BATCH, max_size=BATCH))
def test_metrics_of_two_parts_add_up_to_those_of_the_full_batch(
    seed: int, labels: list[int], in_first_part: list[bool]
) -> None:
    logits, all_labels, mask = draw_logits(seed), np.array(labels), np.array(in_first_part)
    parts = [measure(logits, np.where(part, all_labels, PADDING_LABEL)) for part in (mask, ~mask)]
    actual, expected = add(*parts), measure(logits, all_labels)
    np.testing.assert_array_equal(actual.confusion, expected.confusion)
    np.testing.assert_allclose(actual.loss_sum, expected.loss_sum, rtol=1e-5, atol=1e-5)


def test_total_adds_batches_of_different_sizes() -> None:
    logits, labels = draw_logits(0, 13), np.arange(13) % 10
    slices = [slice(0, 1), slice(1, 8), slice(8, 13)]
    actual, expected = total(measure(logits[rows], labels[rows]) for rows in slices), measure(logits, labels)
    np.testing.assert_array_equal(actual.confusion, expected.confusion)
    np.testing.assert_allclose(actual.loss_sum, expected.loss_sum, rtol=1e-5)
    assert actual.confusion.dtype == jnp.int32
    assert total([actual]) is actual


def test_confusion_has_true_classes_as_rows_and_predictions_as_columns() -> None:
    logits = np.zeros((3, 10), np.float32)
    logits[[0, 1, 2], [7, 7, 1]] = 1
    confusion = np.asarray(measure(logits, [2, 2, 1]).confusion)
    assert [confusion[2, 7], confusion[1, 1], confusion.sum()] == [2, 1, 3]


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.9])
def test_smoothed_cross_entropy_equals_its_definition(amount: float) -> None:
    logits, labels = draw_logits(0), np.arange(BATCH) % 10
    targets = (1 - amount) * np.eye(10)[labels] + amount / 10
    actual = make_cross_entropy(amount)(jnp.asarray(logits), jnp.asarray(labels))
    assert actual.shape == (BATCH,)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, -(targets * log_softmax(logits)).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_padding_is_ignored_even_with_nan_or_huge_logits(amount: float) -> None:
    logits, labels = draw_logits(0), np.arange(BATCH) % 10
    loss_fn = make_cross_entropy(amount)
    padded = np.concatenate([logits, np.full((3, 10), np.nan, np.float32), np.full((2, 10), 1e30, np.float32)])
    actual, expected = measure(padded, [*labels, *[PADDING_LABEL] * 5], loss_fn), measure(logits, labels, loss_fn)
    np.testing.assert_array_equal(actual.confusion, expected.confusion)
    np.testing.assert_allclose(actual.loss_sum, expected.loss_sum, rtol=1e-6)


def test_padding_is_excluded_when_the_loss_ignores_labels() -> None:
    def ones(logits: Array, labels: Array) -> Array:
        return jnp.ones(labels.shape)

    assert measure(draw_logits(0), [1] * 5 + [PADDING_LABEL] * 11, ones).loss_sum == 5


def test_padding_has_zero_gradient() -> None:
    labels = jnp.array([3, PADDING_LABEL])
    gradient = jax.grad(lambda logits: make_cross_entropy(0.1)(logits, labels).sum())(jnp.asarray(draw_logits(0, 2)))
    assert np.all(np.asarray(gradient[0]) != 0)
    np.testing.assert_array_equal(gradient[1], np.zeros(10))


def test_loss_is_finite_for_extreme_logits_and_nan_for_nan_logits() -> None:
    logits = np.zeros((3, 10), np.float32)
    logits[:, 4] = 1e4
    np.testing.assert_allclose(cross_entropy(jnp.asarray(logits), jnp.array([4, 0, 9])), [0, 1e4, 1e4])
    logits[1, 1] = np.nan
    assert np.isnan(summarize(measure(logits, [4, 0, 9])).loss)


def test_equal_logits_have_a_loss_of_log_ten() -> None:
    loss, accuracy, examples = summarize(measure(np.zeros((4, 10), np.float32), [0, 0, 5, 9]))
    assert (accuracy, examples) == (0.5, 4)
    assert loss == pytest.approx(np.log(10))


@pytest.mark.parametrize("count", [0, 4])
def test_summary_without_examples_is_nan(count: int) -> None:
    metrics = measure(draw_logits(0, count), [PADDING_LABEL] * count)
    assert (float(metrics.loss_sum), int(metrics.confusion.sum())) == (0, 0)
    loss, accuracy, examples = summarize(metrics)
    assert np.isnan(loss)
    assert np.isnan(accuracy)
    assert examples == 0


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_soft_label_loss_equals_scikit_learn_with_class_weights(amount: float) -> None:
    logits = draw_logits(0)
    weights = np.random.default_rng(1).dirichlet(np.full(10, 0.3), BATCH).astype(np.float32)
    actual = make_cross_entropy(amount)(jnp.asarray(logits), jnp.asarray(weights))
    # scikit-learn supports only hard labels, so each image is repeated ten times, once for each class.
    targets = (1 - amount) * weights + amount / 10
    probabilities = np.repeat(np.exp(log_softmax(logits)), 10, axis=0)
    expected = log_loss(np.tile(CLASSES, BATCH), probabilities, sample_weight=targets.ravel(), labels=CLASSES)
    assert actual.shape == (BATCH,)
    assert actual.dtype == jnp.float32
    assert float(actual.mean()) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(actual, -(targets * log_softmax(logits)).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_one_hot_weights_and_labels_give_equal_metrics_including_padding(amount: float) -> None:
    logits, labels = draw_logits(3), np.array([*range(10), *[PADDING_LABEL] * 6])
    loss_fn = make_cross_entropy(amount)
    hard, soft = (
        batch_metrics(jnp.asarray(logits), targets, loss_fn(jnp.asarray(logits), targets))
        for targets in (jnp.asarray(labels), one_hot(jnp.asarray(labels)))
    )
    jax.tree.map(np.testing.assert_array_equal, hard, soft)
    assert int(np.sum(soft.confusion)) == 10


def test_confusion_counts_a_soft_label_as_its_argmax_class() -> None:
    logits = draw_logits(4)
    weights = np.random.default_rng(2).dirichlet(np.ones(10), BATCH).astype(np.float32)
    actual = batch_metrics(jnp.asarray(logits), jnp.asarray(weights), jnp.ones(BATCH))
    expected = confusion_matrix(weights.argmax(-1), logits.argmax(-1), labels=CLASSES)
    np.testing.assert_array_equal(actual.confusion, expected)
    assert actual.loss_sum == BATCH


LOGITS = jnp.zeros((10, 10))


@pytest.mark.parametrize(
    ("labels", "spec"),
    [
        (jnp.eye(10, dtype=jnp.int32), "int32[10, 10]"),
        (jnp.zeros((10, 1), jnp.int32), "int32[10, 1]"),
        (jnp.zeros((10, 1)), "float32[10, 1]"),
        (jnp.zeros((10,)), "float32[10]"),
        (jnp.zeros((9,), jnp.int32), "int32[9]"),
        (jnp.zeros((), jnp.int32), "int32[]"),
        (jnp.zeros((10, 9)), "float32[10, 9]"),
        (jnp.zeros((10,), jnp.bool_), "bool[10]"),
    ],
)
def test_labels_of_wrong_shape_or_dtype_are_rejected_while_tracing(labels: Array, spec: str) -> None:
    message = re.escape(f"labels are {spec}: expected integers [10] or floating weights [10, 10]; convert one-hot")
    for function in (cross_entropy, make_cross_entropy(0.1), lambda z, labels: batch_metrics(z, labels, z[:, 0])):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(function, LOGITS, labels)


def test_labels_that_are_not_an_array_are_rejected_with_a_hint() -> None:
    for function in (cross_entropy, lambda z, labels: batch_metrics(z, labels, z[:, 0])):
        with pytest.raises(ValueError, match=r"labels are a dict: expected an array; for other labels, pass your"):
            function(LOGITS, {"hard": jnp.arange(10)})  # type: ignore[arg-type]


def test_unsigned_labels_are_accepted() -> None:
    labels = jnp.arange(10, dtype=jnp.uint8)
    np.testing.assert_array_equal(cross_entropy(LOGITS, labels), cross_entropy(LOGITS, labels.astype(jnp.int32)))


@pytest.mark.parametrize("label", [10, -2, 255])
def test_concrete_labels_out_of_range_are_rejected(label: int) -> None:
    labels = np.where(np.arange(10) == 4, label, PADDING_LABEL)
    with pytest.raises(ValueError, match=rf"a label is {label}: expected 0\.\.9, or -1 for padding"):
        jax.jit(lambda z: cross_entropy(z, labels))(LOGITS)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", [10, -2, 255])
@pytest.mark.parametrize("loss_fn", [cross_entropy, make_cross_entropy(0.1)], ids=["plain", "smoothed"])
def test_traced_label_out_of_range_gives_a_nan_loss_and_is_not_padding(label: int, loss_fn: LossFn) -> None:
    labels = jnp.where(jnp.arange(10) == 4, label, jnp.arange(10)).at[5].set(PADDING_LABEL)
    losses = jax.jit(loss_fn)(LOGITS, labels)
    np.testing.assert_array_equal(np.isnan(losses), np.arange(10) == 4)
    metrics = jax.jit(batch_metrics)(LOGITS, labels, losses)
    assert np.isnan(metrics.loss_sum)
    np.testing.assert_array_equal(metrics.confusion.sum(1), [*[1] * 4, 0, 0, *[1] * 4])


@pytest.mark.parametrize("shape", [(10, 1), (1,), (10, 10)])
def test_losses_without_one_value_per_example_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"losses have shape {list(shape)}: expected [10], one per example")):
        batch_metrics(LOGITS, jnp.arange(10), jnp.zeros(shape))


def test_summaries_reject_metrics_with_extra_axes_with_a_hint() -> None:
    steps = Metrics(np.zeros(3, np.float32), np.zeros((3, 4, 4), np.int32))
    with pytest.raises(ValueError, match=r"has shape \[3, 4, 4\]: expected two axes; sum over the first, or use"):
        summarize(steps)
    assert len(summarize_members(steps)) == 3
    members = Metrics(np.zeros((2, 3), np.float32), np.zeros((2, 3, 4, 4), np.int32))
    with pytest.raises(ValueError, match=r"have shape \[2, 3, 4, 4\]: expected two or three axes; sum over the"):
        summarize_members(members)


def test_logit_of_minus_infinity_adds_no_loss_unless_it_is_the_label() -> None:
    logits = jnp.array([[-jnp.inf, 0.0, 0.0], [-jnp.inf, 0.0, 0.0], [0.0, 1.0, 2.0]])
    labels = jnp.array([1, 0, 2])
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=1e-6)
    gradient = jax.grad(lambda logits: cross_entropy(logits, labels)[0])(logits)
    np.testing.assert_allclose(gradient[0], [0.0, -0.5, 0.5], atol=1e-7)


def test_gradient_in_soft_labels_is_minus_log_softmax_even_at_zero_weights() -> None:
    logits, weights = jnp.array([[0.0, 1.0, 2.0]]), jnp.array([[0.0, 0.0, 1.0]])
    gradient = jax.grad(lambda weights: cross_entropy(logits, weights).sum())(weights)
    np.testing.assert_allclose(gradient, -jax.nn.log_softmax(logits), rtol=1e-6)


def test_loss_of_bfloat16_logits_is_computed_in_float32() -> None:
    logits = jax.random.normal(jax.random.key(0), (64, 10), jnp.bfloat16) * 4
    labels = jnp.arange(64) % 10
    expected = -log_softmax(np.asarray(logits, np.float64))[np.arange(64), labels]
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=1e-5, atol=1e-6)
