"""The dtype to compute in, where half precision or whole numbers would lose digits that matter."""

from typing import Any

import numpy as np


def at_least_float32(dtype: Any) -> np.dtype:
    """float64 of itself, and float32 of every other; `jnp.promote_types` refuses to tell where promotion is strict.

    Args:
      dtype: of an array.
    """
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
