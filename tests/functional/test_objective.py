"""The mean loss of a batch: against NumPy with a linear model, and its randomness, targets and metrics."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

from fmnist_jax import Batch, Metrics, Model, ModelConfig, TrainState, init_state, make_model, make_objective, on_floats
from fmnist_jax.functional.interface import BatchStats, Params


def linear_apply(
    params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
) -> tuple[Array, BatchStats]:
    return images.reshape(len(images), -1) @ params["kernel"], {"calls": batch_stats["calls"] + 1}


LINEAR = Model(lambda key: ({"kernel": jax.random.normal(key, (784, 10)) / 28}, {"calls": jnp.zeros(())}), linear_apply)


@pytest.fixture
def state(key: Array) -> TrainState:
    return init_state(LINEAR, optax.identity(), key)


def test_objective_returns_the_mean_loss_and_aux_with_batch_stats_and_metrics(state: TrainState, batch: Batch) -> None:
    loss, aux = make_objective(LINEAR)(state.params, state, batch)
    logits = batch.images.reshape(8, -1) / 255 @ np.asarray(state.params["kernel"], np.float64)
    expected = np.log(np.exp(logits).sum(-1)) - logits[np.arange(8), batch.labels]
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    assert loss.shape == ()
    assert isinstance(aux.metrics, Metrics)
    np.testing.assert_allclose(aux.metrics.loss_sum, expected.sum(), rtol=1e-5)
    assert float(aux.batch_stats["calls"]) == 1


def test_objective_uses_the_given_params_and_not_those_of_the_state(state: TrainState, batch: Batch) -> None:
    objective = make_objective(LINEAR)
    other = {"kernel": state.params["kernel"] * 2}
    loss, _ = objective(other, state, batch)
    assert loss == objective(other, replace(state, params=other), batch)[0] != objective(state.params, state, batch)[0]


def test_objective_draws_the_same_at_the_same_step_and_differently_at_another(batch: Batch, key: Array) -> None:
    model = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.5))
    state = init_state(model, optax.identity(), key)
    objective = jax.jit(make_objective(model))
    first, again, later = (
        float(objective(state.params, replace(state, step=jnp.int32(step)), batch)[0]) for step in (0, 0, 1)
    )
    assert first == again != later


def test_mix_key_is_the_third_key_of_the_step(state: TrainState, batch: Batch) -> None:
    seen: list[Array] = []

    def mix(key: Array, images: Array, labels: Any) -> tuple[Array, Any]:
        seen.append(key)
        return images, labels

    make_objective(LINEAR, mix=mix)(state.params, replace(state, step=jnp.int32(5)), batch)
    expected = jax.random.split(jax.random.fold_in(state.key, 5), 3)[2]
    np.testing.assert_array_equal(jax.random.key_data(seen[0]), jax.random.key_data(expected))


def test_targets_and_metrics_can_be_any_pytrees(state: TrainState, batch: Batch) -> None:
    seen: list[Any] = []

    def mix(key: Array, images: Array, labels: Any) -> tuple[Array, Any]:
        return images, {"first": labels["hard"], "second": (labels["soft"], labels["hard"][::-1])}

    def loss_fn(logits: Array, targets: Any) -> Array:
        seen.append(targets)
        return (logits - targets["second"][0]).sum(-1)

    soft = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
    objective = make_objective(
        LINEAR, loss_fn=loss_fn, mix=mix, metrics_fn=lambda _, targets, losses: [losses.sum(), targets["first"][0]]
    )
    loss, aux = objective(state.params, state, Batch(batch.images, {"hard": batch.labels, "soft": soft}))
    np.testing.assert_array_equal(seen[0]["second"][1], batch.labels[::-1])
    np.testing.assert_allclose(aux.metrics[0], 8 * loss, rtol=1e-6)
    assert int(aux.metrics[1]) == batch.labels[0]


def test_metrics_are_not_differentiated(state: TrainState, batch: Batch) -> None:
    @jax.custom_jvp
    def opaque(losses: Array) -> Array:
        return losses.sum()

    @opaque.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        raise NotImplementedError("metrics have been differentiated")

    objective = make_objective(LINEAR, metrics_fn=lambda *sums: opaque(sums[2]))
    grads, aux = jax.grad(objective, has_aux=True)(state.params, state, batch)
    assert grads["kernel"].any()
    assert aux.metrics > 0


def test_augmentation_turning_uint8_into_floats_is_rejected_unless_wrapped(state: TrainState, batch: Batch) -> None:
    def darken(key: Array, images: Array) -> Array:
        return images * jnp.float32(0.5)

    with pytest.raises(ValueError, match=r"augment turned uint8 into float32.*fmnist_jax\.on_floats"):
        make_objective(LINEAR, augment=darken)(state.params, state, batch)
    floats = Batch(jnp.asarray(batch.images, jnp.float32) / 255, batch.labels)
    darkened = Batch(floats.images * 0.5, batch.labels)
    expected = make_objective(LINEAR)(state.params, state, darkened)[0]
    np.testing.assert_allclose(
        make_objective(LINEAR, augment=darken)(state.params, state, floats)[0], expected, rtol=1e-6
    )
    wrapped = make_objective(LINEAR, augment=on_floats(darken))
    np.testing.assert_allclose(wrapped(state.params, state, floats)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(wrapped(state.params, state, batch)[0], expected, rtol=1e-2)  # rounded to uint8
