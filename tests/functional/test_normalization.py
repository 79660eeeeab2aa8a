"""`batch_norm` against NumPy, Flax and autodiff in float64, its numerical precision, and its use on shards."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec as P

from fmnist_jax import batch_norm
from fmnist_jax.functional import channel_sums, normalization
from tests.functional.test_layers import as_float32, assert_all_close, gradients, hessian_product


def draw_norm(shape: tuple[int, ...] = (3, 4, 5, 2)) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, g = 3 * rng.normal(size=shape) + 2, rng.normal(size=shape)
    return x, rng.uniform(0.5, 2, shape[-1]), rng.normal(size=shape[-1]), g


def plain_norm(x: Array, scale: Array, bias: Array) -> Array:
    mean, variance = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale[None, None, None] + bias[None, None, None]


def our_norm(x: Array, scale: Array, bias: Array) -> Array:
    return batch_norm(x, scale, bias)[0]


def test_batch_norm_equals_numpy_and_flax() -> None:
    x, scale, bias, _ = draw_norm()
    x32, scale32, bias32 = as_float32(x, scale, bias)
    ours = batch_norm(x32, scale32, bias32, epsilon=0.1)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    assert_all_close(ours, ((x - mean) / np.sqrt(variance + 0.1) * scale + bias, mean, variance), 1e-5)

    flax_norm = nn.BatchNorm(use_running_average=False, epsilon=0.1, momentum=0.0)
    variables = {"params": {"scale": scale32, "bias": bias32}}
    y, updated = flax_norm.apply(variables, x32, mutable=["batch_stats"])
    assert_all_close(ours, (y, updated["batch_stats"]["mean"], updated["batch_stats"]["var"]), 1e-5)


def test_batch_norm_gradients_equal_autodiff_of_the_plain_formula_in_float64() -> None:
    x, scale, bias, g = draw_norm()
    tangents = [np.cos(np.arange(a.size, dtype=np.float64)).reshape(a.shape) for a in (x, scale, bias)]
    arrays32 = as_float32(g, x, scale, bias, *tangents)
    ours, ours_twice = gradients(our_norm, *arrays32[:4]), hessian_product(our_norm, *arrays32)
    with jax.enable_x64(True):
        arrays64 = [jnp.asarray(a) for a in (g, x, scale, bias, *tangents)]
        plain, plain_twice = gradients(plain_norm, *arrays64[:4]), hessian_product(plain_norm, *arrays64)
    assert_all_close(ours, plain, 1e-5)
    assert_all_close(ours_twice, plain_twice, 1e-4)


def test_batch_norm_statistics_have_zero_gradients() -> None:
    def of_statistics(x: Array, scale: Array, bias: Array) -> Array:
        _, mean, variance = batch_norm(x, scale, bias)
        return (mean**2 + variance).sum()

    operands = as_float32(*draw_norm()[:3])
    for gradient in jax.grad(of_statistics, argnums=(0, 1, 2))(*operands):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_batch_norm_of_bfloat16_keeps_the_dtype_and_float32_statistics() -> None:
    x, scale, bias, g = draw_norm((8, 14, 14, 2))
    half, scale32, bias32 = jnp.asarray(x, jnp.bfloat16), *as_float32(scale, bias)
    x32 = np.asarray(half, np.float32)
    y, *statistics = batch_norm(half, scale32, bias32)
    d_x, d_scale, d_bias = gradients(our_norm, jnp.asarray(g, jnp.bfloat16), half, scale32, bias32)
    assert y.dtype == d_x.dtype == jnp.bfloat16
    assert all(a.dtype == jnp.float32 for a in (*statistics, d_scale, d_bias))
    assert_all_close(statistics, (x32.mean((0, 1, 2), np.float64), x32.var((0, 1, 2), np.float64)), 1e-5)
    expected = batch_norm(jnp.asarray(x32), scale32, bias32)[0]
    np.testing.assert_allclose(np.asarray(y, np.float32), expected, rtol=2**-8, atol=1e-6)


def test_batch_norm_variance_is_accurate_for_values_far_from_zero() -> None:
    x = (1000 + np.random.default_rng(0).normal(size=(8, 7, 7, 1))).astype(np.float32)
    _, _, variance = batch_norm(jnp.asarray(x), jnp.ones(1), jnp.zeros(1))
    np.testing.assert_allclose(variance, x.var((0, 1, 2), np.float64), rtol=1e-3)


def test_batch_norm_of_a_constant_is_the_bias_with_finite_gradients() -> None:
    operands = (jnp.full((1, 1, 1, 2), 7.0), jnp.ones(2), jnp.array([0.5, -0.5]))
    np.testing.assert_array_equal(our_norm(*operands).ravel(), [0.5, -0.5])
    d_x, d_scale, d_bias = gradients(our_norm, jnp.ones((1, 1, 1, 2)), *operands)
    np.testing.assert_array_equal(np.concatenate([d_x.ravel(), d_scale, d_bias]), [0, 0, 0, 0, 1, 1])


def test_batch_norm_under_vmap_and_scan_equals_one_call_per_member() -> None:
    x, scale, bias, _ = draw_norm((4, 3, 5, 2))
    xs, scale32, bias32 = as_float32(np.stack([x, 2 * x + 1, np.exp(x / 5)]), scale, bias)
    mapped = jax.jit(jax.vmap(lambda x: batch_norm(x, scale32, bias32)))(xs)
    scanned = jax.jit(lambda xs: lax.scan(lambda _, x: (None, batch_norm(x, scale32, bias32)), None, xs)[1])(xs)
    for i in range(3):
        assert_all_close([output[i] for output in (*mapped, *scanned)], batch_norm(xs[i], scale32, bias32) * 2, 1e-5)


@pytest.mark.parametrize("implementation", [channel_sums._sums, channel_sums._sums_on_cpu])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e3, 1e4])
@pytest.mark.parametrize("shift_error", [0.0, 0.1, 3.0])  # in standard deviations
def test_one_pass_moments_are_accurate_when_the_shift_is_near_the_mean(
    monkeypatch: pytest.MonkeyPatch, implementation: Any, ratio: float, shift_error: float
) -> None:
    monkeypatch.setattr(normalization, "channel_sums", implementation)
    x = (ratio + np.random.default_rng(0).normal(size=(16, 14, 14, 3))).astype(np.float32)
    mean, variance = x.mean((0, 1, 2), np.float64), x.var((0, 1, 2), np.float64)
    shift = jnp.asarray(mean + shift_error, jnp.float32).reshape(1, 1, 1, -1)
    jitted = jax.jit(partial(normalization._local_moments))  # a new function, not compiled for the other implementation
    actual = np.asarray(jitted(x, shift), np.float64).reshape(2, -1)
    np.testing.assert_allclose(actual[0] + np.asarray(shift).ravel(), mean, rtol=2e-7, atol=2e-6)
    np.testing.assert_allclose(actual[1], variance, rtol=4e-6 + 5e-7 * shift_error**2)


@pytest.mark.parametrize("shift_error", [30.0, 300.0, 3e3, 3e4, 3e5])
def test_stale_shift_loses_bounded_precision_and_keeps_the_variance_positive(shift_error: float) -> None:
    x = np.random.default_rng(0).normal(size=(16, 14, 14, 3)).astype(np.float32)
    offset, variance = jax.jit(normalization._local_moments)(x, jnp.full((1, 1, 1, 3), shift_error, jnp.float32))
    exact = x.var((0, 1, 2), np.float64)
    np.testing.assert_allclose(offset.ravel() + shift_error, x.mean((0, 1, 2), np.float64), atol=2e-6 * shift_error)
    assert (np.abs(variance.ravel() - exact) <= 2e-6 * (shift_error**2 + 8) * exact).all()
    # Images are then normalised to less than unit variance, not to hundreds of standard deviations.
    assert (np.asarray(variance).ravel() >= np.minimum(0.5, 2.0**-24 * shift_error**2)).all()


def test_moments_without_a_given_shift_are_accurate_far_from_zero() -> None:
    x = (1e4 + np.random.default_rng(0).normal(size=(8, 7, 7, 2))).astype(np.float32)
    shift = normalization._mean_of_first(jnp.asarray(x), ())
    assert (np.abs(shift - x.mean((0, 1, 2), np.float64)) < 0.5).all()
    _, variance = normalization._local_moments(jnp.asarray(x), shift.reshape(1, 1, 1, -1)).reshape(2, -1)
    np.testing.assert_allclose(variance, x.var((0, 1, 2), np.float64), rtol=1e-5)


def lower_sharded(function: Any, out_specs: Any) -> str:
    """A function of (x, scale, bias, shift) lowered for a TPU, with x sharded over two devices."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 6, 6, 3), (3,), (3,), (3,))]
    with jax.set_mesh(jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))):
        sharded = jax.shard_map(function, in_specs=(P("data"), P(), P(), P()), out_specs=out_specs)
        return jax.jit(sharded).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()


def normalized(x: Array, scale: Array, bias: Array, shift: Array) -> tuple[Array, Array, Array]:
    return batch_norm(x, scale, bias, shift=shift)


def test_sharded_batch_norm_has_one_all_reduce_forward_and_one_backward() -> None:
    def gradient(x: Array, *weights: Array) -> Any:
        y, vjp = jax.vjp(lambda x, scale, bias: normalized(x, scale, bias, weights[2])[0], x, *weights[:2])
        return y, vjp(jnp.cos(y))

    rows = P("data")
    assert lower_sharded(normalized, (rows, P(), P())).count("stablehlo.all_reduce") == 1
    assert lower_sharded(gradient, (rows, (rows, P(), P()))).count("stablehlo.all_reduce") == 2


@pytest.mark.parametrize("shifted", [True, False])
def test_sharded_statistics_and_gradients_equal_those_of_the_full_batch(shifted: bool) -> None:
    x, scale, bias, g = as_float32(*draw_norm((4, 3, 5, 2)))
    shift = jnp.ones(2) if shifted else None

    def statistics_and_gradients(g: Array, x: Array, scale: Array, bias: Array) -> Any:
        (_, *statistics), vjp = jax.vjp(lambda *operands: batch_norm(*operands, shift=shift), x, scale, bias)
        return statistics, vjp((g, jnp.zeros(2), jnp.zeros(2)))

    mesh, rows = jax.make_mesh((2,), ("data",)), P("data")
    with jax.set_mesh(mesh):
        sharded = [jax.device_put(a, NamedSharding(mesh, rows)) for a in (g, x)]
        specs = (rows, rows, P(), P())
        mapped = jax.jit(jax.shard_map(statistics_and_gradients, in_specs=specs, out_specs=(P(), (rows, P(), P()))))
        actual = jax.device_get(mapped(*sharded, scale, bias))
    expected = jax.jit(statistics_and_gradients)(g, x, scale, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), actual, expected)


@pytest.mark.parametrize("shift", [None, jnp.zeros(2)])
def test_statistics_of_no_images_are_nan(shift: Array | None) -> None:
    y, mean, variance = batch_norm(jnp.zeros((0, 3, 3, 2)), jnp.ones(2), jnp.zeros(2), shift=shift)
    assert y.shape == (0, 3, 3, 2)
    assert jnp.isnan(mean).all()
    assert jnp.isnan(variance).all()
