"""Errors that a user can fix, with the exit codes that the commands document."""

import inspect

import pytest

from fmnist_jax import errors


def test_every_error_is_an_fmnist_error_with_a_nonzero_exit_code() -> None:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__]
    assert len(classes) >= 5
    assert all(issubclass(error_class, errors.FmnistError) and error_class.exit_code > 0 for error_class in classes)


@pytest.mark.parametrize(
    ("error_class", "exit_code"), [(errors.ConfigError, 2), (errors.DataError, 2), (errors.DivergenceError, 1)]
)
def test_exit_codes(error_class: type[errors.FmnistError], exit_code: int) -> None:
    assert error_class.exit_code == exit_code


def test_out_of_memory_recognizes_the_status_of_xla() -> None:
    error = errors.out_of_memory(ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 470 bytes."), "free it")
    assert str(error) == "the device is out of memory: free it"
    assert errors.out_of_memory(ValueError("INTERNAL: something else"), "free it") is None


@pytest.mark.parametrize(
    ("names", "expected"), [([], "none"), (["a"], "a"), (["a", "b"], "a, b"), (list("abcd"), "a, b, and 2 more")]
)
def test_abbreviated_counts_what_it_does_not_show(names: list[str], expected: str) -> None:
    assert errors.abbreviated(names, 2) == expected


def test_line_begins_with_the_label_of_the_error() -> None:
    class StoppedError(errors.FmnistError):
        label = "stopped"

    assert errors.DataError("it is damaged").line == "error: it is damaged"
    assert StoppedError("by a signal").line == "stopped: by a signal"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("two\n  lines\tof it"), "two lines of it"),
        (OSError(), "OSError"),
        ("text\n", "text"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_in_one_line_collapses_whitespace_and_truncates(error: Exception | str, expected: str) -> None:
    assert errors.in_one_line(error) == expected
