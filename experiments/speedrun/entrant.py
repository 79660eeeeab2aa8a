"""What the clock times: a side that is compiled and has its data in memory."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Entrant(NamedTuple):
    """One configuration, ready to be trained from any seed."""

    train: Callable[[int], Any]
    """`seed -> weights`: from random initialisation to the final weights, which are ready when it returns."""
    accuracy: Callable[[Any], float]
    """`weights -> share of test images classified correctly`, or of validation images if any are held out."""
    compile_seconds: float
    versions: Mapping[str, str]
    """Versions of what is not among fmnist_jax's packages."""
