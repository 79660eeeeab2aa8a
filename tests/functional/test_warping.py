import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, strategies as st
from scipy import ndimage

from fmnist_jax.functional.warping import centred_grid, sample_image


def test_centred_grid_is_symmetric_about_zero() -> None:
    y, x = centred_grid(4, 3)
    np.testing.assert_array_equal(y[:, 0], [-1.5, -0.5, 0.5, 1.5])
    np.testing.assert_array_equal(x[0], [-1, 0, 1])
    assert y.shape == x.shape == (4, 3)


# Few shapes, because each is compiled.
@given(st.sampled_from([(1, 1), (4, 7)]), st.floats(-9, 9), st.floats(-9, 9), st.integers(0, 99))
def test_sample_image_equals_scipy_shift(shape: tuple[int, int], down: float, right: float, seed: int) -> None:
    height, width = shape
    image = np.random.default_rng(seed).random((height, width, 2), np.float32)
    y, x = centred_grid(height, width)
    actual = np.asarray(sample_image(jnp.asarray(image), y - down, x - right))
    expected = ndimage.shift(image.astype(np.float64), (down, right, 0), order=1, mode="grid-constant")
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_sample_image_keeps_the_dtype_under_strict_dtype_promotion() -> None:
    y, x = centred_grid(4, 4)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
            assert sample_image(jnp.ones((4, 4, 1), dtype), y, x).dtype == dtype
