"""Writing files whole or not at all, and refusing unusable output paths before any work is done for them."""

import contextlib
import errno
import glob
import itertools
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fmnist_jax.errors import FmnistError
from fmnist_jax.system.signals import unwind_on_signal

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # takes half a second to import

UNFINISHED = ".unfinished"
"""The end of the names of what a process is still writing, or was killed in writing."""

_REMEDIES = (
    ((errno.ENOSPC, errno.EDQUOT), "free space (df -h) or files (df -i) there"),
    ((errno.EACCES, errno.EPERM), "give yourself permission"),
    ((errno.EROFS,), "mount it for writing"),
    ((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    ((errno.ENOMEM,), "free memory"),
    ((errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO), "check the disk or the network drive"),
)

_TOKEN_BYTES = 8  # that tell the temporary files of concurrent writers apart
_TOKEN_PATTERN = "[0-9a-f]" * 2 * _TOKEN_BYTES
_STALE_SECONDS = 3600.0
_SOFTWARE = "fmnist_jax"
_MAX_PREFIX = 40  # characters of a file's name in that of its temporary file, which may have no more than 255 bytes


def check_writable(path: Path, flag: str, error_type: type[FmnistError] = FmnistError) -> None:
    """Checks, without writing anything, that a directory exists or can be created, and is writable.

    Raises:
      FmnistError: it is not; raised as `error_type`, with the advice to choose another `flag`.
    """
    try:
        # lexists, because a dangling symbolic link exists, too.
        existing = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
        if existing.is_symlink() and not existing.exists():
            raise error_type(
                f"{existing} is a symbolic link to {existing.readlink()}, which does not exist: create it or "
                f"choose another {flag}"
            )
        status = existing.stat()
    except OSError as problem:
        raise error_type(f"{path} cannot be used ({error_reason(problem)}): choose another {flag}") from problem
    if not stat.S_ISDIR(status.st_mode):
        raise error_type(f"{existing} is a file, not a directory: choose another {flag}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise error_type(
            f"{existing} cannot be written{_owner(existing)}: change its permissions or choose another {flag}"
        )


def check_file(path: Path, flag: str) -> None:
    """Checks, without writing anything, that a file can be written there.

    Raises:
      FmnistError: it cannot; the message names `flag`, to choose another.
    """
    if _is_special(path):
        return
    check_writable(Path(os.path.realpath(path)).parent, flag)
    if path.is_dir():
        raise FmnistError(f"{path} is a directory: give a file for {flag}")


def _is_special(path: Path) -> bool:
    """Whether a path exists but is neither a regular file nor a directory, such as a terminal or a pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def numbered(path: Path) -> Iterator[Path]:
    """Yields the path itself, then those with `-2`, `-3`, … appended to its name, without end."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")


def make_directory(path: Path) -> None:
    """Creates a directory if it is missing.

    Raises:
      FmnistError: it cannot be created.
    """
    with convert_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def directory_for_files(path: Path) -> Iterator[None]:
    """Creates a directory if it is missing, for a block that writes files into it; a failure leaves no empty one.

    Raises:
      FmnistError: it cannot be created.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    with unwind_on_signal():
        try:
            make_directory(path)
            yield
        except BaseException:
            for created in missing:
                with contextlib.suppress(OSError):  # it is not there, or holds a file that was written
                    created.rmdir()
            raise


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Replaces a file atomically, so that a reader never sees half of it, and a failure leaves the old one.

    Concurrent writers each write a file of their own first, and the last one wins. A symbolic link stays one, and what
    is not a regular file, such as a terminal or a pipe, is written to directly.

    Args:
      path: the path of the file; its directory exists.
      write: writes the contents.

    Raises:
      FmnistError: it cannot be written.
    """
    if _is_special(path):
        with convert_write_errors(path), path.open("wb") as file:
            write(file)
        return
    target = Path(os.path.realpath(path))
    unfinished = target.with_name(f"{target.name[:_MAX_PREFIX]}.{secrets.token_hex(_TOKEN_BYTES)}{UNFINISHED}")
    with unwind_on_signal(), convert_write_errors(path):
        try:
            with unfinished.open("xb") as file:
                write(file)
            with contextlib.suppress(OSError):  # there is no file to replace, or it is another's
                shutil.copymode(target, unfinished)
            unfinished.replace(target)
            remove_stale(target.parent, f"{glob.escape(target.name[:_MAX_PREFIX])}.{_TOKEN_PATTERN}{UNFINISHED}")
        except BaseException:
            with contextlib.suppress(OSError):  # it was not made, or its disk has gone
                unfinished.unlink()
            raise


def remove_unfinished(directory: Path) -> None:
    """Removes the temporary files that killed writers have left in a directory which no other process writes to."""
    for left in directory.glob(f"*.{_TOKEN_PATTERN}{UNFINISHED}"):
        with contextlib.suppress(OSError):
            left.unlink()


def remove_stale(directory: Path, pattern: str) -> None:
    """Removes files and folders that match a pattern and were left an hour ago or more, by processes now killed.

    What they are left from takes seconds. Their names are unique, so they are told apart by their age: on a network
    drive, the process that writes one may run on another machine.
    """
    with contextlib.suppress(OSError):
        for left in directory.glob(pattern):
            if time.time() - left.stat().st_mtime < _STALE_SECONDS:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def write_bytes(path: Path, contents: bytes) -> None:
    """Replaces a file as `write_atomically` does."""
    write_atomically(path, lambda file: file.write(contents))


def write_text(path: Path, text: str) -> None:
    """Replaces a UTF-8 text file as `write_atomically` does; invalid Unicode, as in some file names, is escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_figure(path: Path, figure: "Figure") -> None:
    """Replaces a PNG file as `write_atomically` does, at a resolution fit for printing, and marks it as one's own."""
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, format="png", metadata={"Software": _SOFTWARE}))


def is_own_figure(path: Path) -> bool:
    """Whether `write_figure` has written a file."""
    try:
        if path.suffix.lower() != ".png" or not path.is_file():  # reading a pipe would wait
            return False
        with path.open("rb") as file:
            return b"tEXtSoftware\0" + _SOFTWARE.encode() in file.read(512)  # it is written before the pixels
    except OSError:
        return False


@contextlib.contextmanager
def convert_write_errors(path: Path, *, then: str = "start again") -> Iterator[None]:
    """Turns a system's error into one about the path that its block writes; `then` says what to do once it is mended.

    Raises:
      FmnistError: the block raised an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise FmnistError(f"cannot write {path} ({error_reason(error)}): {error_remedy(error)} and {then}") from error


def error_reason(error: OSError) -> str:
    """Why something failed, in the system's words."""
    return error.strerror or str(error) or type(error).__name__


def error_remedy(error: OSError) -> str:
    """How to fix it, as the beginning of a sentence."""
    return next((remedy for codes, remedy in _REMEDIES if error.errno in codes), "fix that")


def _owner(path: Path) -> str:
    """The owner of a directory, as part of a sentence; empty if it is one's own."""
    try:
        return "" if path.stat().st_uid == os.geteuid() else f", owned by {path.owner()}"
    except (OSError, KeyError, NotImplementedError, AttributeError):  # a system without owners, an owner without a name
        return ""
