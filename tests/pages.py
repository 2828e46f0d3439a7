"""What pages of the documentation point to in the code, written as `folder/file.py:name` or `folder/file.py`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.documents import ROOT

_POINTER = re.compile(r"`([\w./-]+\.(?:py|c|h|yaml|toml|md))(?::([\w.]+))?`")


def pointers(text: str) -> list[tuple[str, str]]:
    """The files that `text` names, each with the name after its `:`, or nothing."""
    return _POINTER.findall(text)


def missing(file: str, name: str = "") -> str:
    """What is not there of `file`, a path in the package, in recipes/ or from the root, and `name` in it; nothing if all is.

    A name is a function, class or constant, a method as `Class.method`.
    """
    path = next((at for at in (ROOT / "tnacli" / file, ROOT / "recipes" / file, ROOT / file) if at.is_file()), None)
    if path is None:
        return file
    if not name:
        return ""
    source = path.read_text("utf-8")
    found = set(_defined(ast.parse(source))) if path.suffix == ".py" else set(re.findall(r"\w \*?(\w+)\(", source))
    return "" if name in found else f"{file}:{name}"


def _defined(node: ast.Module | ast.ClassDef, within: str = "") -> Iterator[str]:
    for child in node.body:
        match child:
            case ast.FunctionDef(name=name):
                yield within + name
            case ast.ClassDef(name=name):
                yield within + name
                yield from _defined(child, f"{within}{name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield within + name
