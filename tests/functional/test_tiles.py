"""Each face of `tiles` against a direct convolution and its gradients by autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import Array, export

from fmnist_jax.functional import convolution, tiles
from fmnist_jax.functional.convolution import convolve

# [B, H, W, C_in, C_out]: more and fewer images than a chunk and a whole one, odd sides, one pixel.
SHAPES = [(19, 6, 5, 3, 2), (8, 4, 4, 2, 3), (3, 14, 14, 4, 4), (2, 1, 1, 2, 3), (16, 3, 8, 1, 1)]


def draw(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch, height, width, inputs, outputs = shape
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(batch, height, width, inputs)), rng.normal(size=(3, 3, inputs, outputs))
    return x, kernel, rng.normal(size=(batch, height, width, outputs))


def faces(x: Array, kernel: Array, g: Array) -> tuple[Array, Array, Array]:
    sides = x.shape[1], x.shape[2]
    return (
        tiles.conv(x, kernel),
        convolution._by_turned_kernel(tiles.conv)(g, kernel, sides=sides),
        tiles.kernel_gradient(x, g, size=3),
    )


def expected(x: Array, kernel: Array, g: Array) -> tuple[Array, Array, Array]:
    y, pull = jax.vjp(convolve, x, kernel)
    return y, *pull(g)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_face_equals_that_of_the_direct_convolution_in_float64(shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        arrays = [jnp.asarray(array) for array in draw(shape)]
        for got, wanted in zip(jax.jit(faces)(*arrays), expected(*arrays), strict=True):
            assert got.dtype == jnp.float64
            np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11)


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_every_number_of_images_and_pixels_is_convolved(batch: int, height: int, width: int, seed: int) -> None:
    with jax.enable_x64(True):
        x, kernel, _ = map(jnp.asarray, draw((batch, height, width, 2, 2), seed))
        np.testing.assert_allclose(tiles.conv(x, kernel), convolve(x, kernel), rtol=1e-11, atol=1e-11)


def test_float32_error_is_that_of_rounding() -> None:
    arrays = draw((4, 14, 14, 64, 64))
    with jax.enable_x64(True):
        exact = [np.asarray(face) for face in expected(*map(jnp.asarray, arrays))]
    for got, wanted in zip(faces(*(jnp.asarray(array, jnp.float32) for array in arrays)), exact, strict=True):
        assert got.dtype == jnp.float32
        assert np.abs(got - wanted).max() < 2e-6 * np.abs(wanted).max()


def test_bfloat16_keeps_its_dtype_and_is_summed_in_float32() -> None:
    arrays = [jnp.asarray(array, jnp.bfloat16) for array in draw((2, 14, 14, 32, 8))]
    wide = expected(*(array.astype(jnp.float32) for array in arrays))
    for got, wanted in zip(faces(*arrays), wide, strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), wanted, rtol=2**-8, atol=1e-3)


def test_a_batch_of_any_size_is_convolved_by_one_program() -> None:
    (batch,) = export.symbolic_shape("batch")
    x, kernel, _ = (jnp.asarray(array, jnp.float32) for array in draw((19, 6, 5, 3, 2)))
    exported = export.export(jax.jit(tiles.conv))(jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), kernel)
    for size in (1, 8, 19):
        np.testing.assert_allclose(exported.call(x[:size], kernel), convolve(x[:size], kernel), atol=1e-5)
