import ctypes
import platform
import subprocess
import sys
from typing import Any

import pytest

from fmnist_jax.system.allocator import keep_freed_memory

_PROGRAM = """
import resource, sys
import numpy as np
from fmnist_jax.system.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = []
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8_000_000)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_memory_is_taken_from_the_kernel_once() -> None:
    anew, kept = (
        int(subprocess.run([sys.executable, "-c", _PROGRAM, mode], capture_output=True, check=True).stdout)
        for mode in ("give back", "keep")
    )
    # 64 MB are 15,625 pages of 4 kB; with transparent huge pages there are fewer faults, but never so few as kept.
    assert anew >= 10
    assert kept < anew / 10


@pytest.mark.parametrize("library", [object(), OSError("no such library"), TypeError("a name, please")])
def test_a_library_without_the_setting_is_left_alone(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: None) -> Any:
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not keep_freed_memory()
