"""Losses, targets and metrics that the package does not provide."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

import fmnist_jax as fj


@pytest.fixture(scope="module")
def small_model() -> fj.Model:
    return fj.make_model(fj.ModelConfig(family="plain", widths=(4, 4), depths=(1, 1)))


class Targets(NamedTuple):
    hard: Any
    teacher: Any


def test_student_learns_from_labels_and_a_teacher(small_model: fj.Model, batch: fj.Batch, key: Array) -> None:
    teacher = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
    distillation_batch = fj.Batch(batch.images, Targets(batch.labels, teacher))

    def loss_fn(logits: Array, targets: Targets) -> Array:
        teacher_loss = optax.softmax_cross_entropy(logits, jax.nn.softmax(targets.teacher))
        return 0.5 * fj.cross_entropy(logits, targets.hard) + 0.5 * teacher_loss

    def metrics_fn(logits: Array, targets: Targets, losses: Array) -> dict[str, Array]:
        matches = logits.argmax(-1) == targets.teacher.argmax(-1)
        return {"agreed": matches.sum(), **fj.batch_metrics(logits, targets.hard, losses)._asdict()}

    optimizer = optax.adam(0.02)
    step = fj.make_train_step(small_model, optimizer, loss_fn=loss_fn, metrics_fn=metrics_fn)
    chunk = jax.jit(fj.make_train_chunk(step, batch_size=8, max_steps=8))
    state, rows = chunk(
        fj.init_state(small_model, optimizer, key), jax.tree.map(jnp.asarray, distillation_batch), jnp.int32(8)
    )
    assert rows["loss_sum"][-1] < rows["loss_sum"][0]
    assert rows["agreed"].shape == (8,)

    evaluate = fj.make_eval_step(fj.make_predict(small_model), loss_fn=loss_fn, metrics_fn=metrics_fn)
    totals = fj.evaluate_batches(evaluate, state.params, state.batch_stats, [distillation_batch, distillation_batch])
    assert totals["confusion"].sum() == 16


def test_l2_penalty_is_added_to_an_objective(small_model: fj.Model, batch: fj.Batch, key: Array) -> None:
    base_objective, optimizer = fj.make_objective(small_model), optax.sgd(0.1)

    def objective(params: Any, state: fj.TrainState, batch: fj.Batch) -> tuple[Array, fj.Aux]:
        loss, aux = base_objective(params, state, batch)
        return loss + 0.5 * optax.tree.norm(params, squared=True), aux

    state = fj.init_state(small_model, optimizer, key)
    unpenalised, _ = jax.jit(fj.make_descent(base_objective, optimizer))(state, batch)
    penalised, metrics = jax.jit(fj.make_descent(objective, optimizer))(state, batch)
    assert metrics.confusion.sum() == 8
    jax.tree.map(
        lambda before, a, b: np.testing.assert_allclose(b, a - 0.1 * before, atol=1e-5),
        *(state.params, unpenalised.params, penalised.params),
    )


def test_hessian_vector_product_by_grad_of_grad_is_symmetric(
    small_model: fj.Model, batch: fj.Batch, key: Array
) -> None:
    objective, state = fj.make_objective(small_model), fj.init_state(small_model, optax.sgd(0.1), key)

    @jax.jit
    def hessian_product(direction: Any) -> Any:
        gradient = jax.grad(lambda params: objective(params, state, batch)[0])
        return jax.grad(lambda params: optax.tree.vdot(gradient(params), direction))(state.params)

    left, right = jax.tree.map(jnp.cos, state.params), jax.tree.map(jnp.sign, state.params)
    np.testing.assert_allclose(
        optax.tree.vdot(left, hessian_product(right)), optax.tree.vdot(right, hessian_product(left)), rtol=2e-2
    )


def test_custom_optimizer_receives_its_extra_args(small_model: fj.Model, batch: fj.Batch, key: Array) -> None:
    def update(grads: Any, state: Any, params: Any = None, *, loss: Array) -> Any:
        return jax.tree.map(lambda leaf: -0.01 * loss * leaf, grads), state

    optimizer = optax.GradientTransformation(lambda _: (), update)
    step = fj.make_descent(fj.make_objective(small_model), optimizer, extra_args=lambda slope: {"loss": slope.value})
    start = fj.init_state(small_model, optimizer, key)
    state, metrics = jax.jit(step)(start, batch)
    assert int(state.step) == 1
    assert metrics.confusion.sum() == 8
    value_and_grad = jax.jit(jax.value_and_grad(fj.make_objective(small_model), has_aux=True))
    (loss, _), gradient = value_and_grad(start.params, start, batch)
    jax.tree.map(
        lambda before, slope, after: np.testing.assert_allclose(after, before - 0.01 * loss * slope, atol=1e-6),
        *(start.params, gradient, state.params),
    )
