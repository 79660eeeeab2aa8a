"""The rooms of the package, stated once: who may import whom, and what a room may not do.

`violations` holds any set of modules against it, so that a test can also plant what must be found.
"""

import ast
import graphlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import fmnist_jax

PACKAGE = Path(fmnist_jax.__file__).parent

_FILES = frozenset({"io.open", "os", "pathlib", "shutil", "tempfile", "open", "read_text", "write_text", "savefig"})
# What only a shell needs: files, clocks, terminals, signals, other processes, hidden random state.
_EFFECTS = _FILES | {
    *("datetime", "io", "logging", "matplotlib", "random", "rich", "signal", "socket", "subprocess", "sys"),
    *("threading", "time", "tyro", "print", "input", "jit", "global"),
}


class Room(NamedTuple):
    """A folder of the package."""

    floor: int
    """Imports run from a floor to a lower one, or stay in the room."""
    without: frozenset[str] = frozenset()
    """Modules that its own may not import, names that they may not call, and `global`."""
    pure: bool = False
    """Whether it has no effects, and so imports from rooms without effects alone."""
    third_party: bool = True
    """Whether it may import what Python does not bring."""


HOUSE: Mapping[str, Room] = {
    "doors": Room(8),
    "commands": Room(7),
    "runs": Room(6),
    # A figure is written to the caller's buffer at most, for the page that it becomes a part of.
    "views": Room(5, _FILES - {"savefig"} | {"print", "rich.console"}),
    "analysis": Room(4, _EFFECTS, pure=True),
    "data": Room(4),
    "functional": Room(3, _EFFECTS, pure=True),
    "config": Room(2, pure=True, third_party=False),
    "system": Room(2),
    "errors": Room(1, pure=True, third_party=False),
}
"""Every room by its name. The doors are the modules at the top of the package, but for `errors`."""

PLACES: Mapping[str, str] = {
    "flax.linen": "functional.model",
    "tensorflow_datasets": "data.fashion_mnist",
    "orbax": "runs",
    "tensorflow": "nowhere",
    "matplotlib.pyplot": "nowhere",
}
"""The one module, or room, that may import a library."""

PURE_MODULES = {
    *(
        "data.colour_models",
        "data.lighting",
        "data.shoe_pairs",
        "data.photos",
        "data.postures",
        "data.segmentation",
        "data.silhouettes",
        "data.skin",
        "data.surfaces",
        "data.synthetic",
    ),
}
"""Modules that have no effects, in a room of others that have."""


def modules() -> dict[str, ast.Module]:
    """The parsed modules of the package, by their dotted names in it, without each room's `__init__`."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text()) for path in paths}


def room_of(module: str) -> str:
    """The room that a module of the package stands in, or that a room's name is."""
    first = module.split(".", maxsplit=1)[0]
    return first if first in HOUSE else "doors"


def may_import(room: str) -> set[str]:
    """The other rooms that a room may import."""
    own = HOUSE[room]
    return {name for name, other in HOUSE.items() if other.floor < own.floor and (other.pure or not own.pure)}


@cache
def imports(tree: ast.AST) -> frozenset[str]:
    """Every module (and every name out of a module) that the code imports, at the top or late, absolute."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fmnist_jax" if node.level else "", node.module]))
            found.update({module, *(f"{module}.{alias.name}" for alias in node.names)})
    return frozenset(found)


def called(tree: ast.AST) -> Iterator[str]:
    """The name of each function or method that the code calls, and `global` where it binds outer names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield "global"


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def violations(trees: Mapping[str, ast.Module]) -> list[str]:
    """Says what breaks the rules, a line each, in modules by their dotted names in the package."""
    found = [line for module, tree in trees.items() for line in _of_module(module, tree)]
    graph = {module: _inside(tree) & trees.keys() for module, tree in trees.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append(f"a circle of imports: {' -> '.join(error.args[1])}")
    return sorted(found)


@cache
def _inside(tree: ast.AST) -> frozenset[str]:
    """What the code imports of the package, relative to it."""
    return frozenset(name.removeprefix("fmnist_jax.") for name in imports(tree) if name.startswith("fmnist_jax."))


@cache
def _of_module(module: str, tree: ast.Module) -> tuple[str, ...]:
    return tuple(_lines_of_module(module, tree))


def _lines_of_module(module: str, tree: ast.Module) -> Iterator[str]:
    name, outside = room_of(module), {each for each in imports(tree) if not within(each, "fmnist_jax")}
    room = HOUSE[name]
    for imported in sorted(_inside(tree)):
        if room_of(imported) not in {name, *may_import(name)}:
            yield f"{module} imports {imported}"
        beside = module in PURE_MODULES and imported.startswith(f"{name}.")
        if beside and not any(within(imported, pure) for pure in PURE_MODULES):
            yield f"{module} imports {imported}"
    forbidden = room.without | (_EFFECTS if module in PURE_MODULES else frozenset())
    for imported in sorted(outside):
        if any(within(imported, each) for each in forbidden):
            yield f"{module} imports {imported}"
        if not room.third_party and imported.split(".")[0] not in sys.stdlib_module_names:
            yield f"{module} imports {imported}"
        for library, place in PLACES.items():
            if within(imported, library) and not within(module, place):
                yield f"{module} imports {imported}"
    yield from (f"{module} uses {each}" for each in sorted(set(called(tree)) & forbidden))
