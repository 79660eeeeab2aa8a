"""Errors that a user can fix: each message is one line with the value, what was expected, and the remedy."""

from collections.abc import Sequence


class FmnistError(Exception):
    """Base of every error that a command prints as one line instead of a traceback."""

    exit_code = 2
    label = "error"
    collective = False
    """Whether every process of the run raises it at the same point, so that all can shut down cleanly."""

    @property
    def line(self) -> str:
        """What a command prints."""
        return f"{self.label}: {self}"


class ConfigError(FmnistError):
    """An invalid configuration; the message lists every problem at once."""


class DataError(FmnistError):
    """Data that is missing, damaged, or not what its name says."""


class CheckpointError(FmnistError):
    """A checkpoint that cannot be restored, or does not belong to this run."""


class RunInUseError(FmnistError):
    """A run directory that another process is writing to."""


class DivergenceError(FmnistError):
    """Training that produced a non-finite loss or gradient."""

    exit_code = 1
    collective = True


class DeviceMemoryError(FmnistError):
    """A device with too little memory for the configuration."""


def out_of_memory(error: BaseException, remedy: str) -> DeviceMemoryError | None:
    """What to report of XLA's out-of-memory error; None for any other error."""
    if "RESOURCE_EXHAUSTED" not in str(error):  # the status with which XLA's message begins
        return None
    return DeviceMemoryError(f"the device is out of memory: {remedy}")


def abbreviated(names: Sequence[str], max_shown: int = 6) -> str:
    """A list of names, of which only the first few are shown and the others counted."""
    rest = [f"and {len(names) - max_shown} more"] if len(names) > max_shown else []
    return ", ".join([*names[:max_shown], *rest]) or "none"


def in_one_line(error: BaseException | str, max_length: int = 200) -> str:
    """An error's message on one line, cut to `max_length` characters; the name of its type if it has no message."""
    return " ".join(str(error).split())[:max_length] or type(error).__name__
