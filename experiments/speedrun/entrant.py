"""What the clock is held against: a side that is compiled and has its data in memory."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Entrant(NamedTuple):
    """One configuration, ready to be trained from any seed."""

    train: Callable[[int], Any]
    """`seed -> weights`: from drawing the first weights to the last ones, which are there when it returns."""
    accuracy: Callable[[Any], float]
    """`weights -> share of the test images that are right`, or of the validation images, if any are held out."""
    compile_seconds: float
    versions: Mapping[str, str]
    """Of what is not among fmnist_jax's packages."""
