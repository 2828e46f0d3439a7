"""The differences from which the paper draws conclusions, ours beside, and whether ours bear them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tnacli.recipe.parse import Loaded
from tnacli.report.cells import Cell
from tnacli.report.differences import Difference, corrected
from tnacli.report.statistics import SIGNIFICANCE
from tnacli.report.table import Column, Shown, Table, Value

Verdict = Literal["holds", "not shown", "contradicted"]

LEAST_SEEDS = 3
"""With fewer, one lucky seed decides."""


@dataclass(frozen=True)
class Effect(Difference):
    """A difference in test accuracy that the paper speaks of.

    `paper` is the paper's difference in percentage points, if it gives one. With `margin` it finds none, and ours is none if
    its interval lies within ±`margin`: a test of equivalence, on the safe side. `p_holm` is corrected for all effects of its
    kind that are to be judged together; None for one that is not judged.
    """

    paper: float | None = None
    margin: float | None = None

    @property
    def unjudged(self) -> str | None:
        """Why there is no verdict; None if there is one. The setting need not be the paper's, but the seeds complete."""
        if self.conflict:
            return self.conflict
        if self.first.generated or self.second.generated:
            return "generated data"
        if not (self.first.complete and self.second.complete):
            return "seeds are missing"
        if self.ours is None or self.ours.difference.count < LEAST_SEEDS:
            return f"a verdict takes {LEAST_SEEDS} seeds"
        return None

    @property
    def verdict(self) -> Verdict | None:
        """What ours say of the paper's conclusion; None where they are not judged."""
        ours, p = self.ours, self.p_holm
        if self.unjudged or ours is None or ours.interval is None or p is None:
            return None
        if self.margin is not None and ours.interval.within(self.margin):
            return "holds"
        if 0 in ours.interval or p >= SIGNIFICANCE:
            return "not shown"
        agrees = self.margin is None and self.paper is not None and (ours.difference.mean > 0) == (self.paper > 0)
        return "holds" if agrees else "contradicted"

    @property
    def name(self) -> str:
        return f"{self.first.name} - {self.second.name if self.network == 'base' else _sibling(self)}"


def _sibling(effect: Effect) -> str:
    networks = {name for result in effect.second.results.values() for name in result.accuracy} - {"base"}
    return "its twin" if networks <= {"sibling1"} else f"its {effect.network}"


def effects_of(loaded: Loaded, cells: Sequence[Cell]) -> tuple[Effect, ...]:
    """The effects that the recipe names, of those of its `cells` that are there; not yet judged."""
    by_name = {cell.name: cell for cell in cells}
    reproduces = loaded.recipe.reproduces
    found = []
    for effect in reproduces.effects:
        second = effect.run if effect.minus is None else effect.minus
        network = "base" if effect.minus_sibling is None else f"sibling{effect.minus_sibling}"
        if effect.run in by_name and second in by_name:
            paper = reproduces.papers_difference(effect)
            found.append(Effect(by_name[effect.run], by_name[second], network, paper=paper, margin=effect.margin))
    return tuple(found)


def judged(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """The same with the p of those that can be judged corrected for the number of all that are to be, shown in one table.

    Differences that the paper finds, and pairs between which it finds none, are corrected for apart: only the former hold by
    a small p.
    """
    found = list(effects)
    for none in (False, True):
        family = _family(effects, none)
        found = corrected(found, [n for n in family if not effects[n].unjudged], number=len(family))
    return tuple(found)


def _family(effects: Sequence[Effect], none: bool) -> list[int]:
    """The places of the effects, with or without a difference in the paper, that are to be judged together.

    All of each recipe of which one can be judged: which of its runs are finished first must not decide what is shown. Recipes
    of which none can be are another question.
    """
    begun = {one.first.recipe for one in effects if not one.unjudged}
    return [n for n, one in enumerate(effects) if (one.margin is not None) == none and one.first.recipe in begun]


def effects_table(
    effects: Sequence[Effect], title: str, *, number: int | None = None, names: Mapping[str, str] | None = None
) -> Table:
    """A row for each of the `judged` effects. `number` is that of the paper's table, `names` what it calls the runs."""
    names = names or {}
    columns = (
        Column("table", "table", data_only=True), Column("recipe", "recipe", data_only=True),
        Column("data", "data set"), Column("run", "network"), Column("minus", "minus"),
        Column("minus_sibling", "sibling", data_only=True), Column("paper", "paper", signed=True, number=True),
        Column("margin", "margin", data_only=True), Column("ours", "ours", signed=True, number=True),
        Column("seeds", "seeds", number=True), Column("planned_seeds", "of", data_only=True),
        Column("interval", "95 % interval", signed=True, number=True), Column("p_t", "p (paired t)", 4, number=True),
        Column("p_holm", "p (Holm)", 4, number=True), Column("p_signs", "p (sign flips)", 4, number=True),
        Column("smallest", "could show", number=True), Column("verdict", "verdict"), Column("notes", "notes"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for one in effects:
        ours, planned = one.ours, len(one.first.seeds)
        count = 0 if ours is None else ours.difference.count
        another = one.network != "base"
        rows.append((
            number, one.first.recipe, one.first.data_set,
            Shown(one.first.name, names.get(one.first.name, one.first.name)),
            Shown(None, _sibling(one)) if another else Shown(one.second.name, names.get(one.second.name, one.second.name)),
            int(one.network.removeprefix("sibling")) if another else None,
            one.paper if one.margin is None else Shown(one.paper, f"none (±{one.margin:g})"), one.margin,
            ours.difference if ours else None, Shown(count, f"{count}" if count == planned else f"{count} of {planned}"), planned,
            ours.interval if ours else None, ours.p_t if ours else None, one.p_holm, ours.p_signs if ours else None,
            ours.smallest if ours else None,
            one.verdict or Shown(None, "not judged"), "; ".join(_notes(one)),
        ))  # fmt: skip
    return Table(title, columns, tuple(rows), tuple(_legend(effects)))


def _notes(one: Effect) -> list[str]:
    """Why there is no verdict, and how the two runs came about otherwise than the paper's."""
    marks = dict.fromkeys(mark for cell in (one.first, one.second) for mark in cell.marks)
    why = [one.unjudged] if one.unjudged and not any(mark.startswith(one.unjudged) for mark in marks) else []
    return [*why, *marks]


def _number(effects: Sequence[Effect], none: bool, method: str = "") -> str:
    """For how many effects of a kind p is corrected, and how; empty if none of them is judged."""
    family = _family(effects, none)
    missing = sum(effects[n].p_holm is None for n in family)
    waiting = f"; {missing} of them not judged yet" if missing else ""
    return f"{len(family)}{method}{waiting}" if missing < len(family) else ""


def _legend(effects: Sequence[Effect]) -> list[str]:
    found, none = _number(effects, False, ", by Holm's method"), _number(effects, True)
    notes = [
        "effects: differences in test accuracy from which the paper draws conclusions, in percentage points, paired over the "
        "seeds; ours: mean ± sample standard deviation"
    ]
    if found:
        notes.append(
            f"holds: the interval excludes 0 in the paper's direction, and p, corrected for the number of differences judged "
            f"here ({found}), is below {SIGNIFICANCE}; contradicted: the same in the other direction; p is two-sided"
        )
    if any(one.ours and one.ours.smallest is not None for one in effects):
        notes.append(
            f"could show: the difference that so many seeds of this spread show with a probability of 80 % (two-sided "
            f"{SIGNIFICANCE})"
        )
    if any(one.margin is not None for one in effects):
        beyond = (
            f"contradicted where it reaches beyond and excludes 0, and p, corrected for {none}, is below {SIGNIFICANCE}"
        )
        notes.append(
            "none (±x): the paper finds no difference, which holds if the interval lies within ±x"
            + (f"; {beyond}" if none else "")
        )
    if any(one.first.changed or one.second.changed for one in effects):
        notes.append("the paper's differences are of its own setting, ours here of another; their size need not agree")
    return notes
