"""From pydantic's errors to sentences: what is wrong at which line, what is allowed, what was probably meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from tnacli.recipe.misfit import MisfitError
from tnacli.recipe.node import Node, Problem, show, suggest
from tnacli.recipe.places import bounds, choices, field_at, section_at, setting_keys, unions
from tnacli.recipe.schema import PATTERNS

Loc = tuple[str | int, ...]

_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list in brackets, such as [0, 1]",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def explain(error: ValidationError, tree: Node) -> list[Problem]:
    """A problem for everything that pydantic found wrong with the recipe `tree`.

    What is wrong with a setting that several runs share is one problem; it names the runs if not all have it.
    """
    runs = tuple(tree.entries["runs"].entries) if "runs" in tree.entries else ()
    affected: dict[Problem, list[str]] = {}
    for details in error.errors(include_url=False):
        loc = _places(details["loc"], tree)
        for problem in _problems(dict(details), loc, tree):
            run = str(loc[1]) if loc[:1] == ("runs",) and len(loc) > 1 else ""
            affected.setdefault(problem, []).append(run)
    return [_naming(problem, tuple(dict.fromkeys(found)), runs) for problem, found in affected.items()]


def _naming(problem: Problem, found: tuple[str, ...], runs: tuple[str, ...]) -> Problem:
    if found in (("",), runs) or problem.key.startswith("runs."):
        return problem
    which = f"run {found[0]}" if len(found) == 1 else f"runs {', '.join(found)}"
    return Problem(problem.origin, problem.key, f"{problem.text} (in {which})")


def _places(loc: Loc, tree: Node) -> Loc:
    """pydantic's location without the kinds of unions that it puts in, so that it leads through the tree."""
    path: list[str | int] = []
    for part in loc:
        in_settings = path[2:] if path[:1] == ["runs"] else []
        if len(in_settings) == 1 and in_settings[0] in unions() and part in unions()[str(in_settings[0])][1]:
            kind_known = len(loc) > loc.index(part) + 1
            if kind_known:
                continue
        path.append(part)
    return tuple(path)
