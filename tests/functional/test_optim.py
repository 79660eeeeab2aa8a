from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array, lax

from fmnist_jax import ConfigError, Mask, OptimConfig, make_optimizer, make_schedule, orthogonalize
from tests.functional.oracles import orthogonalize_by_svd

Tree = dict[str, np.ndarray]


def rates(config: OptimConfig, total_steps: int) -> np.ndarray:
    """The learning rate at every step of a run, at its end, and one step past it."""
    return np.asarray(jax.jit(jax.vmap(make_schedule(config, total_steps)))(jnp.arange(total_steps + 2)))


def triangle(config: OptimConfig, warmup_steps: int, total_steps: int) -> np.ndarray:
    final = config.peak_lr * config.final_lr
    return np.interp(np.arange(total_steps + 2), [0, warmup_steps, total_steps], [0, config.peak_lr, final])


def half_cosine(config: OptimConfig, warmup_steps: int, total_steps: int) -> np.ndarray:
    steps, final = np.arange(total_steps + 2), config.peak_lr * config.final_lr
    progress = np.clip((steps - warmup_steps) / (total_steps - warmup_steps), 0, 1)
    falling = final + (config.peak_lr - final) * (1 + np.cos(np.pi * progress)) / 2
    rising = config.peak_lr * steps / max(warmup_steps, 1)
    return np.where(steps < warmup_steps, rising, falling)


FORMULAS: dict[Literal["one_cycle", "cosine"], Callable[[OptimConfig, int, int], np.ndarray]] = {
    "one_cycle": triangle,
    "cosine": half_cosine,
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("warmup", "final", "total", "peak_step"), [(0.2, 0.0, 10, 2), (0.3, 0.1, 37, 11)])
def test_schedules_with_warmup_equal_their_formula_at_every_step(
    name: Literal["one_cycle", "cosine"], warmup: float, final: float, total: int, peak_step: int
) -> None:
    config = OptimConfig(schedule=name, peak_lr=0.4, warmup=warmup, final_lr=final)
    actual = rates(config, total)
    np.testing.assert_allclose(actual, FORMULAS[name](config, peak_step, total), rtol=1e-5, atol=1e-7)
    assert actual[0] == 0
    assert np.argmax(actual) == peak_step
    np.testing.assert_allclose(actual[[peak_step, total, total + 1]], [0.4, 0.4 * final, 0.4 * final], rtol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("total", [1, 2, 10])
def test_schedules_without_warmup_start_at_the_peak(name: Literal["one_cycle", "cosine"], total: int) -> None:
    actual = rates(OptimConfig(schedule=name, peak_lr=0.4, warmup=0.0, final_lr=0.1), total)
    np.testing.assert_allclose(actual[[0, total, total + 1]], [0.4, 0.04, 0.04], rtol=1e-6)
    assert np.all(np.diff(actual[: total + 1]) < 0)


@pytest.mark.parametrize("name", FORMULAS)
def test_warmup_over_the_whole_run_ends_at_the_peak(name: Literal["one_cycle", "cosine"]) -> None:
    actual = rates(OptimConfig(schedule=name, peak_lr=0.4, warmup=1.0), 10)
    np.testing.assert_allclose(actual[:11], np.linspace(0, 0.4, 11), rtol=1e-6)


def test_constant_schedule_is_the_peak_everywhere() -> None:
    np.testing.assert_array_equal(rates(OptimConfig(schedule="constant", peak_lr=0.5), 4), np.full(6, 0.5))


def test_step_schedule_drops_tenfold_at_half_and_three_quarters() -> None:
    actual = rates(OptimConfig(schedule="step", peak_lr=0.4), 12)
    np.testing.assert_allclose(actual, [0.4] * 6 + [0.04] * 3 + [0.004] * 5, rtol=1e-6)


@pytest.mark.parametrize("total", [1, 2, 3, 5, 6, 7])
def test_no_step_before_half_or_three_quarters_has_the_rate_of_a_later_one(total: int) -> None:
    progress = np.arange(total + 2) / total
    expected = np.select([progress < 0.5, progress < 0.75], [0.4, 0.04], 0.004)
    np.testing.assert_allclose(rates(OptimConfig(schedule="step", peak_lr=0.4), total), expected, rtol=1e-6)


def draw(seed: int) -> Tree:
    rng = np.random.default_rng(seed)
    shapes = {"conv": (3, 3, 2, 4), "dense": (5, 4), "bias": (4,), "scale": (4,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def trajectory(config: OptimConfig, gradients: list[Tree], schedule: optax.Schedule) -> list[Tree]:
    """The parameters after each step from `draw(0)`."""
    optimizer = make_optimizer(config, schedule)
    params: Any = draw(0)
    state = optimizer.init(params)
    update, steps = jax.jit(optimizer.update), []
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(params)
    return steps


# Adam divides by 1 - 0.999**step, which float32 holds to about four digits at first; the learning rate is 0.05.
ADAM_ATOL = 1e-5

GRADIENTS = [draw(seed) for seed in range(1, 6)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_equals_a_nesterov_loop_with_decoupled_weight_decay(momentum: float) -> None:
    config = OptimConfig(name="sgd", schedule="one_cycle", peak_lr=0.4, momentum=momentum, weight_decay=0.1)
    params = {name: leaf.astype(np.float64) for name, leaf in draw(0).items()}
    velocity = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    learning_rates = np.interp(np.arange(5), [0, 1, 5], [0, 0.4, 0])
    path = trajectory(config, GRADIENTS, make_schedule(config, 5))
    for gradient, lr, actual in zip(GRADIENTS, learning_rates, path, strict=True):
        for name, leaf in params.items():
            velocity[name] = momentum * velocity[name] + gradient[name]
            direction = gradient[name] + momentum * velocity[name]
            decay = 0.1 if name in ("conv", "dense") else 0.0
            params[name] = leaf - lr * (direction + decay * leaf)
            np.testing.assert_allclose(actual[name], params[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_equals_a_loop_and_only_adamw_decays_weights(name: Literal["adam", "adamw"]) -> None:
    config = OptimConfig(name=name, momentum=0.8, weight_decay=0.1)
    params = {leaf_name: leaf.astype(np.float64) for leaf_name, leaf in draw(0).items()}
    first, second = ({leaf_name: np.zeros_like(leaf) for leaf_name, leaf in params.items()} for _ in range(2))
    path = trajectory(config, GRADIENTS, optax.constant_schedule(0.05))
    for step, (gradient, actual) in enumerate(zip(GRADIENTS, path, strict=True), start=1):
        for leaf_name, leaf in params.items():
            first[leaf_name] = 0.8 * first[leaf_name] + 0.2 * gradient[leaf_name]
            second[leaf_name] = 0.999 * second[leaf_name] + 0.001 * gradient[leaf_name] ** 2
            direction = first[leaf_name] / (1 - 0.8**step) / (np.sqrt(second[leaf_name] / (1 - 0.999**step)) + 1e-8)
            decay = 0.1 if name == "adamw" and leaf_name in ("conv", "dense") else 0.0
            params[leaf_name] = leaf - 0.05 * (direction + decay * leaf)
            np.testing.assert_allclose(actual[leaf_name], params[leaf_name], rtol=1e-5, atol=ADAM_ATOL)


@pytest.mark.parametrize(("outputs", "steps"), [(4, 3), (64, 5)])
def test_muon_orthogonalizes_the_momentum_of_kernels_and_uses_adamw_for_the_rest(outputs: int, steps: int) -> None:
    config = OptimConfig(name="muon", peak_lr=0.2, rest_lr=0.02, momentum=0.8, weight_decay=0.1, ortho_steps=steps)
    rng = np.random.default_rng(0)

    def draw_tree() -> Tree:
        return {**draw(int(rng.integers(100))), "conv": rng.normal(size=(3, 3, 2, outputs)).astype(np.float32)}

    params, gradients = draw_tree(), [draw_tree() for _ in range(4)]
    optimizer, velocity = make_optimizer(config, optax.linear_schedule(0.2, 0.0, 4)), np.zeros((3, 3, 2, outputs))
    # AdamW, which updates the rest at a tenth of the schedule, is compared with a loop of its own above.
    adamw = make_optimizer(
        OptimConfig(name="adamw", momentum=0.8, weight_decay=0.1), optax.linear_schedule(0.02, 0.0, 4)
    )
    rest: Any = {name: leaf for name, leaf in params.items() if name != "conv"}
    state, rest_state, kernel = optimizer.init(params), adamw.init(rest), params["conv"].astype(np.float64)
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.8 * velocity + gradient["conv"]
        matrix = (gradient["conv"] + 0.8 * velocity).reshape(18, outputs)
        orthogonal = orthogonalize_by_svd(matrix, steps).reshape(kernel.shape) * max(1, outputs / 18) ** 0.5
        kernel -= 0.2 * (1 - step / 4) * (orthogonal + 0.1 * kernel)
        np.testing.assert_allclose(params["conv"], kernel, atol=1e-4)
        rest_updates, rest_state = adamw.update({name: gradient[name] for name in rest}, rest_state, rest)
        rest = optax.apply_updates(rest, rest_updates)
        for name, leaf in rest.items():
            np.testing.assert_allclose(params[name], leaf, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers_equal_those_of_pytorch(name: Literal["sgd", "adam", "adamw"]) -> None:
    torch = pytest.importorskip("torch", reason="an oracle that nothing else needs")
    decay = 0.1 if name == "adamw" else 0.0
    weights = {leaf_name: torch.tensor(leaf) for leaf_name, leaf in draw(0).items()}
    kernels, others = [weights["conv"], weights["dense"]], [weights["bias"], weights["scale"]]
    groups = [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    twin = {
        "sgd": lambda: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True),
        "adam": lambda: torch.optim.Adam(groups, lr=0.05),
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.05),
    }[name]()
    path = trajectory(OptimConfig(name=name, weight_decay=decay), GRADIENTS, optax.constant_schedule(0.05))
    for gradient, actual in zip(GRADIENTS, path, strict=True):
        for leaf_name, weight in weights.items():
            weight.grad = torch.tensor(gradient[leaf_name])
        twin.step()
        for leaf_name, weight in weights.items():
            np.testing.assert_allclose(actual[leaf_name], weight.numpy(), rtol=1e-5, atol=ADAM_ATOL)


@pytest.mark.parametrize(("name", "shrinks"), [("sgd", True), ("adamw", True), ("adam", False), ("muon", True)])
def test_weight_decay_shrinks_kernels_and_keeps_vectors_bit_for_bit(
    name: Literal["sgd", "adam", "adamw", "muon"], shrinks: bool
) -> None:
    zeros = {leaf_name: np.zeros_like(leaf) for leaf_name, leaf in draw(0).items()}
    config = OptimConfig(name=name, weight_decay=0.5, peak_lr=0.1, rest_lr=0.1)
    (actual,) = trajectory(config, [zeros], optax.constant_schedule(0.1))
    for leaf_name, leaf in draw(0).items():
        if shrinks and leaf.ndim > 1:
            np.testing.assert_allclose(actual[leaf_name], leaf * 0.95, rtol=1e-6)
        else:
            np.testing.assert_array_equal(actual[leaf_name], leaf)


@pytest.mark.parametrize(("clip_norm", "norm"), [(1.0, 1.0), (4.999, 4.999), (5.001, 5.0), (0.0, 5.0)])
def test_clipping_bounds_the_global_norm(clip_norm: float, norm: float) -> None:
    config = OptimConfig(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=clip_norm)
    optimizer = make_optimizer(config, optax.constant_schedule(1.0))
    gradient = {"kernel": jnp.array([[3.0, 0.0]]), "bias": jnp.array([4.0])}
    updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    actual = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(updates)])
    np.testing.assert_allclose(actual, -norm / 5 * np.array([4.0, 3.0, 0.0]), rtol=1e-6)


def test_clipping_applies_to_the_gradient_before_momentum_and_weight_decay() -> None:
    config = OptimConfig(name="sgd", momentum=0.9, weight_decay=0.1, clip_norm=1.0)
    large = [{name: 1000 * leaf for name, leaf in gradient.items()} for gradient in GRADIENTS[:2]]
    norms = [np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in gradient.values())) for gradient in large]
    scaled = [{name: leaf / np.float32(norm) for name, leaf in g.items()} for g, norm in zip(large, norms, strict=True)]
    clipped = trajectory(config, large, optax.constant_schedule(0.1))
    plain = trajectory(OptimConfig(name="sgd", momentum=0.9, weight_decay=0.1), scaled, optax.constant_schedule(0.1))
    for name in GRADIENTS[0]:
        np.testing.assert_allclose(clipped[1][name], plain[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_traced_warmup_gives_the_same_rates_as_a_static_one(name: Literal["one_cycle", "cosine"]) -> None:
    def static(warmup: float) -> np.ndarray:
        return rates(OptimConfig(schedule=name, peak_lr=0.4, warmup=warmup, final_lr=0.1), 10)

    def traced(warmup: Any) -> Any:
        schedule = make_schedule(OptimConfig(schedule=name, peak_lr=0.4, warmup=warmup, final_lr=0.1), 10)
        return jax.vmap(schedule)(jnp.arange(12))

    values = [0.0, 0.04, 0.2, 0.3, 1.0]
    actual = jax.jit(jax.vmap(traced))(jnp.array(values))
    for row, warmup in zip(actual, values, strict=True):
        np.testing.assert_allclose(row, static(warmup), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_traced_hyperparameters_give_the_same_updates_as_static_ones(name: Literal["sgd", "adamw", "muon"]) -> None:
    def updates(clip_norm: Any, weight_decay: Any, momentum: Any) -> Any:
        config = OptimConfig(name=name, clip_norm=clip_norm, weight_decay=weight_decay, momentum=momentum)
        optimizer = make_optimizer(config, optax.constant_schedule(0.1))
        params: Any = draw(0)
        return optimizer.update(GRADIENTS[0], optimizer.init(params), params)[0]

    traced = (jnp.array([1.0, 100.0]), jnp.array([0.0, 0.1]), jnp.array([0.9, 0.5]))
    actual = jax.jit(jax.vmap(updates))(*traced)
    for i, static in enumerate([(1.0, 0.0, 0.9), (100.0, 0.1, 0.5)]):
        for leaf_name, leaf in updates(*static).items():
            np.testing.assert_allclose(actual[leaf_name][i], leaf, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_training_from_zero_kernels_is_differentiable_in_the_learning_rate(
    name: Literal["sgd", "adam", "adamw", "muon"],
) -> None:
    """The last kernel of each residual block starts at zero, so the one before it has zero gradient at first."""

    def loss(params: Any, inputs: Array) -> Array:
        hidden = lax.conv(inputs, jnp.transpose(params["first"], (3, 2, 0, 1)), (1, 1), "SAME")
        return jnp.square(lax.conv(hidden, jnp.transpose(params["last"], (3, 2, 0, 1)), (1, 1), "SAME") - 1).mean()

    def final_loss(peak_lr: Any) -> Array:
        optimizer = make_optimizer(OptimConfig(name=name, peak_lr=peak_lr), lambda _: peak_lr)
        params: Any = {"first": jax.random.normal(jax.random.key(0), (3, 3, 1, 4)), "last": jnp.zeros((3, 3, 4, 2))}
        inputs = jax.random.normal(jax.random.key(1), (2, 1, 6, 6))

        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params, inputs), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = lax.scan(step, (params, optimizer.init(params)), length=3)
        return loss(params, inputs)

    actual = jax.jit(jax.jacfwd(final_loss))(0.01)
    expected = (jax.jit(final_loss)(0.0101) - jax.jit(final_loss)(0.0099)) / 2e-4
    assert float(actual) == pytest.approx(float(expected), rel=0.05)


def test_static_zero_omits_a_part_of_the_optimizer_and_array_zero_keeps_it() -> None:
    def num_parts(weight_decay: Any, clip_norm: Any) -> int:
        config = OptimConfig(weight_decay=weight_decay, clip_norm=clip_norm)
        return len(make_optimizer(config, optax.constant_schedule(0.1)).init({"kernel": jnp.ones((2, 2))}))

    assert (num_parts(0.0, 0.0), num_parts(0.1, 0.0), num_parts(0.1, 1.0)) == (2, 3, 4)
    assert num_parts(jnp.float32(0.0), jnp.float32(0.0)) == 4


def test_unknown_optimizer_and_schedule_names_are_rejected() -> None:
    lion: Any = OptimConfig(name="lion")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the optimiser is 'lion': choose sgd, adam, adamw or muon"):
        make_optimizer(lion, optax.constant_schedule(0.1))
    triangle: Any = OptimConfig(schedule="triangle")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the schedule is 'triangle': choose one_cycle"):
        make_schedule(triangle, 10)


def test_custom_masks_select_the_decayed_and_the_orthogonalized_parameters() -> None:
    params = {"stack": jnp.ones((2, 3, 4)), "matrix": jnp.ones((3, 4)), "bias": jnp.ones((3, 4))}
    config = OptimConfig(name="muon", peak_lr=0.5, rest_lr=0.25, momentum=0.0, weight_decay=0.1)

    def only(name: str) -> Mask:
        return lambda params: {each: each == name for each in params}

    optimizer = make_optimizer(config, optax.constant_schedule(0.5), decayed=only("stack"), orthogonal=only("matrix"))
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["stack"], -0.25 * 0.1 * params["stack"], rtol=1e-6)
    assert not updates["matrix"].any()
    assert not updates["bias"].any()
    gradient = {name: jax.random.normal(jax.random.key(0), leaf.shape) for name, leaf in params.items()}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    # Four outputs of three inputs each, scaled as by Jordan et al.
    direction = (4 / 3) ** 0.5 * orthogonalize(gradient["matrix"], config.ortho_steps)
    np.testing.assert_allclose(updates["matrix"], -0.5 * direction, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(updates["bias"], -0.25 * np.sign(gradient["bias"]), rtol=1e-4)


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "constant", "step"])
def test_schedules_of_static_values_work_under_strict_dtype_promotion(name: Any) -> None:
    with jax.numpy_dtype_promotion("strict"):
        schedule = make_schedule(OptimConfig(schedule=name, warmup=0.2), 10)
        actual = jax.jit(jax.vmap(schedule))(jnp.arange(11))
    np.testing.assert_allclose(actual, [float(schedule(step)) for step in range(11)], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_traced_numbers_leave_the_dtypes_of_params_and_state(name: Literal["sgd", "adam", "adamw", "muon"]) -> None:
    def train(clip_norm: Any, momentum: Any) -> Any:
        optimizer = make_optimizer(
            OptimConfig(name=name, clip_norm=clip_norm, momentum=momentum), optax.constant_schedule(0.1)
        )
        params: Any = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), draw(0))

        def step(_: Any, carry: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(params, state, params)
            return optax.apply_updates(params, updates), state

        return lax.fori_loop(0, 2, step, (params, optimizer.init(params)))  # which refuses a change of dtypes

    params, _ = jax.jit(train)(jnp.float32(0.5), jnp.float32(0.9))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    assert all(np.isfinite(leaf.astype(np.float32)).all() for leaf in jax.tree.leaves(params))
