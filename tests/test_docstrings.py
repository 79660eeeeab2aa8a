"""Exported names are documented: their docstrings state shapes and errors, and the examples in them run."""

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
from tests.house import PACKAGE, parse_modules

_TREES = parse_modules()
_ARRAY_TYPES = re.compile(r"\b(?:Array|ndarray)\b")
# As in i32[B], f32[], [B, H, W, C], [M, ...] or [*batch], but no range such as [0, 1].
_SHAPE = re.compile(r"\b(?:[uifc]\d*|bool)\[[^\]]*\]|\[(?=[^\]]*(?:[A-Z]|\.\.\.|\*))[^\]]*\]|\[\]")
_KEY_ARGUMENTS = {"key", "keys"}  # their shape is that of any key


def exported_names() -> Iterator[tuple[str, str]]:
    """Each exported name with the module that defines it."""
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            yield alias.name, node.module or ""


def missing_shapes(tree: ast.Module, name: str) -> Iterator[str]:
    """Yields the parts of a function, class or alias of a module that involve arrays and state no shape."""
    for node, next_statement in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.FunctionDef(name=defined) if defined == name:
                yield from _function_gaps(node, name)
            case ast.ClassDef(name=defined) if defined == name:
                yield from _class_gaps(node)
            case ast.Assign(targets=[ast.Name(id=defined)], value=value) if defined == name:
                yield from _field_gaps(name, value, next_statement)
            case ast.AnnAssign(target=ast.Name(id=defined), annotation=annotation) if defined == name:
                yield from _field_gaps(name, annotation, next_statement)


def _function_gaps(node: ast.FunctionDef, name: str) -> Iterator[str]:
    docstring = ast.get_docstring(node) or ""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    annotations = [argument.annotation for argument in arguments if argument.arg not in _KEY_ARGUMENTS] + [node.returns]
    takes_arrays = any(
        _ARRAY_TYPES.search(ast.unparse(annotation)) for annotation in annotations if annotation is not None
    )
    if not docstring or (takes_arrays and not _SHAPE.search(docstring)):
        yield name


def _class_gaps(node: ast.ClassDef) -> Iterator[str]:
    if not ast.get_docstring(node):
        yield node.name
    for statement, next_statement in zip(node.body, [*node.body[1:], None], strict=True):
        match statement:
            case ast.FunctionDef(name=method) if not method.startswith("_") or method == "__call__":
                yield from _function_gaps(statement, f"{node.name}.{method}")
            case ast.AnnAssign(target=ast.Name(id=field), annotation=annotation) if field not in _KEY_ARGUMENTS:
                yield from _field_gaps(f"{node.name}.{field}", annotation, next_statement)


def _field_gaps(name: str, annotation: ast.expr, next_statement: ast.stmt | None) -> Iterator[str]:
    """A field or an alias is documented by the string that follows it."""
    match next_statement:
        case ast.Expr(value=ast.Constant(value=str(docstring))):
            pass
        case _:
            docstring = ""
    if _ARRAY_TYPES.search(ast.unparse(annotation)) and not _SHAPE.search(docstring):
        yield name


def undocumented_errors(tree: ast.Module, name: str) -> Iterator[str]:
    """Yields the functions and methods of an exported name that raise an error that they do not document."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            functions = [node] if isinstance(node, ast.FunctionDef) else node.body
            for function in functions:
                raises = any(isinstance(inner, ast.Raise) and inner.exc for inner in ast.walk(function))
                if isinstance(function, ast.FunctionDef) and raises:
                    docstring = ast.get_docstring(function) or ""
                    yield from (
                        () if re.search(r"\braises?\b|\brefuses?\b", docstring, re.IGNORECASE) else (function.name,)
                    )


@pytest.mark.parametrize(("name", "module"), sorted(exported_names()))
def test_exported_names_document_shapes_and_errors(name: str, module: str) -> None:
    assert list(missing_shapes(_TREES[module], name)) == []
    assert list(undocumented_errors(_TREES[module], name)) == []


@pytest.mark.parametrize(
    ("code", "expected"),
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
def test_missing_shapes_are_reported(code: str, expected: list[str]) -> None:
    assert list(missing_shapes(ast.parse(code), "f")) == expected


def test_undocumented_error_is_reported() -> None:
    code = "def f():\n    '''Does.{}'''\n    raise ValueError('no')"
    assert list(undocumented_errors(ast.parse(code.format("")), "f")) == ["f"]
    assert (
        list(undocumented_errors(ast.parse(code.format("\n\n    Raises:\n      ValueError: always.\n    ")), "f")) == []
    )


# What an example may use without importing it, as in the README.
_EXAMPLE_GLOBALS = {"fj": fmnist_jax, "jax": jax, "jnp": jnp, "np": np, "optax": optax}
_MODULES_WITH_EXAMPLES = sorted(module for module, tree in _TREES.items() if ">>> " in ast.unparse(tree))


@pytest.mark.parametrize("module", _MODULES_WITH_EXAMPLES)
def test_docstring_examples_run(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    doctests = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(f"fmnist_jax.{module}"))
    tests = [test for test in doctests if test.examples]
    assert tests
    runner = doctest.DocTestRunner()
    for test in tests:
        test.globs = dict(_EXAMPLE_GLOBALS)
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


def test_at_least_ten_modules_have_examples() -> None:
    assert len(_MODULES_WITH_EXAMPLES) >= 10
