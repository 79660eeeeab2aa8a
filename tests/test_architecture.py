"""Design rules that span modules: which room may import which, and what importing costs."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fmnist_jax
from tests.house import HOUSE, PACKAGE, may_import, parse_modules, room_of, violations

MODULES = parse_modules()
FOLDERS = sorted(HOUSE.keys() - {"doors", "errors"})
DOORS = sorted(module for module in MODULES if room_of(module) == "doors")


def run_python(code: str, *paths: Path) -> Any:
    """Runs code in a fresh interpreter, with further `paths` to import from.

    Returns:
      The JSON that it prints, which must be its only output.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [PACKAGE.parent, *paths]))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_package_follows_its_import_rules() -> None:
    assert len(MODULES) > 50
    assert violations(MODULES) == []


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        ("functional.layers", "from fmnist_jax.runs import checkpoint", "imports runs"),
        ("functional.layers", "from fmnist_jax.system.lock import exclusive", "imports system.lock"),
        ("functional.layers", "from fmnist_jax import train", "imports train"),
        ("functional.layers", "from flax import linen", "imports flax.linen"),
        ("functional.layers", "import flax.linen as nn", "imports flax.linen"),
        ("functional.layers", "import time", "imports time"),
        ("functional.layers", "print(1)", "uses print"),
        ("functional.layers", "conv = jax.jit(conv)", "uses jit"),
        ("functional.layers", "def count():\n    global calls\n    calls = 1", "uses global"),
        ("functional.layers", "from fmnist_jax.functional import recipe", "a circle of imports"),
        ("analysis.census", "from fmnist_jax.data import dataset", "imports data"),
        ("analysis.census", "from pathlib import Path", "imports pathlib"),
        ("data.dataset", "from fmnist_jax.analysis.census import summarize_split", "imports analysis.census"),
        ("data.dataset", "import tensorflow_datasets as tfds", "imports tensorflow_datasets"),
        ("data.synthetic", "import time", "imports time"),
        ("views.scores", "from matplotlib import pyplot", "imports matplotlib.pyplot"),
        ("views.scores", "figure.write_text('a')", "uses write_text"),
        ("views.scores", "def late():\n    import orbax.checkpoint", "imports orbax.checkpoint"),
        ("runs.results", "from fmnist_jax.commands import reporting", "imports commands"),
        ("config.schema", "import jax", "imports jax"),
        ("config.schema", "from fmnist_jax.system import storage", "imports system"),
        ("errors", "from fmnist_jax.config.schema import Config", "imports config.schema"),
        ("system.storage", "from fmnist_jax.config import schema", "imports config"),
        ("system.storage", "import tensorflow as tf", "imports tensorflow"),
    ],
)
def test_planted_violation_is_reported(module: str, code: str, expected: str) -> None:
    planted = ast.Module(MODULES[module].body + ast.parse(code).body, [])
    assert any(expected in line for line in violations({**MODULES, module: planted}))


@pytest.mark.parametrize("room", FOLDERS)
def test_room_docstring_states_its_imports_and_what_to_read_first(room: str) -> None:
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
    assert len(tree.body) == 1
    docstring = " ".join((ast.get_docstring(tree) or "").split())
    imports_sentence = re.search(r"May import (.*?)\.", docstring)
    assert imports_sentence is not None
    assert set(re.findall(r"`(\w+)`", imports_sentence[1])) == may_import(room)
    read_first = re.search(r"Read first: `(\w+)\.(\w+)`", docstring)
    assert read_first is not None
    assert hasattr(importlib.import_module(f"fmnist_jax.{room}.{read_first[1]}"), read_first[2])


def test_every_subpackage_is_a_room() -> None:
    assert sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")) == FOLDERS
    assert {module for module in MODULES if "." not in module} == {*DOORS, "errors"}


def test_package_import_is_fast_and_does_not_load_jax() -> None:
    report = run_python(
        "import json, sys, time\n"
        "start = time.perf_counter()\n"
        "import fmnist_jax\n"
        "seconds = time.perf_counter() - start\n"
        "print(json.dumps({'seconds': seconds, 'loaded': sorted(sys.modules)}))"
    )
    assert report["seconds"] < 1.5
    assert not {"jax", "numpy", "flax", "tensorflow_datasets"} & set(report["loaded"])


def test_command_modules_import_without_jax() -> None:
    loaded = run_python(
        "import importlib, json, sys\n"
        f"for name in {DOORS}: importlib.import_module(f'fmnist_jax.{{name}}')\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert not {"jax", "flax", "matplotlib", "orbax", "tensorflow_datasets"} & set(loaded)


def test_importing_every_module_starts_no_backend_and_imports_no_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").touch()  # so that importing it would succeed
    report = run_python(
        "import importlib, json, sys\n"
        f"for name in {sorted(MODULES)}: importlib.import_module(f'fmnist_jax.{{name}}')\n"
        "from jax._src import xla_bridge\n"
        "started = xla_bridge.backends_are_initialized()\n"
        "import jax\n"
        "jax.devices()\n"
        "control = xla_bridge.backends_are_initialized()\n"
        "print(json.dumps({'started': started, 'control': control, 'loaded': sorted(sys.modules)}))",
        tmp_path,
    )
    assert report["control"]
    assert not report["started"]
    assert not {"tensorflow", "matplotlib.pyplot"} & set(report["loaded"])


def test_every_exported_name_can_be_imported() -> None:
    nodes = ast.parse((PACKAGE / "__init__.pyi").read_text()).body
    exported = {alias.name: node.module for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert exported.keys() == set(dir(fmnist_jax))
    for name, module in exported.items():
        source_module = importlib.import_module(f"fmnist_jax.{module}")
        assert getattr(fmnist_jax, name) is getattr(source_module, name)


def test_exported_names_do_not_shadow_modules() -> None:
    assert not set(dir(fmnist_jax)) & {module.split(".")[0] for module in MODULES}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_a_test_file(module: str) -> None:
    *room, name = module.split(".")
    assert Path(__file__).parent.joinpath(*room, f"test_{name.strip('_')}.py").is_file()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_is_under_260_lines(module: str) -> None:
    assert len((PACKAGE / f"{module.replace('.', '/')}.py").read_text().splitlines()) < 260
