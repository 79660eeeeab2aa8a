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
def test_keep_freed_memory_avoids_repeated_page_faults() -> None:
    default_faults, faults_with_kept_memory = (
        int(subprocess.run([sys.executable, "-c", _PROGRAM, mode], capture_output=True, check=True).stdout)
        for mode in ("give back", "keep")
    )
    # 64 MB are 15,625 pages of 4 kB; huge pages cause fewer faults, but never as few as kept memory.
    assert default_faults >= 10
    assert faults_with_kept_memory < default_faults / 10


@pytest.mark.parametrize("library", [object(), OSError("no such library"), TypeError("a name, please")])
def test_keep_freed_memory_returns_false_without_mallopt(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: None) -> Any:
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not keep_freed_memory()
