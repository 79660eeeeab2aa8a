"""The environment of a run: machine, devices and package versions."""

import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

_PACKAGES = ("fmnist_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")

_VECTOR_EXTENSIONS = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""Vector extensions of x86, the widest first, by the names that Linux gives them."""


def describe_environment() -> dict[str, Any]:
    """Describes what a run ran on: versions, devices, and the git commit of the package if it has one."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(Path("/proc/cpuinfo")),
        "cpu_count": _cpu_count(),
        "backend": device.platform,
        "devices": [str(item.device_kind) for item in jax.devices()],
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def package_versions() -> dict[str, str | None]:
    """The installed version of each package that affects the computation; None if it is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def python_command() -> str:
    """How to call this interpreter in a shell: by its path, unless its environment has been activated."""
    on_path, here = shutil.which("python"), Path(sys.executable)
    # The same file in the same folder, because several environments may link to the same interpreter.
    if not sys.executable or (on_path is not None and Path(on_path).parent == here.parent and here.samefile(on_path)):
        return "python"
    with contextlib.suppress(OSError, ValueError):  # the working directory is gone, or elsewhere
        here = here.relative_to(Path.cwd())
    return shlex.quote(str(here))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor(cpuinfo: Path) -> str:
    """The processor's name if the system reports it, else its architecture, such as x86_64.

    Includes its family and widest vector extension, because a virtual machine may report only the brand.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    flags = fields.get("flags", "").split()
    family = [f"family {fields['cpu family']}"] if fields.get("cpu family") else []
    vectors = [name for flag, name in _VECTOR_EXTENSIONS.items() if flag in flags][:1]
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({', '.join(details)})" if (details := family + vectors) else name


def _cpu_count() -> int | None:
    """The number of cores that this process may use, which `taskset` can restrict."""
    if hasattr(os, "sched_getaffinity"):  # not macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _git_commit() -> str | None:
    """The commit checked out in the repository of the package, with `+changes` if its code differs from it.

    None for a package that is installed inside another repository, such as in a virtual environment there.
    """
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        code = (":(top)*.py", ":(top)pyproject.toml")  # not results, which experiments write one after another
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno", "--", *code], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed.stdout else commit
