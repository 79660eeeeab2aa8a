"""Where JAX caches compiled programs."""

import os
import sys

from fmnist_jax.config import paths


def keep_executables() -> None:
    """Makes JAX cache compiled programs in the user's cache, unless the environment or JAX's settings say otherwise.

    An executable's cache key covers the program, the options, the versions and the device.
    """
    cache = paths.expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    place = cache / "fmnist_jax" / "executables"
    # `lexists`, because `Path.exists` raises for a folder that may not be searched, such as somebody else's home.
    there = next((path for path in (place, place.parent, cache, cache.parent) if os.path.lexists(path)), None)
    if cache.is_absolute() and there is not None and os.access(there, os.W_OK | os.X_OK):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(place))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        jax = sys.modules.get("jax")
        # A script may have imported JAX, which reads the environment only then.
        if jax is not None and jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
            seconds = float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
            jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
