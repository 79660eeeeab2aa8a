"""The output and aborts of native code, in separate processes."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
from fmnist_jax.system import native_output
path = native_output.redirect_to_file("a-test")
native_output.on_abort(lambda: (print("the end", file=sys.stderr), os._exit(3)))
os.write(1, b"greeting\\n")
os.write(2, b"stack trace\\n")
print("said")
print("warned", file=sys.stderr)
print(path)
{last}
"""


def run_script(last: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT.format(last=last)], capture_output=True, text=True, check=False)


def test_python_output_passes_through_and_native_output_goes_to_a_file() -> None:
    completed = run_script("print(path.read_text())")
    lines = completed.stdout.splitlines()
    assert lines[0] == "said"
    assert lines[2:4] == ["greeting", "stack trace"]
    assert completed.stderr == "warned\n"
    assert completed.returncode == 0
    assert not Path(lines[1]).exists()


def test_abort_prints_a_line_of_ours_and_exits_with_our_code() -> None:
    completed = run_script("path.unlink(); import ctypes; ctypes.CDLL(None).abort()")
    assert completed.stderr == "warned\nthe end\n"
    assert completed.returncode == 3


def test_replaced_stdout_is_left_alone() -> None:
    code = SCRIPT.replace("import os, sys", "import io, os, sys; sys.stdout = io.StringIO()", 1)
    last = "print(sys.stdout.getvalue(), file=sys.stderr)"
    completed = subprocess.run(
        [sys.executable, "-c", code.format(last=last)], capture_output=True, text=True, check=False
    )
    assert completed.stdout == ""
    assert completed.stderr.startswith("warned\nsaid\n")
