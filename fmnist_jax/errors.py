"""The errors that a user can mend: each message is one line with the value, what was expected, and the remedy."""


class FmnistError(Exception):
    """Base of every error that a command prints as one line instead of a traceback."""

    exit_code = 2
    label = "error"
    agreed = False
    """Whether every process of the run raises it at the same point, so that all can end in order."""


class ConfigError(FmnistError):
    """A configuration that no run could have; the message lists every problem at once."""


class DataError(FmnistError):
    """Data that is missing, damaged, or not what its name says."""


class CheckpointError(FmnistError):
    """A checkpoint that cannot be restored, or does not belong to this run."""


class RunInUseError(FmnistError):
    """A run directory that another process is writing."""


class DivergenceError(FmnistError):
    """Training that produced a loss or a gradient that is not finite."""

    exit_code = 1
    agreed = True


class DeviceMemoryError(FmnistError):
    """A device without the memory that the configuration needs."""


def in_one_line(error: BaseException | str, longest: int = 200) -> str:
    """What an error says, as a part of a line: so many letters of it at most, and its kind if it says nothing."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
