"""Independent implementations that the tests of several modules compare with: NumPy's, and XLA's plain convolution."""

import numpy as np
from jax import Array, lax
from numpy.lib.stride_tricks import sliding_window_view


def plain_conv(x: Array, kernel: Array) -> Array:
    """The convolution as one XLA operation, with XLA's own derivatives."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def padded(x: np.ndarray, size: int) -> np.ndarray:
    """Images with the border of zeros that keeps the spatial size under a kernel of an odd size."""
    pad = size // 2
    return np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))


def numpy_conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The same convolution as a sum over windows."""
    windows = sliding_window_view(padded(x, len(kernel)), kernel.shape[:2], axis=(1, 2))
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel)


def window_pixels(x: np.ndarray) -> np.ndarray:
    """The four pixels of each complete 2x2 window: [4, B, H // 2, W // 2, C]."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return np.stack([x[:, i::2, j::2] for i in range(2) for j in range(2)])


def orthogonalize_by_svd(matrix: np.ndarray, steps: int) -> np.ndarray:
    """Muon's polynomial (Jordan et al. 2024) in double precision, applied to the singular values themselves."""
    left, values, right = np.linalg.svd(matrix.astype(np.result_type(matrix, np.float64)), full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return (left * values) @ right
