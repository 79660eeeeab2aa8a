"""The dtype to compute in, where half precision or integers would lose digits that matter."""

from typing import Any

import numpy as np


def at_least_float32(dtype: Any) -> np.dtype:
    """Returns float64 and complex dtypes themselves, and float32 for any other.

    `jnp.promote_types` raises an error if promotion is strict.

    Args:
      dtype: that of an array.
    """
    return np.dtype(dtype if dtype in (np.float64, np.complex64, np.complex128) else np.float32)
