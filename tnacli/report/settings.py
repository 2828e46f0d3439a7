"""In which settings runs agree and in which they differ, by dotted keys as `--set` takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic_core import to_jsonable_python

from tnacli.recipe.parse import resolved, setting_fields
from tnacli.recipe.schema.recipe import Settings
from tnacli.report.cells import Cell
from tnacli.report.table import Column, Table

_ELSEWHERE = ("runtime.", "data.root", "data.download")
"""Keys that change where and how fast a result is computed, but not which."""


@dataclass(frozen=True)
class Compared:
    """Settings of several runs by dotted key: `same` in all, and `differing` by run, which need not have the key."""

    same: Mapping[str, Any]
    differing: Mapping[str, Mapping[str, Any]]


def flat(settings: Settings) -> dict[str, Any]:
    """Every setting as a JSON value by its dotted key, in the schema's order; a list is one value."""
    return {one.key: one.value for one in resolved(settings, {})}


def compared(runs: Mapping[str, Settings], *, execution: bool = False) -> Compared:
    """The settings of `runs`, which go by name; where and how fast they are computed, too, with `execution`."""
    each = {name: flat(settings) for name, settings in runs.items()}
    keys = dict.fromkeys(key for values in each.values() for key in values)
    same, differing = dict[str, Any](), dict[str, dict[str, Any]]()
    for key in keys:
        if not execution and key.startswith(_ELSEWHERE):
            continue
        there = {name: values[key] for name, values in each.items() if key in values}
        values = list(there.values())
        if len(there) == len(each) and all(value == values[0] for value in values):
            same[key] = values[0]
        else:
            differing[key] = there
    return Compared(same, differing)


def value_text(value: Any) -> str:
    """A value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def settings_table(cells: Sequence[Cell], reference: Cell, title: str) -> Table:
    """What each run has other than `reference`; below, what is the same in all and not a default."""
    found = compared({cell.name: cell.settings for cell in cells})
    rows = []
    for cell in cells:
        if cell is not reference:
            own, theirs = (
                {key: values[one.name] for key, values in found.differing.items() if one.name in values}
                for one in (cell, reference)
            )
            said = [f"{key}={value_text(value)}" for key, value in own.items() if says_something(key, value, theirs)]
            rows.append((cell.name, " ".join(said) or "the same"))
    same = [f"{key}={value_text(value)}" for key, value in found.same.items() if not _is_default(key, value)]
    notes = (f"the same in all, beside defaults: {' '.join(same) or 'nothing'}",)
    return Table(title, (Column("run", "run"), Column("settings", f"other than {reference.name}")), tuple(rows), notes)


def says_something(key: str, value: Any, theirs: Mapping[str, Any]) -> bool:
    """Whether `key` is other than theirs; of a section that they have not, its defaults say nothing but which kind it is."""
    if key in theirs:
        return bool(value != theirs[key])
    return not _is_default(key, value) or any(other.startswith(f"{key}.") for other in theirs)


def _is_default(key: str, value: Any) -> bool:
    """Whether `value` is the default of `key`, in every kind of section that has it; arguments of functions have none."""
    defaults = _defaults().get(key, [])
    return bool(defaults) and all(value == default for default in defaults)


@cache
def _defaults() -> dict[str, list[Any]]:
    """The defaults of each key, in the form of `flat`, of every kind of section that has it."""
    return {key: [_plain(field.default) for field in fields] for key, fields in setting_fields().items()}


def _plain(default: Any) -> Any:
    value = to_jsonable_python(default, fallback=str)
    if not isinstance(value, list):
        return value
    return [{k: v for k, v in one.items() if v is not None} if isinstance(one, dict) else one for one in value]
