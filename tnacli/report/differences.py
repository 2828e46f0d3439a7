"""Differences between runs over the seeds that they share, with interval and p: of any runs, whatever they compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from tnacli.report.alike import disagreement
from tnacli.report.cells import Cell
from tnacli.report.statistics import Paired, holm, paired
from tnacli.report.table import Column, Shown, Table, Value


@dataclass(frozen=True)
class Difference:
    """`first` minus the network `network` of `second`, in accuracy on the samples of their split.

    `p_holm` is the p of the paired t-test, corrected for all differences that are looked at together; None without a p.
    """

    first: Cell
    second: Cell
    network: str = "base"
    p_holm: float | None = None

    @property
    def conflict(self) -> str | None:
        """Why the two runs cannot be subtracted from each other: results of different data or precision."""
        if mixed := self.first.mixed or self.second.mixed:
            return mixed
        if not self.first.results or not self.second.results:
            return None
        each = {cell.name: next(iter(cell.results.values())) for cell in (self.first, self.second)}
        return disagreement(each, ", ".join)

    @cached_property
    def ours(self) -> Paired | None:
        """Over the seeds that both runs have finished; None if they share none, or cannot be subtracted."""
        return None if self.conflict else paired(self.first.accuracies(), self.second.accuracies(self.network))

    @property
    def missing(self) -> str | None:
        """Why there is no difference; None if there is one."""
        if self.conflict or self.ours is not None:
            return self.conflict
        return "no seed finished in both" if self.first.results and self.second.results else "not finished"


Some = TypeVar("Some", bound=Difference)


def corrected(differences: Sequence[Some], places: Sequence[int], *, number: int | None = None) -> list[Some]:
    """`differences` with the p of those at `places` corrected for `number`, or else for as many as have one."""
    found = list(differences)
    p_values = {n: ours.p_t for n in places if (ours := found[n].ours) is not None and ours.p_t is not None}
    outstanding = 0 if number is None else number - len(p_values)
    for n, p in zip(p_values, holm(list(p_values.values()), outstanding=outstanding), strict=True):
        found[n] = replace(found[n], p_holm=p)
    return found


def all_corrected(differences: Sequence[Some]) -> list[Some]:
    """`differences` with p corrected for the number of those that have one."""
    return corrected(differences, range(len(differences)))


def differences_from(cells: Sequence[Cell], reference: Cell) -> list[Difference]:
    """Each of the other `cells` minus `reference`; not yet corrected for their number."""
    return [Difference(cell, reference) for cell in cells if cell is not reference]


def differences_table(differences: Sequence[Difference], title: str) -> Table:
    """A row for each difference, after `all_corrected`."""
    alone = sum(one.p_holm is not None for one in differences) < 2
    references = {one.second.name for one in differences}
    columns = (
        Column("recipe", "recipe", data_only=True),
        Column("data", "data set", data_only=len({one.first.settings.data.name for one in differences}) < 2),
        Column("run", "run"), Column("minus", "minus", data_only=len(references) < 2),
        Column("difference", "difference", signed=True, number=True), Column("seeds", "seeds", number=True),
        Column("interval", "95 % interval", signed=True, number=True), Column("p_t", "p (paired t)", 4, number=True),
        Column("p_holm", "p (Holm)", 4, number=True, data_only=alone),
        Column("p_signs", "p (sign flips)", 4, number=True), Column("smallest", "could show", number=True, data_only=True),
        Column("notes", "notes"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for one in differences:
        ours = one.ours
        count = 0 if ours is None else ours.difference.count
        marks = dict.fromkeys(mark for cell in (one.first, one.second) for mark in cell.marks)
        why = [one.missing] if one.missing and not any(mark.startswith(one.missing) for mark in marks) else []
        rows.append((
            one.first.recipe, one.first.data_set, one.first.name, one.second.name,
            ours.difference if ours else None, Shown(count, str(count)), ours.interval if ours else None,
            ours.p_t if ours else None, one.p_holm, ours.p_signs if ours else None, ours.smallest if ours else None,
            "; ".join([*why, *marks]),
        ))  # fmt: skip
    minus = f"minus {references.pop()}, " if len(references) == 1 else ""
    split = differences[0].first.split if differences else "test"
    notes = [
        f"difference: {minus}in {split} accuracy, percentage points, paired over the seeds that both have: mean ± sample "
        f"standard deviation"
    ]
    if any(one.ours is not None and one.ours.p_t is not None for one in differences):
        notes.append("p is two-sided; with n seeds that of sign flips cannot be below 2 / 2^n")
    if not alone:
        notes.append(f"p (Holm): of the paired t-test, corrected for the {sum(one.p_holm is not None for one in differences)} "
                     f"differences of this table")  # fmt: skip
    return Table(title, columns, tuple(rows), tuple(notes))
