"""What `null` does: a key or a run that is null is as if nobody had said it, in this layer or any below.

Of a key the schema's default holds then; a run is not there, and neither is what the recipe below says that it reproduces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tnacli.recipe.parse.fields import fields_below
from tnacli.recipe.parse.node import Node, Problem, suggest
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.section import Section


def without_null(node: Node, within: type[Section] = Settings, path: tuple[str, ...] = ()) -> Node:
    """`node`, at `path` of a section, without keys that are null.

    Those stay whose default is none, which they say, and unknown and needed ones, for the schema to refuse.
    """
    if not isinstance(node.value, dict):
        return node
    fields = fields_below(path, within)

    def stays(key: str, child: Node) -> bool:
        if not child.takes_back or fields is None:
            return not child.takes_back
        return key not in fields or fields[key].default is None or (bool(path) and fields[key].is_required())

    kept = {key: without_null(child, within, (*path, key)) for key, child in node.entries.items() if stays(key, child)}
    return replace(node, value=kept)


def runs_not_there(upper: Node | None, lower: Node | None) -> Iterator[Problem]:
    """A problem for each null run of the file `upper` that the file below does not have: a slip, or it would be left out."""
    there = [name for name, run in lower.entries.items() if not run.takes_back] if lower else []
    for name, run in upper.entries.items() if upper else ():
        if run.takes_back and name not in there:
            known = f"; runs there: {', '.join(there)}{suggest(name, there)}" if there else ""
            text = f"is null, which takes back a run of the recipe that this one extends, and none has that name{known}"
            yield Problem(run.origin, run.key, text)


def without_runs(reproduces: Node, gone: Mapping[str, int]) -> Node:
    """`reproduces` without what layers below say of runs that are gone; `gone` has the layer that took each back."""
    entries = dict(reproduces.entries)
    accuracy, effects = entries.get("accuracy"), entries.get("effects")
    if accuracy is not None:
        entries["accuracy"] = without_names(accuracy, gone)
    if effects is not None and isinstance(effects.value, list):
        ones = [one for one in effects.value if not _speaks_of_gone(one, _names(one), gone)]
        entries["effects"] = replace(effects, value=ones)
    return replace(reproduces, value=entries) if isinstance(reproduces.value, dict) else reproduces


def without_names(by_run: Node, gone: Mapping[str, int]) -> Node:
    """A mapping by names of runs without what layers below say of those that are gone."""
    if not isinstance(by_run.value, dict):
        return by_run
    kept = {name: one for name, one in by_run.entries.items() if not _speaks_of_gone(one, [name], gone)}
    return replace(by_run, value=kept)


def _speaks_of_gone(one: Node, names: Iterable[object], gone: Mapping[str, int]) -> bool:
    return any(one.layer < gone.get(str(name), one.layer) for name in names)


def _names(effect: Node) -> Iterator[object]:
    for key in ("run", "minus"):
        if (named := effect.child(key)) is not None:
            yield named.value
