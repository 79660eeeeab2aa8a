"""Errors: what a user can mend, with the exit codes that the commands promise."""

import inspect

import pytest

from fmnist_jax import errors


def test_every_error_is_an_fmnist_error_with_a_nonzero_exit_code() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) >= 5
    assert all(issubclass(kind, errors.FmnistError) and kind.exit_code > 0 for kind in kinds)


@pytest.mark.parametrize(
    ("kind", "code"), [(errors.ConfigError, 2), (errors.DataError, 2), (errors.DivergenceError, 1)]
)
def test_exit_codes(kind: type[errors.FmnistError], code: int) -> None:
    assert kind.exit_code == code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines\tof it"), "two lines of it"),
        (OSError(), "OSError"),
        ("text\n", "text"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_what_an_error_says_is_a_part_of_one_line(error: Exception | str, line: str) -> None:
    assert errors.in_one_line(error) == line
