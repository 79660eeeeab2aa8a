"""Holds the rules of the design that no single module can hold: who may import whom, and what importing costs."""

import ast
import graphlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fmnist_jax

PACKAGE = Path(fmnist_jax.__file__).parent
TREES = {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
SHARED = {"errors", "config", "presets", "validation"}
CORE = {
    "assessment",
    "augment",
    "augmentation_examples",
    "averaging",
    "calibration",
    "classification",
    "eval_step",
    "exploration",
    "inspection",
    "labels",
    "layers",
    "metrics",
    "mixing",
    "model",
    "optim",
    "photos",
    "recipe",
    "sampling",
    "state",
    "train_step",
    "winograd",
}
# What only a shell needs: files, clocks, terminals, signals, other processes, hidden random state.
EFFECTS = {
    *("datetime", "io", "logging", "matplotlib", "orbax", "os", "pathlib", "random", "rich", "shutil", "signal"),
    *("socket", "subprocess", "sys", "tempfile", "tensorflow_datasets", "threading", "time", "tyro"),
}


def imports(tree: ast.AST) -> set[str]:
    """Every module (and every name out of a module) that the code imports, at the top or late, absolute."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fmnist_jax" if node.level else "", node.module]))
            found.update({module, *(f"{module}.{alias.name}" for alias in node.names)})
    return found


def internal_imports(module: str) -> set[str]:
    """The modules of the package that a module imports, and names of the package that are no module."""
    parts = (name.split(".") for name in imports(TREES[module]))
    return {part[1] for part in parts if part[0] == "fmnist_jax" and len(part) > 1}


def external_imports(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(TREES[module])}


def calls(tree: ast.AST) -> Iterator[str]:
    """The name of each function or method that the code calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr


def run_python(code: str) -> Any:
    """Runs code in a fresh interpreter and parses the JSON that it prints, which must be all that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_core_and_shared_modules_exist() -> None:
    assert TREES.keys() >= CORE | SHARED


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_imports_only_core_and_shared_modules(module: str) -> None:
    assert internal_imports(module) <= CORE | {"errors", "config"}


@pytest.mark.parametrize("module", sorted(SHARED))
def test_shared_modules_import_only_each_other_and_no_jax(module: str) -> None:
    assert internal_imports(module) <= SHARED
    assert external_imports(module) <= {*sys.stdlib_module_names, "fmnist_jax"}


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_has_no_effects(module: str) -> None:
    assert not external_imports(module) & EFFECTS
    assert not set(calls(TREES[module])) & {"print", "open", "input", "read_text", "write_text"}
    assert not [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Global | ast.Nonlocal)]


def test_imports_have_no_cycle() -> None:
    graph = {module: internal_imports(module) & TREES.keys() for module in TREES}
    graphlib.TopologicalSorter(graph).prepare()


def test_only_model_imports_flax_linen() -> None:
    users = {module for module, tree in TREES.items() if any(name.startswith("flax.linen") for name in imports(tree))}
    assert users == {"model"}


def test_only_fashion_mnist_imports_tensorflow_datasets() -> None:
    assert {module for module in TREES if "tensorflow_datasets" in external_imports(module)} == {"fashion_mnist"}


@pytest.mark.parametrize("module", sorted(TREES))
def test_no_module_imports_tensorflow_or_pyplot(module: str) -> None:
    assert "tensorflow" not in external_imports(module)
    assert "matplotlib.pyplot" not in imports(TREES[module])


def test_importing_the_package_is_quick_and_imports_no_jax() -> None:
    answer = run_python(
        "import json, sys, time\n"
        "start = time.perf_counter()\n"
        "import fmnist_jax\n"
        "seconds = time.perf_counter() - start\n"
        "print(json.dumps({'seconds': seconds, 'loaded': sorted(sys.modules)}))"
    )
    assert answer["seconds"] < 1.5
    assert not {"jax", "numpy", "flax", "tensorflow_datasets"} & set(answer["loaded"])


def test_importing_every_module_starts_no_backend() -> None:
    answer = run_python(
        "import importlib, json, sys\n"
        f"for name in {sorted(TREES)}: importlib.import_module(f'fmnist_jax.{{name}}')\n"
        "from jax._src import xla_bridge\n"
        "started = xla_bridge.backends_are_initialized()\n"
        "import jax\n"
        "jax.devices()\n"
        "control = xla_bridge.backends_are_initialized()\n"
        "print(json.dumps({'started': started, 'control': control, 'loaded': sorted(sys.modules)}))"
    )
    assert answer["control"]
    assert not answer["started"]
    assert not {"tensorflow", "matplotlib.pyplot"} & set(answer["loaded"])


def test_every_exported_name_can_be_imported() -> None:
    nodes = ast.parse((PACKAGE / "__init__.pyi").read_text()).body
    exported = {alias.name: node.module for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert exported.keys() == set(dir(fmnist_jax))
    for name, module in exported.items():
        origin = importlib.import_module(f"fmnist_jax.{module}")
        assert getattr(fmnist_jax, name) is getattr(origin, name)


def test_no_exported_name_hides_a_module() -> None:
    assert not set(dir(fmnist_jax)) & TREES.keys()


@pytest.mark.parametrize("module", sorted(TREES))
def test_every_module_has_its_tests(module: str) -> None:
    assert (Path(__file__).parent / f"test_{module.strip('_')}.py").is_file()


@pytest.mark.parametrize("module", sorted(TREES))
def test_every_module_is_short(module: str) -> None:
    assert len((PACKAGE / f"{module}.py").read_text().splitlines()) < 260
