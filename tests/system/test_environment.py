"""The description of the machine that a run ran on."""

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


def test_environment_has_the_versions_and_devices_of_this_process() -> None:
    described = environment.describe_environment()
    assert described["packages"]["jax"] == metadata.version("jax")
    assert described["backend"] == "cpu"
    assert len(described["devices"]) == len(jax.devices())
    assert json.loads(json.dumps(described)) == described


def test_git_commit_is_none_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.describe_environment()["git_commit"] is None


def test_git_commit_is_none_if_the_repository_does_not_track_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hook of git's, in which the tests may run, points to a repository of its own.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    module_file = tmp_path / "env" / "environment.py"
    module_file.parent.mkdir()
    module_file.touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(environment, "__file__", str(module_file))
    assert environment.describe_environment()["git_commit"] is None
    subprocess.run([*git, "add", "env"], check=True)
    assert re.fullmatch(r"[0-9a-f]{40}\+changes", environment.describe_environment()["git_commit"])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core")
def test_cpu_count_is_that_of_the_cores_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert environment.describe_environment()["cpu_count"] == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert environment.describe_environment()["cpu_count"] == len(allowed)


def test_processor_name_is_read_from_cpuinfo_with_a_fallback(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    fallback = platform.processor() or platform.machine()
    assert environment._processor(cpuinfo) == fallback
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 50\nmodel name\t:\n")
    assert environment._processor(cpuinfo) == fallback
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast One\n\nprocessor\t: 1\nmodel name\t: Fast One\n")
    assert environment._processor(cpuinfo) == "Fast One"


@pytest.mark.parametrize(
    ("flags", "vector_suffix"),
    [("avx avx2", ", AVX2"), ("avx avx2 avx512f avx512dq", ", AVX-512"), ("sse2 notavx2", "")],
)
def test_processor_name_includes_family_and_vector_extensions(tmp_path: Path, flags: str, vector_suffix: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    core_entry = f"processor\t: 0\ncpu family\t: 26\nmodel name\t: AMD EPYC\nflags\t\t: {flags}\n"
    cpuinfo.write_text(f"{core_entry}\n{core_entry}")
    assert environment._processor(cpuinfo) == f"AMD EPYC (family 26{vector_suffix})"


def test_python_command_is_a_path_unless_its_environment_is_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "my env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.python_command() == f"'{python}'"
    monkeypatch.chdir(tmp_path)
    assert environment.python_command() == "'my env/bin/python'"
    monkeypatch.setenv("PATH", str(python.parent))
    assert environment.python_command() == "python"
    python3 = python.with_name("python3")
    python3.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python3))
    assert environment.python_command() == "'my env/bin/python3'"
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert environment.python_command() == f"'{python3}'"
