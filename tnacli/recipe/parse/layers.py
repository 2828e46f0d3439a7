"""The layers of a recipe, each read from where it is written: files that extend others, overlays, overrides.

A layer is a mapping of settings as written. Its number says what it is laid over: 0 is the recipe's file,
what that extends lies below, overlays and overrides above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tnacli.errors import RecipeError
from tnacli.recipe.parse.fields import COMMON, FILE, SETTINGS, unknown_key
from tnacli.recipe.parse.find import find_extended, find_overlay, shown
from tnacli.recipe.parse.located import anchored
from tnacli.recipe.parse.merge import keys_of_no_kind, merge
from tnacli.recipe.parse.node import Location, Node, Problem, quoted, show, suggest
from tnacli.recipe.parse.take_back import runs_not_there
from tnacli.recipe.parse.yaml_strict import read_value, read_yaml
from tnacli.recipe.schema.patterns import NAME, PATTERNS

_OF_ONE_FILE = ("name", "description", "extends")


@dataclass(frozen=True)
class Override:
    """One `--set`: settings for every run, or for the one called `run`, which null takes back."""

    settings: Node
    run: str | None = None


def read_file(path: Path, extending: tuple[Path, ...] = ()) -> tuple[Node, list[Problem]]:
    """The recipe in the file `path`, laid over what it extends; its runs are still partial settings, or null.

    All is inherited but the name and the description, which belong to one file. Runs of the same name merge; where the
    upper one is empty, nothing changes, and where it is null, the run stays as null. `extending` are the files that led here,
    the last one first.
    """
    node, problems = read_yaml(path, shown(path), layer=-len(extending))
    node, unknown = _only(node, FILE)
    problems += unknown
    runs = node.child("runs")
    if runs is not None and not isinstance(runs.value, dict):
        text = f"must be a mapping of runs by name, not {show(runs)}"
        problems.append(Problem(runs.origin, runs.key, text))
        node = replace(node, value={**node.entries, "runs": replace(runs, value={}, broken=True)})
    for name, run in runs.entries.items() if runs else ():
        if "[" in name:
            problems.append(Problem(run.origin, run.key, f"must be {PATTERNS[NAME]}, not {quoted(name)}"))
        if run.value is not None and not isinstance(run.value, dict) and not run.broken:
            text = f"must be a mapping of settings, or empty for the shared ones as they are, not {show(run)}"
            problems.append(Problem(run.origin, run.key, text))
    node = anchored(node, path)
    extends, lower = node.child("extends"), None
    if extends is not None and not extends.broken and not extends.takes_back:
        lower, found = _extended(extends, (path, *extending))
        problems += found
    if lower is None or not lower.broken:
        problems += runs_not_there(runs, lower.child("runs") if lower else None)
    return node if lower is None else _laid_over(lower, node), problems


def read_overlay(reference: str, layer: int) -> tuple[Node, list[Problem]]:
    """The overlay called `reference`. Its description is about the overlay and is left behind.

    Raises RecipeError if there is none of that name.
    """
    path = find_overlay(reference)
    node, problems = read_yaml(path, shown(path), layer)
    if runs := node.child("runs"):
        text = "an overlay is laid over every run and has none of its own; name settings without their run"
        problems.append(Problem(runs.origin, runs.key, text))
    node, unknown = _only(node, (*COMMON, *SETTINGS), ignore=("runs",))
    entries = {key: child for key, child in node.entries.items() if key != "description"}
    node = anchored(replace(node, value=entries), path)
    return node, [*problems, *unknown, *keys_of_no_kind(node)]


def read_override(text: str, layer: int, runs: Sequence[str]) -> tuple[Override | None, list[Problem]]:
    """The override in `text`, `key=value`, of a recipe with these `runs`. The value may hold `=`."""
    origin = Location("--set")
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        return None, [Problem(origin, "", f"cannot read {text!r}; write KEY=VALUE, such as train.epochs=3")]
    run, parts = None, key.split(".")
    if parts[0] == "runs":
        rest = key.removeprefix("runs").removeprefix(".")
        run = max((name for name in runs if f"{rest}.".startswith(f"{name}.")), key=len, default=None)
        if run is None:
            wrong = f"names no run of this recipe; runs: {', '.join(runs)}"
            return None, [Problem(origin, key, wrong + suggest(rest.partition(".")[0], runs))]
        rest = rest.removeprefix(run).removeprefix(".")
        parts = rest.split(".") if rest else []
    if not all(parts):
        return None, [Problem(origin, key, "misses a part between dots; write a key such as train.epochs")]
    known = SETTINGS if run else (*COMMON, *SETTINGS)
    if parts and parts[0] not in known:
        return None, [Problem(origin, key, unknown_key(parts[0], known))]
    node, problems = read_value(value, origin.file, key, layer)
    if not parts and not isinstance(node.value, dict) and not node.takes_back:
        text = f"is a run; name one of its settings, such as {key}.train.epochs=3, or take it back: {key}=null"
        problems.append(Problem(origin, key, text))
    elif node.value == {} and not problems:
        problems.append(Problem(origin, key, "sets nothing; name a setting, such as train.epochs=3"))
    if problems:
        return None, problems
    for depth in range(len(parts) - 1, -1, -1):
        above = ".".join([*(["runs", run] if run else []), *parts[:depth]])
        node = Node({parts[depth]: node}, origin, above, layer)
    problems = list(keys_of_no_kind(node))
    return None if problems else Override(anchored(node, None), run), problems


def _only(node: Node, known: Sequence[str], ignore: Sequence[str] = ()) -> tuple[Node, list[Problem]]:
    """`node` with the known keys only, and a problem for each other one that is not to be ignored."""
    kept = {key: child for key, child in node.entries.items() if key in known}
    others = {key: child for key, child in node.entries.items() if key not in known and key not in ignore}
    problems = [Problem(child.origin, child.key, unknown_key(key, known)) for key, child in others.items()]
    return replace(node, value=kept), problems


def _extended(extends: Node, extending: tuple[Path, ...]) -> tuple[Node, list[Problem]]:
    """The recipe that the first of `extending` extends; a broken one if it cannot be had."""

    def none(text: str) -> tuple[Node, list[Problem]]:
        return Node({}, extends.origin, broken=True), [Problem(extends.origin, extends.key, text)]

    if not isinstance(extends.value, str):
        return none(f"must be the file or the name of a recipe, not {show(extends)}")
    try:
        path = find_extended(extends.value, extending[0])
    except RecipeError as error:
        return none(str(error))
    if any(path.samefile(other) for other in extending):
        circle = " -> ".join(shown(step) for step in (*reversed(extending), path))
        return none(f"goes in a circle: {circle}; a recipe cannot extend itself")
    return read_file(path, extending)


def _laid_over(lower: Node, upper: Node) -> Node:
    """The recipe file `upper` over the one it extends."""
    inherited = {key: child for key, child in lower.entries.items() if key not in _OF_ONE_FILE}
    below, above = inherited.pop("runs", None), upper.child("runs")
    merged = merge(replace(lower, value=inherited), upper)
    entries = {key: child for key, child in merged.entries.items() if key != "runs"}
    if below is not None or above is not None:
        runs = dict(below.entries) if below else {}
        for name, run in above.entries.items() if above else ():
            runs[name] = runs[name] if run.empty and name in runs else merge(runs.get(name), run)
        entries["runs"] = replace(above or below or upper, value=runs)
    return replace(merged, value=entries, broken=lower.broken or upper.broken)
