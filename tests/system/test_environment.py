"""What a run says of the machine that it ran on."""

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import pytest

from fmnist_jax.system import environment


def test_versions_and_devices_are_those_of_this_process() -> None:
    described = environment.describe_environment()
    assert described["packages"]["jax"] == metadata.version("jax")
    assert described["backend"] == "cpu"
    assert len(described["devices"]) == len(jax.devices())
    assert json.loads(json.dumps(described)) == described


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.describe_environment()["git_commit"] is None


def test_the_commit_is_none_of_a_repository_that_only_has_an_environment_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "env" / "environment.py"
    installed.parent.mkdir()
    installed.touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert environment.describe_environment()["git_commit"] is None
    subprocess.run([*git, "add", "env"], check=True)
    assert re.fullmatch(r"[0-9a-f]{40}\+changes", environment.describe_environment()["git_commit"])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core")
def test_cores_are_those_that_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert environment.describe_environment()["cpu_count"] == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert environment.describe_environment()["cpu_count"] == len(allowed)


def test_the_processor_is_named_where_the_system_names_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    family = platform.processor() or platform.machine()
    assert environment._processor(cpuinfo) == family
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 50\nmodel name\t:\n")
    assert environment._processor(cpuinfo) == family
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast One\n\nprocessor\t: 1\nmodel name\t: Fast One\n")
    assert environment._processor(cpuinfo) == "Fast One"


@pytest.mark.parametrize(
    ("flags", "vectors"), [("avx avx2", ", AVX2"), ("avx avx2 avx512f avx512dq", ", AVX-512"), ("sse2 notavx2", "")]
)
def test_processors_of_one_name_are_told_apart(tmp_path: Path, flags: str, vectors: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    core = f"processor\t: 0\ncpu family\t: 26\nmodel name\t: AMD EPYC\nflags\t\t: {flags}\n"
    cpuinfo.write_text(f"{core}\n{core}")
    assert environment._processor(cpuinfo) == f"AMD EPYC (family 26{vectors})"


def test_python_is_typed_by_its_path_unless_its_environment_is_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "my env" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(own))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.python_command() == f"'{own}'"
    monkeypatch.chdir(tmp_path)
    assert environment.python_command() == "'my env/bin/python'"
    monkeypatch.setenv("PATH", str(own.parent))
    assert environment.python_command() == "python"
    other = own.with_name("python3")
    other.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(other))
    assert environment.python_command() == "'my env/bin/python3'"
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert environment.python_command() == f"'{other}'"
