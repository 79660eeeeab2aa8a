"""Computations in higher precision than that of their inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.functional.muon import orthogonalize
from fmnist_jax.functional.precision import at_least_float32


@pytest.mark.parametrize("name", ["uint8", "int32", "bfloat16", "float16", "float32", "float64"])
def test_at_least_float32_widens_every_dtype_but_float64(name: str) -> None:
    with jax.numpy_dtype_promotion("strict"):
        assert at_least_float32(jnp.dtype(name)) == ("float64" if name == "float64" else "float32")


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_at_least_float32_keeps_complex_dtypes(dtype: type) -> None:
    assert at_least_float32(jnp.dtype(dtype)) == np.dtype(dtype)


def test_orthogonalize_keeps_bfloat16_under_strict_dtype_promotion() -> None:
    with jax.numpy_dtype_promotion("strict"):
        assert orthogonalize(jnp.eye(3, 4, dtype=jnp.bfloat16)).dtype == jnp.bfloat16
