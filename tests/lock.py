"""Pins the newest checkers and test tools, with their dependencies, in `constraints.txt`: `make lock`.

They are resolved for the lowest Python that `pyproject.toml` supports, so that one file works for all versions.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

_FOLDER = Path(__file__).parent
# The package's own dependencies, and the libraries that its tests compare against, stay at their lower bounds.
TOOLS = ("hypothesis", "mypy", "pytest", "pytest-xdist", "ruff", "vulture")
_UNPINNED = {"packaging", "pygments", "typing_extensions"}  # also dependencies of the package
_HEADER = "# Tools whose new releases can break a build that nobody touched; `make lock` renews them.\n"


def lowest_python(pyproject: Path) -> str:
    """The lowest Python that the package supports, such as 3.11."""
    required: str = tomllib.loads(pyproject.read_text())["project"]["requires-python"]
    return required.removeprefix(">=")


def resolve_versions(python: str) -> dict[str, str]:
    """The newest version of each tool, and of dependencies that only the tools have, by name."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--dry-run", "--ignore-installed", "--report", "-", "--target", folder]
        platform = ["--python-version", python, "--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "install", *options, *platform, *TOOLS]
        report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    versions = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in report["install"]}
    return {name: version for name, version in versions.items() if name not in _UNPINNED}


def render(versions: dict[str, str]) -> str:
    """The constraints file, one line per package."""
    return _HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    (_FOLDER / "constraints.txt").write_text(render(resolve_versions(lowest_python(_FOLDER.parent / "pyproject.toml"))))
