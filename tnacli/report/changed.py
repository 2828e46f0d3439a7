"""Which results were learned from other files than lie there now: found from names, sizes and times, with none opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tnacli.data.files import files_there
from tnacli.data.learned_from import LearnedFrom
from tnacli.recipe.schema.data import Data
from tnacli.report.cells import Cell


def compared(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """`cells` with what has changed of the files that their results were learned from (`Cell.changed_files`)."""
    there: dict[tuple[str, str, str | None], dict[str, str] | None] = {}
    found = []
    for cell in cells:
        data = cell.settings.data
        key = (data.name, data.format, data.root)
        # A ledger keeps no files, and looking at tens of thousands of them takes longer than the rest of a report.
        results = {seed: result for seed, result in cell.results.items() if result.data.files is not None}
        if results and key not in there:
            there[key] = files_there(data)
        changed = {seed: how for seed, result in results.items() if (how := how_changed(result.data, there[key]))}
        found.append(replace(cell, changed_files=changed))
    return tuple(found)


def how_changed(then: LearnedFrom, now: Mapping[str, str] | None) -> str:
    """How the files are others than those learned from; empty if they are the same, and where nothing can be said."""
    return "" if now is None else then.changed(now) or ""


def data_changed(data: Data, then: LearnedFrom | None) -> str:
    """`how_changed` of the files that `data` means now."""
    return "" if then is None else how_changed(then, files_there(data))
