"""Muon: momentum with the update of each kernel made orthogonal, so that a few directions cannot outweigh the rest."""

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from fmnist_jax.functional.precision import at_least_float32

# Each step maps a singular value s to s times this polynomial in s^2 (Jordan et al. 2024): the map is steep at 0, and
# values near 1 then fluctuate between 0.68 and 1.14, which trains as well as exactly 1.
_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315
_EPSILON = 1e-7  # added to a norm, so that a gradient of zeros stays zero


def orthogonalize(matrix: Array, steps: int = 5) -> Array:
    """Moves all singular values of a matrix towards 1, leaving its singular vectors unchanged.

    Uses the Newton-Schulz iteration of Jordan et al. 2024 ("Muon: an optimizer for hidden layers in neural networks"),
    on the Gram matrix instead of the matrix itself: each `X <- (a + b G + c G^2) X` with `G = X X^T` is a polynomial in
    the first G times the first X, so the small factors are multiplied first, and the wide matrix enters two products in
    all instead of two per step. For a kernel [192, 1728] and five steps, 248 million multiplications instead of 672.

    Args:
      matrix: [M, N]; computed in float32 at least, and in full precision.
      steps: of the iteration, 1 or more; five bring values from 1/100 of the Frobenius norm on to 0.68 to 1.14.

    Returns:
      [M, N], in the dtype of `matrix`.
    """
    rows, columns = matrix.shape
    x = matrix.conj().T if rows > columns else matrix
    x = x.astype(at_least_float32(matrix.dtype))
    # At zeros, which kernels that start at 0 cause, its derivative is 0, where that of the plain norm is NaN.
    x = x / (optax.safe_norm(x, 0.0) + _EPSILON)

    def product(a: Array, b: Array) -> Array:
        # The Gram matrix has the squares of the singular values, so it needs full precision.
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    def polynomial(gram: Array) -> Array:
        return _LINEAR * jnp.eye(len(gram), dtype=gram.dtype) + _CUBIC * gram + _QUINTIC * product(gram, gram)

    gram = product(x, x.conj().T)
    factor = composed = polynomial(gram)
    for _ in range(steps - 1):
        gram = product(product(factor, gram), factor)
        factor = polynomial(gram)
        composed = product(factor, composed)
    x = product(composed, x)
    return (x.conj().T if rows > columns else x).astype(matrix.dtype)


def orthogonalize_kernels(steps: int = 5) -> optax.GradientTransformation:
    """Makes the optax transformation that orthogonalises the update of each kernel.

    A kernel [..., C_in, C_out] counts as a matrix with a row for each input value of a sum and a column for each output
    channel. The result is scaled by sqrt(max(1, columns / rows)), as Jordan et al. do.

    Args:
      steps: of `orthogonalize`.
    """

    def orthogonalize_update(update: Array) -> Array:
        matrix = update.reshape(-1, update.shape[-1])
        scale = max(1.0, update.shape[-1] / len(matrix)) ** 0.5
        return (scale * orthogonalize(matrix, steps)).reshape(update.shape)

    return optax.stateless(lambda updates, _: jax.tree.map(orthogonalize_update, updates))
