"""Several values where the schema takes one make several runs: `objective: {kind: twin, alpha: [1e-2, 1e-3]}`.

A list is a sweep if the schema takes no list there, and a list of lists if it takes one. Several such keys of a run make every
combination. What `model.args` holds is the user's own and never a sweep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Union, get_args, get_origin

from tnacli.recipe.parse.fields import setting_fields
from tnacli.recipe.parse.node import Node, Problem, plain
from tnacli.recipe.schema.section import Section

Point = tuple[Any, ...]
"""A value for each key of a sweep."""


@dataclass(frozen=True)
class Sweep:
    """The runs that were made of the run `name`: `points` has, by name of each, its values of `keys`, in the recipe's order."""

    name: str
    keys: tuple[str, ...]
    points: Mapping[str, Point]

    @property
    def labels(self) -> tuple[str, ...]:
        """The keys as names of runs have them: the last part alone, where that tells them apart."""
        return _labels(self.keys)


def swept(run: Node) -> dict[str, Node]:
    """The keys of a run's settings at which a sweep stands, with the list."""
    return {
        key: node
        for key, node in _lists(run)
        if (kind := _kind(key)) is not None
        and not node.broken
        and isinstance(node.value, list)
        and (kind == "value" or (node.value and all(isinstance(item.value, list) for item in node.value)))
    }


def expanded(runs: Mapping[str, Node]) -> tuple[dict[str, Node], tuple[Sweep, ...], list[Problem]]:
    """`runs` with each that has sweeps replaced by its points, those sweeps, and what is wrong with them."""
    found: dict[str, Node] = {}
    sweeps: list[Sweep] = []
    problems: list[Problem] = []
    for name, run in runs.items():
        lists = swept(run)
        wrong = [problem for key, node in lists.items() for problem in _wrong(key, node)]
        if wrong or not lists:
            problems += wrong
            found[name] = replace(run, broken=True) if wrong else run
            continue
        labels, points = _labels(tuple(lists)), dict[str, Point]()
        for chosen in product(*(node.value for node in lists.values() if isinstance(node.value, list))):
            point = run
            for key, item in zip(lists, chosen, strict=True):
                point = _with(point, key.split("."), item)
            texts = (f"{label}={value_text(plain(item))}" for label, item in zip(labels, chosen, strict=True))
            one = f"{name}[{','.join(texts)}]"
            points[one] = tuple(plain(item) for item in chosen)
            found[one] = point
        sweeps.append(Sweep(name, tuple(lists), points))
    return found, tuple(sweeps), problems


def value_text(value: Any) -> str:
    """A value as the name of a run has it: 0.01, 1e-6, 16x16."""
    if isinstance(value, list | tuple):
        return "x".join(map(value_text, value)) or "none"
    if isinstance(value, float):
        short = f"{value:g}" if float(f"{value:g}") == value else repr(value)
        return re.sub(r"e([+-])0*", lambda sign: "e-" if sign[1] == "-" else "e", short)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"[\[\]=,\s]+", "_", str(value))


def _lists(run: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    for key, child in run.entries.items():
        if isinstance(child.value, dict):
            yield from _lists(child, f"{prefix}{key}.")
        elif isinstance(child.value, list):
            yield prefix + key, child


def _kind(key: str) -> str | None:
    """ "value" where the schema takes a plain value, "list" where it takes a list; None for anything else."""
    shapes = {shape for field in setting_fields().get(key, ()) for shape in _shapes(field.annotation)}
    return "list" if "list" in shapes else "value" if shapes == {"value"} else None


def _shapes(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin is Union or type(annotation).__name__ == "UnionType":
        for inner in get_args(annotation):
            yield from _shapes(inner)
    elif hasattr(annotation, "__metadata__"):
        yield from _shapes(get_args(annotation)[0])
    elif origin is tuple:
        yield "list"
    elif origin is dict or (isinstance(annotation, type) and issubclass(annotation, Section)):
        yield "mapping"
    elif annotation is not type(None):
        yield "value"


def _wrong(key: str, node: Node) -> Iterator[Problem]:
    items = node.value if isinstance(node.value, list) else []
    if key.startswith("runtime."):
        text = "holds several values, and runtime changes nothing of the result; give one"
        yield Problem(node.origin, node.key, text)
    elif not items:
        yield Problem(node.origin, node.key, "holds no values; give one, or several for a run each")
    texts = [value_text(plain(item)) for item in items]
    for text in dict.fromkeys(text for text in texts if texts.count(text) > 1):
        yield Problem(node.origin, node.key, f"holds {text} twice; each value makes a run, so give each once")


def _labels(keys: tuple[str, ...]) -> tuple[str, ...]:
    last = [key.rpartition(".")[2] for key in keys]
    return tuple(short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True))


def _with(node: Node, path: list[str], item: Node) -> Node:
    inner = item if len(path) == 1 else _with(node.entries[path[0]], path[1:], item)
    return replace(node, value={**node.entries, path[0]: inner})
