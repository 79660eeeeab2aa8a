"""Which packages are installed, asked without importing them."""

from importlib import util


def is_installed(name: str) -> bool:
    """Whether a package can be imported; a folder of its name where the process was started is none."""
    found = util.find_spec(name)
    return found is not None and found.origin is not None
