"""Losses, targets and metrics that the package did not think of."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

import fmnist_jax as fj


@pytest.fixture(scope="module")
def small() -> fj.Model:
    return fj.make_model(fj.ModelConfig(family="plain", widths=(4, 4), depths=(1, 1)))


class Targets(NamedTuple):
    hard: Any
    teacher: Any


def test_a_student_learns_from_labels_and_from_a_teacher(small: fj.Model, batch: fj.Batch, key: Array) -> None:
    teacher = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
    taught = fj.Batch(batch.images, Targets(batch.labels, teacher))

    def loss_fn(logits: Array, targets: Targets) -> Array:
        soft = optax.softmax_cross_entropy(logits, jax.nn.softmax(targets.teacher))
        return 0.5 * fj.cross_entropy(logits, targets.hard) + 0.5 * soft

    def metrics_fn(logits: Array, targets: Targets, losses: Array) -> dict[str, Array]:
        agreed = logits.argmax(-1) == targets.teacher.argmax(-1)
        return {"agreed": agreed.sum(), **fj.batch_metrics(logits, targets.hard, losses)._asdict()}

    optimizer = optax.adam(0.02)
    step = fj.make_train_step(small, optimizer, loss_fn=loss_fn, metrics_fn=metrics_fn)
    chunk = jax.jit(fj.make_train_chunk(step, batch_size=8, max_steps=8))
    state, rows = chunk(fj.init_state(small, optimizer, key), jax.tree.map(jnp.asarray, taught), jnp.int32(8))
    assert rows["loss_sum"][-1] < rows["loss_sum"][0]
    assert rows["agreed"].shape == (8,)

    evaluate = fj.make_eval_step(fj.make_predict(small), loss_fn=loss_fn, metrics_fn=metrics_fn)
    twice = fj.evaluate_batches(evaluate, state.params, state.batch_stats, [taught, taught])
    assert twice["confusion"].sum() == 16


def test_a_penalty_is_added_to_an_objective(small: fj.Model, batch: fj.Batch, key: Array) -> None:
    fit, optimizer = fj.make_objective(small), optax.sgd(0.1)

    def objective(params: Any, state: fj.TrainState, batch: fj.Batch) -> tuple[Array, fj.Aux]:
        loss, aux = fit(params, state, batch)
        return loss + 0.5 * optax.tree.norm(params, squared=True), aux

    state = fj.init_state(small, optimizer, key)
    plain, _ = jax.jit(fj.make_descent(fit, optimizer))(state, batch)
    shrunk, metrics = jax.jit(fj.make_descent(objective, optimizer))(state, batch)
    assert metrics.confusion.sum() == 8
    jax.tree.map(
        lambda before, a, b: np.testing.assert_allclose(b, a - 0.1 * before, atol=1e-5),
        *(state.params, plain.params, shrunk.params),
    )


def test_a_hessian_vector_product_is_a_gradient_of_a_gradient(small: fj.Model, batch: fj.Batch, key: Array) -> None:
    objective, state = fj.make_objective(small), fj.init_state(small, optax.sgd(0.1), key)

    @jax.jit
    def curvature(direction: Any) -> Any:
        slope = jax.grad(lambda params: objective(params, state, batch)[0])
        return jax.grad(lambda params: optax.tree.vdot(slope(params), direction))(state.params)

    left, right = jax.tree.map(jnp.cos, state.params), jax.tree.map(jnp.sign, state.params)
    np.testing.assert_allclose(
        optax.tree.vdot(left, curvature(right)), optax.tree.vdot(right, curvature(left)), rtol=2e-2
    )


def test_an_optimizer_of_ones_own_names_its_arguments(small: fj.Model, batch: fj.Batch, key: Array) -> None:
    def update(grads: Any, state: Any, params: Any = None, *, loss: Array) -> Any:
        return jax.tree.map(lambda leaf: -0.01 * loss * leaf, grads), state

    optimizer = optax.GradientTransformation(lambda _: (), update)
    step = fj.make_descent(fj.make_objective(small), optimizer, extra_args=lambda slope: {"loss": slope.value})
    state, metrics = jax.jit(step)(fj.init_state(small, optimizer, key), batch)
    assert int(state.step) == 1
    assert metrics.confusion.sum() == 8
