import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from hypothesis import given, strategies as st

from fmnist_jax import orthogonalize, orthogonalize_kernels
from tests.functional.oracles import orthogonalize_by_svd

compiled = jax.jit(orthogonalize, static_argnums=1)


def random_matrix(rows: int, columns: int, smallest: float, seed: int) -> np.ndarray:
    """A random matrix whose singular values fall from 1 to `smallest`."""
    left, _, right = np.linalg.svd(np.random.default_rng(seed).normal(size=(rows, columns)), full_matrices=False)
    return ((left * np.geomspace(1, smallest, min(rows, columns))) @ right).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (9, 9)])
def test_orthogonalize_takes_complex_matrices(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    np.testing.assert_allclose(compiled(jnp.asarray(matrix), 5), orthogonalize_by_svd(matrix, 5), atol=2e-3)


@given(
    shape=st.sampled_from([(1, 1), (5, 12), (12, 5), (9, 9)]),
    steps=st.sampled_from([1, 3, 5]),
    size=st.sampled_from([1e-20, 1.0, 1e15]),
    smallest=st.sampled_from([1.0, 1e-2, 1e-5]),
    seed=st.integers(0, 9),
)
def test_orthogonalize_maps_singular_values_and_keeps_singular_vectors(
    shape: tuple[int, int], steps: int, size: float, smallest: float, seed: int
) -> None:
    matrix = random_matrix(*shape, smallest, seed)
    # At a norm of 1e-20 the epsilon that is added to it dominates, and the result is almost zero.
    expected = orthogonalize_by_svd(matrix, steps) if size > 1e-7 else np.zeros_like(matrix)
    actual = compiled(jnp.asarray(matrix * np.float32(size)), steps)
    np.testing.assert_allclose(actual, expected, atol=2e-3 if size > 1e-7 else 1e-6)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_orthogonalize_equals_optax_muon(shape: tuple[int, int]) -> None:
    matrix = jax.random.normal(jax.random.key(0), shape)
    state = optax.contrib.scale_by_muon(nesterov=False, beta=0.0).init(matrix)
    expected, _ = jax.jit(optax.contrib.scale_by_muon(nesterov=False, beta=0.0).update)(matrix, state)
    np.testing.assert_allclose(compiled(matrix), expected, atol=1e-4)


def test_five_steps_bring_singular_values_of_a_hundredth_of_the_norm_near_one() -> None:
    for smallest in np.geomspace(0.03, 1, 9):  # of 32 values, the largest of which is 1
        values = np.linalg.svd(random_matrix(32, 64, smallest, 0), compute_uv=False)
        assert values.min() > 0.01 * np.linalg.norm(values)
        values = np.linalg.svd(compiled(jnp.asarray(random_matrix(32, 64, smallest, 0))), compute_uv=False)
        assert 0.675 < np.min(values) < np.max(values) < 1.14


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_orthogonalize_keeps_the_dtype_and_computes_in_float32(dtype: jnp.dtype) -> None:
    matrix = jax.random.normal(jax.random.key(0), (8, 20)).astype(dtype)
    actual = orthogonalize(matrix)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, orthogonalize(matrix.astype(jnp.float32)).astype(dtype))


def test_orthogonalize_of_zeros_is_zero() -> None:
    np.testing.assert_array_equal(orthogonalize(jnp.zeros((4, 6))), np.zeros((4, 6)))


def test_derivative_equals_finite_differences_and_is_zero_at_zeros() -> None:
    matrix, direction = jax.random.normal(jax.random.key(0), (2, 4, 6))
    directional_derivative = jax.jit(lambda matrix, direction: jax.jvp(orthogonalize, (matrix,), (direction,))[1])
    expected = (compiled(matrix + 1e-2 * direction) - compiled(matrix - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(directional_derivative(matrix, direction), expected, atol=2e-2)
    at_zeros = directional_derivative(jnp.zeros((4, 6)), jnp.zeros((4, 6)))
    np.testing.assert_array_equal(at_zeros, np.zeros((4, 6)))


def test_vmapped_orthogonalize_equals_one_call_per_matrix() -> None:
    matrices = jax.random.normal(jax.random.key(0), (3, 6, 4))
    mapped = jax.jit(jax.vmap(orthogonalize))(matrices)
    for matrix, actual in zip(matrices, mapped, strict=True):
        np.testing.assert_allclose(actual, compiled(matrix), atol=1e-5)


@pytest.mark.parametrize(("shape", "scale"), [((3, 3, 2, 8), 1.0), ((1, 1, 4, 16), 2.0), ((3, 3, 1, 36), 2.0)])
def test_orthogonalize_kernels_flattens_inputs_and_scales_by_the_aspect_ratio(
    shape: tuple[int, ...], scale: float
) -> None:
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    transformation = orthogonalize_kernels(steps=4)
    updates, _ = jax.jit(transformation.update)({"kernel": kernel}, transformation.init({"kernel": kernel}))
    expected = orthogonalize_by_svd(kernel.reshape(-1, shape[-1]), 4).reshape(shape)
    np.testing.assert_allclose(updates["kernel"], scale * expected, atol=1e-4)
