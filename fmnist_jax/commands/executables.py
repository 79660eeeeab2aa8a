"""Where JAX caches compiled programs."""

import os
import sys
import warnings
from typing import Any

from fmnist_jax.config import paths
from fmnist_jax.errors import in_one_line
from fmnist_jax.system import output


def enable_compilation_cache() -> None:
    """Makes JAX cache compiled programs in the user's cache, unless the environment or JAX's settings say otherwise.

    An executable's cache key covers the program, the options, the versions and the device.
    """
    cache = paths.expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    cache_dir = cache / "fmnist_jax" / "executables"
    # `lexists`, because `Path.exists` raises for a folder that may not be searched, such as somebody else's home.
    existing_parent = next(
        (path for path in (cache_dir, cache_dir.parent, cache, cache.parent) if os.path.lexists(path)), None
    )
    if cache.is_absolute() and existing_parent is not None and os.access(existing_parent, os.W_OK | os.X_OK):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        jax = sys.modules.get("jax")
        # A script may have imported JAX, which reads the environment only then.
        if jax is not None and jax.config.jax_compilation_cache_dir is None:
            jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
            seconds = float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
            jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def explain_damaged_cache() -> None:
    """Replaces JAX's warning about a cached program that it cannot read by advice: it would never write it anew."""
    show_warning, explained = warnings.showwarning, list[str]()

    def show(message: Warning | str, *where: Any, **options: Any) -> None:
        text = str(message)
        if "Error reading persistent compilation cache entry" not in text:
            show_warning(message, *where, **options)
        elif not explained:  # each program has a warning of its own
            explained.append(text)
            reason = in_one_line(text.partition("': ")[2])
            output.warn(
                f"note: {os.environ.get('JAX_COMPILATION_CACHE_DIR', 'the compilation cache')} holds a program that "
                f"cannot be read ({reason}) and is compiled at every start: "
                "delete that folder, if a kill or a full disk may have cut it short"
            )

    warnings.showwarning = show
