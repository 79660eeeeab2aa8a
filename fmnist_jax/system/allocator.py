"""How the process gets memory from the operating system."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h
_NEVER, _NONE = -1, 0


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the next allocation, where it would return large blocks to the system.

    XLA:CPU allocates the intermediate results of each call anew, and the kernel zeroes each page that it newly maps:
    15,000 page faults for a step of `fast` in version 0.1.0, which takes 56 ms with them and 45 ms with kept memory
    (experiments.benchmark.page_faults, two cores). This affects the whole process, so commands do it, not imports.

    Returns:
      Whether the C library accepted the setting, which only glibc has.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, _NONE) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
