"""Paths as people write them: with `~` for a home directory, as text, or as an address (URL), which is not a path."""

import os
import re
from pathlib import Path

from fmnist_jax.errors import ConfigError, FmnistError

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # two characters at least, so that a drive letter does not match
_LONGEST_NAME = 255  # bytes, on Linux and macOS


def expand(path: str | os.PathLike[str]) -> Path:
    """A path with a leading `~` or `~user` replaced by that home directory, where it is known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def expand_checked(path: Path, flag: str, error_type: type[FmnistError] = ConfigError) -> Path:
    """Expands a path and checks that it is usable on this machine.

    Raises:
      FmnistError: it is not, as an `error_type`; the message names `flag`.
    """
    path = expand(path)
    if (problem := find_problem(path, flag)) is not None:
        raise error_type(problem)
    return path


def display_name(directory: Path) -> str:
    """The name of a directory, also where the path ends in `..`; its whole path if it has none, as `/`."""
    full = Path(os.path.abspath(directory))  # noqa: PTH100 (`absolute` keeps `..`, and `resolve` follows links)
    return full.name or str(full)


def scheme(path: str | os.PathLike[str]) -> str | None:
    """The scheme of an address, such as `gs`; None for a path."""
    match = _ADDRESS.match(str(path))
    return match[1] if match else None


def find_problem(path: Path, flag: str) -> str | None:
    """What makes a path unusable on any machine, with the value and the remedy; None if nothing does.

    Args:
      path: as `expand` returns it.
      flag: the flag that gives it, for the message.
    """
    shown = str(path) if str(path).isprintable() else ascii(str(path))[1:-1]
    if (url_scheme := scheme(path)) is not None:
        return (
            f"{flag} is {shown}, an address ({url_scheme}), not a folder on this machine: "
            f"mount or copy it, and give that folder"
        )
    if path.parts and path.parts[0].startswith("~") and path == expand(path):
        return f"{flag} is {shown}, and no home directory of that name is known: give the full path"
    if any(ord(character) < 32 for character in str(path)):
        return f"{flag} is {shown}, which contains a control character: rename it"
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        return f"{flag} is {shown}, which contains a byte that is not valid UTF-8: rename it"
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > _LONGEST_NAME:
        return (
            f"{flag} contains a name of {longest} bytes, but file systems allow {_LONGEST_NAME}: choose a shorter one"
        )
    return None
