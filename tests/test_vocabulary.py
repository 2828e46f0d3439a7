"""CONTRIBUTING.md's table of words holds for the names in the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT

PAGE = ROOT / "CONTRIBUTING.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="only in a checkout")


def refused() -> set[str]:
    """The words of the last column."""
    rows = re.findall(r"^\| .+ \| .+ \| (.+) \|$", PAGE.read_text(encoding="utf-8").split("## Words")[1], flags=re.M)
    return {word for row in rows[1:] for word in row.split(", ")}


def names(file: Path) -> Iterator[str]:
    """What a file names: itself, functions, classes, parameters, attributes and variables."""
    yield file.stem
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                yield name


def words(name: str) -> str:
    """`LayerFacts` and `layer_facts` as `_layer_facts_`."""
    return "_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() + "_"


def test_no_name_uses_a_refused_word() -> None:
    unwanted = refused()
    assert {"told", "behind", "facts"} <= unwanted
    found = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / "tnacli").rglob("*.py"))
        for name in names(file)
        for word in unwanted
        if f"_{word}_" in words(name)
    }
    assert found == set()
