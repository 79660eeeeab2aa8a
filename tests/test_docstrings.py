"""What is exported says what it takes: every docstring names shapes, and every example in one runs."""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fmnist_jax
from tests.house import PACKAGE, modules

_TREES = modules()
_ARRAYS = re.compile(r"\b(?:Array|ndarray)\b")
# As in i32[B], f32[], [B, H, W, C], [M, ...] or [*batch], but no range such as [0, 1].
_SHAPE = re.compile(r"\b(?:[uifc]\d*|bool)\[[^\]]*\]|\[(?=[^\]]*(?:[A-Z]|\.\.\.|\*))[^\]]*\]|\[\]")
_KEYS = {"key", "keys"}  # arguments of no other shape than a key has


def exported() -> Iterator[tuple[str, str]]:
    """Each exported name with the module that it is from."""
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            yield alias.name, node.module or ""


def undescribed(tree: ast.Module, name: str) -> Iterator[str]:
    """Names the parts of a module's function, class or alias that deal in arrays and state no shape."""
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.FunctionDef(name=found) if found == name:
                yield from _of_function(node, name)
            case ast.ClassDef(name=found) if found == name:
                yield from _of_class(node)
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                yield from _of_field(name, value, after)
            case ast.AnnAssign(target=ast.Name(id=found), annotation=annotation) if found == name:
                yield from _of_field(name, annotation, after)


def _of_function(node: ast.FunctionDef, name: str) -> Iterator[str]:
    words = ast.get_docstring(node) or ""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    kinds = [each.annotation for each in arguments if each.arg not in _KEYS] + [node.returns]
    takes_arrays = any(_ARRAYS.search(ast.unparse(kind)) for kind in kinds if kind is not None)
    if not words or (takes_arrays and not _SHAPE.search(words)):
        yield name


def _of_class(node: ast.ClassDef) -> Iterator[str]:
    if not ast.get_docstring(node):
        yield node.name
    for inner, after in zip(node.body, [*node.body[1:], None], strict=True):
        match inner:
            case ast.FunctionDef(name=method) if not method.startswith("_") or method == "__call__":
                yield from _of_function(inner, f"{node.name}.{method}")
            case ast.AnnAssign(target=ast.Name(id=field), annotation=annotation) if field not in _KEYS:
                yield from _of_field(f"{node.name}.{field}", annotation, after)


def _of_field(name: str, kind: ast.expr, after: ast.stmt | None) -> Iterator[str]:
    """A field or an alias is described by the string that stands after it."""
    match after:
        case ast.Expr(value=ast.Constant(value=str(words))):
            pass
        case _:
            words = ""
    if _ARRAYS.search(ast.unparse(kind)) and not _SHAPE.search(words):
        yield name


def untold(tree: ast.Module, name: str) -> Iterator[str]:
    """Names the functions and methods of a module's export that raise an error without a word on it."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            functions = [node] if isinstance(node, ast.FunctionDef) else node.body
            for function in functions:
                raises = any(isinstance(each, ast.Raise) and each.exc for each in ast.walk(function))
                if isinstance(function, ast.FunctionDef) and raises:
                    words = ast.get_docstring(function) or ""
                    yield from () if re.search(r"\braises?\b|\brefuses?\b", words, re.IGNORECASE) else (function.name,)


@pytest.mark.parametrize(("name", "module"), sorted(exported()))
def test_what_is_exported_states_shapes_and_errors(name: str, module: str) -> None:
    assert list(undescribed(_TREES[module], name)) == []
    assert list(untold(_TREES[module], name)) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(x: Array) -> Array:\n    '''Doubles f32[B].'''", []),
        ("def f(x: Array) -> Array:\n    '''Doubles it.'''", ["f"]),
        ("def f(x: Array) -> Array:\n    '''Doubles what is in [0, 1].'''", ["f"]),
        ("def f(x: int) -> np.ndarray:\n    '''Counts.'''", ["f"]),
        ("def f(key: Array) -> int:\n    '''Draws.'''", []),
        ("def f(x: int) -> int:\n    pass", ["f"]),
        ("class f:\n    '''Holds.'''\n    x: Array\n    '''Some.'''\n    y: Array\n    '''i32[B].'''", ["f.x"]),
        ("class f:\n    '''Holds.'''\n    def take(self, i: Array) -> None:\n        '''Takes.'''", ["f.take"]),
        ("f = Callable[[Array], Array]", ["f"]),
        ("f = Callable[[Array], Array]\n'''`f32[B] -> f32[B]`.'''", []),
    ],
)
def test_a_docstring_without_shapes_is_found(code: str, found: list[str]) -> None:
    assert list(undescribed(ast.parse(code), "f")) == found


def test_an_error_without_a_word_is_found() -> None:
    code = "def f():\n    '''Does.{}'''\n    raise ValueError('no')"
    assert list(untold(ast.parse(code.format("")), "f")) == ["f"]
    assert list(untold(ast.parse(code.format("\n\n    Raises:\n      ValueError: always.\n    ")), "f")) == []


# What an example may use without importing it, as the README does.
_NAMES = {"fj": fmnist_jax, "jax": jax, "jnp": jnp, "np": np, "optax": optax}
_WITH_EXAMPLES = sorted(module for module, tree in _TREES.items() if ">>> " in ast.unparse(tree))


@pytest.mark.parametrize("module", _WITH_EXAMPLES)
def test_every_example_of_a_docstring_runs(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(f"fmnist_jax.{module}"))
    tests = [test for test in found if test.examples]
    assert tests
    runner = doctest.DocTestRunner()
    for test in tests:
        test.globs = dict(_NAMES)
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


def test_there_are_examples() -> None:
    assert len(_WITH_EXAMPLES) >= 10
