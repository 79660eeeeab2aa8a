"""The rooms of the package: which room may import which, and what a room may not do.

`violations` checks any set of modules against these rules, so that tests can also plant violations.
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

_FILE_ACCESS = frozenset(
    {"io.open", "os", "pathlib", "shutil", "tempfile", "open", "read_text", "write_text", "savefig"}
)
# What only the imperative shell needs: files, clocks, terminals, signals, other processes, hidden random state.
_SIDE_EFFECTS = _FILE_ACCESS | {
    *("datetime", "io", "logging", "matplotlib", "random", "rich", "signal", "socket", "subprocess", "sys"),
    *("threading", "time", "tyro", "print", "input", "jit", "global"),
}


class Room(NamedTuple):
    """A subpackage."""

    floor: int
    """Modules import from lower floors or from their own room."""
    forbidden: frozenset[str] = frozenset()
    """Modules that it may not import, names that it may not call, and `global`."""
    pure: bool = False
    """Whether it has no side effects, and so imports only from rooms without side effects."""
    third_party: bool = True
    """Whether it may import anything outside the standard library."""


HOUSE: Mapping[str, Room] = {
    "doors": Room(8),
    "commands": Room(7),
    "runs": Room(6),
    # A figure is written only to the caller's buffer, for the page that embeds it.
    "views": Room(5, _FILE_ACCESS - {"savefig"} | {"print", "rich.console"}),
    "analysis": Room(4, _SIDE_EFFECTS, pure=True),
    "data": Room(4),
    "functional": Room(3, _SIDE_EFFECTS, pure=True),
    "config": Room(2, pure=True, third_party=False),
    "system": Room(2),
    "errors": Room(1, pure=True, third_party=False),
}
"""Every room by name. The doors are the top-level modules of the package except `errors`."""

ALLOWED_IMPORTERS: Mapping[str, str] = {
    "flax.linen": "functional.model",
    "tensorflow_datasets": "data.fashion_mnist",
    "orbax": "runs",
    "tensorflow": "nowhere",
    "matplotlib.pyplot": "nowhere",
}
"""The only module or room that may import a library."""

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
"""Modules without side effects, in a room whose other modules have some."""


def parse_modules() -> dict[str, ast.Module]:
    """Parses the modules of the package, by their dotted names in it, except each room's `__init__`."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text()) for path in paths}


def room_of(module: str) -> str:
    """The room of a module, given its dotted name in the package, or the name of a room itself."""
    top = module.split(".", maxsplit=1)[0]
    return top if top in HOUSE else "doors"


def may_import(room: str) -> set[str]:
    """The other rooms that a room may import."""
    importer = HOUSE[room]
    return {name for name, other in HOUSE.items() if other.floor < importer.floor and (other.pure or not importer.pure)}


@cache
def imports(tree: ast.AST) -> frozenset[str]:
    """The absolute name of every module, and of every name in a module, that the code imports, at the top or late."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fmnist_jax" if node.level else "", node.module]))
            names.update({module, *(f"{module}.{alias.name}" for alias in node.names)})
    return frozenset(names)


def called_names(tree: ast.AST) -> Iterator[str]:
    """The name of each function or method that the code calls, and `global` where it rebinds outer names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield "global"


def is_within(name: str, package: str) -> bool:
    """Whether a dotted name is a package or is inside it."""
    return name == package or name.startswith(f"{package}.")


def violations(trees: Mapping[str, ast.Module]) -> list[str]:
    """Describes each violation of the rules in a line, for modules by their dotted names in the package."""
    lines = [line for module, tree in trees.items() for line in _module_violations(module, tree)]
    graph = {module: _internal_imports(tree) & trees.keys() for module, tree in trees.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        lines.append(f"a circle of imports: {' -> '.join(error.args[1])}")
    return sorted(lines)


@cache
def _internal_imports(tree: ast.AST) -> frozenset[str]:
    """What the code imports from the package, by name relative to it."""
    return frozenset(name.removeprefix("fmnist_jax.") for name in imports(tree) if name.startswith("fmnist_jax."))


@cache
def _module_violations(module: str, tree: ast.Module) -> tuple[str, ...]:
    return tuple(_find_module_violations(module, tree))


def _find_module_violations(module: str, tree: ast.Module) -> Iterator[str]:
    name, external = room_of(module), {other for other in imports(tree) if not is_within(other, "fmnist_jax")}
    room = HOUSE[name]
    for imported in sorted(_internal_imports(tree)):
        if room_of(imported) not in {name, *may_import(name)}:
            yield f"{module} imports {imported}"
        is_sibling = module in PURE_MODULES and imported.startswith(f"{name}.")
        if is_sibling and not any(is_within(imported, pure_module) for pure_module in PURE_MODULES):
            yield f"{module} imports {imported}"
    forbidden = room.forbidden | (_SIDE_EFFECTS if module in PURE_MODULES else frozenset())
    for imported in sorted(external):
        if any(is_within(imported, prefix) for prefix in forbidden):
            yield f"{module} imports {imported}"
        if not room.third_party and imported.split(".")[0] not in sys.stdlib_module_names:
            yield f"{module} imports {imported}"
        for library, importer in ALLOWED_IMPORTERS.items():
            if is_within(imported, library) and not is_within(module, importer):
                yield f"{module} imports {imported}"
    yield from (f"{module} uses {called}" for called in sorted(set(called_names(tree)) & forbidden))
