"""How the process gets memory from the operating system."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER, _NONE = -1, 0


def keep_freed_memory() -> bool:
    """Has glibc keep what the process frees for its next allocation, where it would hand large blocks back.

    XLA:CPU allocates the intermediate results of each call anew, and the kernel clears each page that it hands out
    anew: 15,000 page faults for a step of `fast` of 0.1.0, which takes 56 ms so and 45 ms with memory that was kept
    (experiments.benchmark.page_faults, two cores). Concerns the whole process, so commands do this, not imports.

    Returns:
      Whether the C library could be told; others than glibc have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, _NONE) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
