import numpy as np
import pytest

from fmnist_jax.data.shoe_pairs import find_pair

Y, X = np.mgrid[:200, :240]


def ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    return ((X - x) / across) ** 2 + ((Y - y) / down) ** 2 < 1


@pytest.mark.parametrize("distance", [60, 50, 44])
def test_two_long_objects_are_a_pair_whether_apart_or_touching(distance: int) -> None:
    pair = find_pair(ellipse(120 - distance / 2, 100, 25, 70) | ellipse(120 + distance / 2, 100, 27, 74))
    assert pair is not None
    larger, angle = pair
    assert abs(angle) == pytest.approx(90, abs=8)
    assert larger[100, 120 + distance // 2]
    assert larger[:, 122:].sum() > 0.9 * larger.sum()


@pytest.mark.parametrize("degrees", [-60, 0, 45])
def test_pair_is_found_at_any_angle(degrees: float) -> None:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u, v = cos * (X - 120) + sin * (Y - 100), cos * (Y - 100) - sin * (X - 120)
    pair = find_pair(((u / 80) ** 2 + ((v - 22) / 25) ** 2 < 1) | ((u / 80) ** 2 + ((v + 22) / 25) ** 2 < 1))
    assert pair is not None
    assert pair[1] == pytest.approx(degrees, abs=8)


def trousers() -> np.ndarray:
    return (np.abs(X - 120) < 45) & (np.abs(Y - 100) < 85) & ~((np.abs(X - 120) < 12) & (Y > 60))


def shirt() -> np.ndarray:
    body, sleeves = (np.abs(X - 120) < 45) & (np.abs(Y - 100) < 75), (np.abs(X - 120) < 85) & (np.abs(Y - 50) < 22)
    return (body | sleeves) & ~ellipse(120, 25, 15, 15)


def open_shirt() -> np.ndarray:
    """A shirt with two long halves, notched at both ends of the line between them, as a pair is."""
    hem = ellipse(120, 175, 12, 25)
    return ((np.abs(X - 120) < 36) & (np.abs(Y - 100) < 75) | (np.abs(X - 120) < 62) & (np.abs(Y - 50) < 20)) & ~(
        ellipse(120, 25, 12, 25) | hem
    )


@pytest.mark.parametrize(
    "mask",
    [
        trousers(),
        shirt(),
        ellipse(120, 100, 30, 80),
        ellipse(90, 100, 40, 45) | ellipse(150, 100, 40, 45),  # hardly longer than wide
        ellipse(80, 100, 25, 70) | ellipse(140, 100, 25, 30),  # of unequal length
        ellipse(120, 60, 80, 26) | ellipse(120, 130, 80, 26),  # apart, one above the other
        open_shirt(),
        np.zeros((200, 240), bool),
    ],
    ids=["trousers", "shirt", "single", "round", "unequal", "stacked", "open shirt", "empty"],
)
def test_other_shapes_are_not_a_pair(mask: np.ndarray) -> None:
    assert find_pair(mask) is None
