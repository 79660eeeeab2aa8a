import numpy as np
import pytest

from fmnist_jax.analysis.certainty import given_a_pair, reasons_for_doubt
from fmnist_jax.functional.labels import CLASS_NAMES

NOT_PLAIN = "background not plain"


@pytest.mark.parametrize(
    ("name", "probability", "picture_doubts", "expected"),
    [
        ("Coat", 0.66, (), ()),
        ("Coat", 0.64, (), ("low probability",)),
        ("Bag", 0.91, (), ()),
        ("Bag", 0.89, (), ("any object may look like this",)),
        ("Bag", 0.6, (), ("low probability",)),
        ("Coat", 0.9, (NOT_PLAIN,), ()),
        ("Coat", 0.9, (NOT_PLAIN, "a pair"), ("a pair", NOT_PLAIN)),
        ("Coat", 0.3, (NOT_PLAIN,), ("low probability", NOT_PLAIN)),
        ("Coat", 0.9, ("very small",), ("very small",)),
    ],
)
def test_reasons_for_doubt_depend_on_probability_class_and_picture(
    name: str, probability: float, picture_doubts: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    probabilities = np.full(10, (1 - probability) / 9)
    probabilities[CLASS_NAMES.index(name)] = probability
    assert reasons_for_doubt(probabilities, picture_doubts, CLASS_NAMES) == expected


def test_pair_gets_shoe_probabilities_only_if_there_are_shoe_classes() -> None:
    names = ("Bag", "Sandal", "Coat", "Sneaker", "Ankle boot")
    probabilities = np.array([0.6, 0.1, 0.2, 0.1, 0.0])
    np.testing.assert_allclose(given_a_pair(probabilities, ["outline", "a pair"], names), [0, 0.25, 0, 0.75, 0])
    of_three_shoes = given_a_pair(np.array([0.5, 0.3, 0.0, 0.05, 0.15]), ["a pair"], names)
    np.testing.assert_allclose(of_three_shoes, [0, 0.5, 0, 0.25, 0.25])
    np.testing.assert_array_equal(given_a_pair(probabilities, ["outline"], names), probabilities)
    np.testing.assert_array_equal(given_a_pair(probabilities, ["a pair"], list("abcde")), probabilities)
    assert np.isnan(given_a_pair(np.full(5, np.nan), ["a pair"], names)).all()
    certain = np.array([1.0, 0, 0, 0, 0])
    np.testing.assert_array_equal(given_a_pair(certain, ["a pair"], names), certain)


@pytest.mark.parametrize(("sandal", "expected"), [(0.31, "Sandal"), (0.29, "Sneaker")])
def test_pair_is_sneakers_unless_another_shoe_is_three_times_as_probable(sandal: float, expected: str) -> None:
    probabilities = np.zeros(10)
    for name, probability in (("Sandal", sandal), ("Sneaker", 0.1), ("Bag", 0.9 - sandal)):
        probabilities[CLASS_NAMES.index(name)] = probability
    assert CLASS_NAMES[given_a_pair(probabilities, ["a pair"], CLASS_NAMES).argmax()] == expected
