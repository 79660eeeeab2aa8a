"""Which packages are installed, found out without importing them."""

from importlib import util


def is_installed(name: str) -> bool:
    """Whether a package can be imported; a mere folder of that name in the working directory does not count."""
    found = util.find_spec(name)
    return found is not None and found.origin is not None
