"""No function has more than eight parameters, and none more than four that are given by position."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST, MOST_POSITIONAL = 8, 4
FILES = [path for room in ("tnacli", "benchmarks", "tests") for path in sorted((ROOT / room).rglob("*.py"))]

BY_POSITION = {
    "tnacli/snn/triton_kernels.py": "Triton launches kernels with pointers and sizes in order",
    "tnacli/snn/triton_operators.py": "PyTorch calls operators with tensors and sizes in order",
}


def functions(tree: ast.AST, within: str = "") -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Every function with the bases of the class that it is a method of, "" outside classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, within
        yield from functions(node, " ".join(map(ast.unparse, node.bases)) if isinstance(node, ast.ClassDef) else "")


def is_called_by_others(function: ast.FunctionDef | ast.AsyncFunctionDef, bases: str) -> bool:
    """Whether nobody writes a call of it: Typer gives a command its options and pytest a test its fixtures, by name;
    PyTorch's `Function.apply` passes on what it is given, by position alone."""
    annotations = [ast.unparse(argument.annotation) for argument in function.args.args if argument.annotation]
    is_command = any("typer." in text or text.startswith("options.") for text in annotations)
    is_test = function.name.startswith("test_") or any("fixture" in ast.unparse(d) for d in function.decorator_list)
    return is_command or is_test or (function.name in ("forward", "backward") and bases == "torch.autograd.Function")


def too_many(path: Path) -> list[str]:
    found = []
    for function, bases in functions(ast.parse(path.read_text("utf-8"))):
        if is_called_by_others(function, bases):
            continue
        positional = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
        positional = positional[1:] if positional[:1] in (["self"], ["cls"]) else positional
        count = len(positional) + len(function.args.kwonlyargs)
        if count > MOST or len(positional) > MOST_POSITIONAL:
            found.append(f"{function.name}: {count} parameters, {len(positional)} by position")
    return found


@pytest.mark.parametrize("room", ["tnacli", "benchmarks", "tests"])
def test_calls_can_be_read(room: str) -> None:
    names = {path: path.relative_to(ROOT).as_posix() for path in FILES if path.is_relative_to(ROOT / room)}
    assert len(names) > 5
    found = {name: too_many(path) for path, name in names.items() if name not in BY_POSITION}
    assert {name: functions for name, functions in found.items() if functions} == {}


@pytest.mark.parametrize("name", BY_POSITION)
def test_an_exception_is_one(name: str) -> None:
    assert too_many(ROOT / name)
