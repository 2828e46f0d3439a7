"""Paths in recipes: seen from the file that says them, and on the command line from the current folder.

They are absolute from then on, so that a checkpoint finds its data again wherever it is used from.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from tnacli.recipe.parse.node import Node
from tnacli.recipe.schema.patterns import BUILD


def located(path: str, folder: Path) -> str:
    """`path` as an absolute one, seen from `folder`; `~` is the home folder."""
    home = Path(path)
    if path.startswith("~"):
        try:
            home = home.expanduser()
        except RuntimeError:  # nobody of that name: a folder that is called so
            home = Path(path)
    return str(folder.absolute() / home)


def anchored(layer: Node, file: Path | None) -> Node:
    """The settings of `layer`, and of its runs, with every path in them as seen from `file`, or from here."""
    folder = file.parent if file is not None and file.is_file() else Path.cwd()  # a pipe lies nowhere

    def place(value: str) -> str:
        return located(value, folder)

    def build(value: str) -> str:
        if not re.search(BUILD, value):
            return value  # which the schema refuses
        lies, slash, function = value.rpartition("/")
        module = folder / re.split("[.:]", function)[0]
        if not slash and not module.is_dir() and not module.with_suffix(".py").is_file():
            return function  # of an installed package
        return os.path.join(located(lies or "/" if slash else "", folder), function)

    def settings(node: Node) -> Node:
        for section, key, path in (("data", "root", place), ("model", "build", build), ("train", "initial", place)):
            outer = node.child(section)
            inner = outer.child(key) if outer is not None else None
            if outer is not None and inner is not None and isinstance(inner.value, str):
                changed = {**outer.entries, key: replace(inner, value=path(inner.value))}
                node = replace(node, value={**node.entries, section: replace(outer, value=changed)})
        return node

    runs = layer.child("runs")
    if runs is not None and isinstance(runs.value, dict):
        own = replace(runs, value={name: settings(run) for name, run in runs.entries.items()})
        layer = replace(layer, value={**layer.entries, "runs": own})
    return settings(layer)
