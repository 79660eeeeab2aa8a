"""What native code prints and how it aborts, in processes of their own."""

import subprocess
import sys
from pathlib import Path

CODE = """
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


def run(last: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CODE.format(last=last)], capture_output=True, text=True, check=False)


def test_what_python_prints_comes_through_and_what_native_code_prints_is_kept_aside() -> None:
    done = run("print(path.read_text())")
    lines = done.stdout.splitlines()
    assert lines[0] == "said"
    assert lines[2:4] == ["greeting", "stack trace"]
    assert done.stderr == "warned\n"
    assert done.returncode == 0
    assert not Path(lines[1]).exists()


def test_an_abort_ends_with_a_line_of_ours() -> None:
    done = run("path.unlink(); import ctypes; ctypes.CDLL(None).abort()")
    assert done.stderr == "warned\nthe end\n"
    assert done.returncode == 3


def test_a_stream_that_goes_elsewhere_stays_there() -> None:
    code = CODE.replace("import os, sys", "import io, os, sys; sys.stdout = io.StringIO()", 1)
    last = "print(sys.stdout.getvalue(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code.format(last=last)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.stderr.startswith("warned\nsaid\n")
