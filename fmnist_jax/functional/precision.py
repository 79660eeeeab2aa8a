"""The dtype to compute in, where half precision or integers would lose digits that matter."""

from typing import Any

import numpy as np


def at_least_float32(dtype: Any) -> np.dtype:
    """Returns float64 for float64 and float32 for any other dtype; `jnp.promote_types` raises if promotion is strict.

    Args:
      dtype: that of an array.
    """
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
