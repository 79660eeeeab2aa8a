"""Muon: momentum whose direction for each kernel is made orthogonal, so that no few directions outweigh the others."""

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from fmnist_jax.functional.precision import at_least_float32

# Each step maps a singular value s to s times this polynomial in s^2 (Jordan et al. 2024): it is steep at 0, and values
# near 1 then move about between 0.7 and 1.2, which trains as well as exactly 1.
_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315
_TINY = 1e-7  # added to a norm, so that a gradient of zeros stays zero


def orthogonalize(matrix: Array, steps: int = 5) -> Array:
    """Moves all singular values of a matrix towards 1, leaving its singular vectors as they are.

    By the Newton-Schulz iteration that Jordan et al. 2024 ("Muon: an optimizer for hidden layers in neural networks")
    chose, on the Gram matrix instead of the matrix itself: `X <- (a + b G + c G^2) X` with `G = X X^T` is a polynomial
    in the first G, so the small factors are multiplied out first, and the wide matrix is met twice instead of twice a
    step. For a kernel [192, 1728] and five steps that is 248 million products instead of 672.

    Args:
      matrix: [M, N]; computed in float32 at least, and in full precision.
      steps: of the iteration, 1 or more; five bring up singular values from 1/100 of the norm of all.

    Returns:
      [M, N], in the dtype of `matrix`.
    """
    rows, columns = matrix.shape
    wide = matrix.T if rows > columns else matrix
    wide = wide.astype(at_least_float32(matrix.dtype))
    # Of zeros, which kernels that start at 0 make, the derivative is 0, where that of the plain norm is NaN.
    wide = wide / (optax.safe_norm(wide, 0.0) + _TINY)

    def product(a: Array, b: Array) -> Array:
        # The Gram matrix has the squares of the singular values, so it needs all digits.
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    def polynomial(gram: Array) -> Array:
        return _LINEAR * jnp.eye(len(gram), dtype=gram.dtype) + _CUBIC * gram + _QUINTIC * product(gram, gram)

    gram = product(wide, wide.T)
    factor = whole = polynomial(gram)
    for _ in range(steps - 1):
        gram = product(product(factor, gram), factor)
        factor = polynomial(gram)
        whole = product(factor, whole)
    wide = product(whole, wide)
    return (wide.T if rows > columns else wide).astype(matrix.dtype)


def orthogonalize_kernels(steps: int = 5) -> optax.GradientTransformation:
    """Makes the optax transformation that orthogonalises each update of a kernel.

    A kernel [..., C_in, C_out] counts as a matrix with a row for each output and a column for each number that it is a
    sum of. The result is scaled by sqrt(max(1, outputs / columns)), as Jordan et al. do.

    Args:
      steps: of `orthogonalize`.
    """

    def direction(update: Array) -> Array:
        matrix = update.reshape(-1, update.shape[-1])
        scale = max(1.0, update.shape[-1] / len(matrix)) ** 0.5
        return (scale * orthogonalize(matrix, steps)).reshape(update.shape)

    return optax.stateless(lambda updates, _: jax.tree.map(direction, updates))
