"""Where JAX caches compiled programs."""

import os

from fmnist_jax.config import paths


def keep_executables() -> None:
    """Makes JAX, not yet imported, cache compiled programs in the user's cache unless the environment says otherwise.

    An executable's cache key covers the program, the options, the versions and the device.
    """
    cache = paths.expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    place = cache / "fmnist_jax" / "executables"
    # `lexists`, because `Path.exists` raises for a folder that may not be searched, such as somebody else's home.
    there = next((path for path in (place, place.parent, cache, cache.parent) if os.path.lexists(path)), None)
    if cache.is_absolute() and there is not None and os.access(there, os.W_OK | os.X_OK):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(place))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
