"""The tables of the paper with ours beside, from the cells of recipes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tnacli.recipe.datasets import DATASETS
from tnacli.report.cells import Cell
from tnacli.report.published import Published, table3
from tnacli.report.statistics import Paired, Spread, paired, spread
from tnacli.report.table import Column, Shown, Table, Value

NAMES: dict[int, dict[str, str]] = {
    1: {"baseline": "baseline", "tna": "TNA"},
    2: {"baseline": "FP-SNN", "b_snn": "B-SNN", "t_snn": "T-SNN", "tna": "TNA FP-SNN", "tna_t_snn": "TNA T-SNN"},
}
"""The rows of the paper's tables by run of the recipes."""

TITLES = {
    1: "Table 1: test accuracy of the baseline and of TNA, full precision",
    2: "Table 2: test accuracy with full-precision, binary and ternary weights",
    3: "Table 3: published results and ours",
}

_OURS = (
    Column("paper", "paper %", number=True),
    Column("ours", "ours %", number=True),
    Column("seeds", "seeds"),
    Column("planned_seeds", "of", data_only=True),
    Column("difference", "difference", signed=True, number=True),
    Column("within", "tolerance"),
    Column("tolerance", "±", data_only=True),
    Column("threshold", "at least", number=True),
    Column("reached", "reached"),
)
_NOTES = Column("notes", "notes")


def accuracy_table(cells: Sequence[Cell], *, number: int | None = None, title: str | None = None) -> Table:
    """A row for each cell: the paper's accuracy, ours, the difference, and whether it is within the tolerance.

    `number` is the paper's table whose names of rows are used; without it, rows have the names of the runs.
    """
    columns = (
        Column("data", "data set"), Column("run", "network"), Column("weights", "weights"), Column("alpha", "α", number=True),
        *_OURS, Column("validation", "validation %", number=True), _NOTES,
    )  # fmt: skip
    names = NAMES.get(number or 0, {})
    if names:
        # As in the paper: its rows within a data set; runs that it does not have come after them.
        place, sets = list(names), list(dict.fromkeys(cell.settings.data.name for cell in cells))
        cells = sorted(cells, key=lambda cell: (
            sets.index(cell.settings.data.name), place.index(cell.name) if cell.name in place else len(place)
        ))  # fmt: skip
    rows = [
        (
            cell.data_set, names.get(cell.name, cell.name), cell.weights, shown_alpha(cell.alpha),
            *_ours(cell), None if cell.split == "validation" else validation(cell), "; ".join(cell.marks),
        )
        for cell in cells
    ]  # fmt: skip
    return Table(title or TITLES.get(number or 0, ""), columns, tuple(rows), tuple(legend(cells)))


def table3_report(cells: Iterable[Cell]) -> Table:
    """The published rows of Table 3 and those from elsewhere; ours beside the rows that the cells reproduce."""
    ours = {(cell.settings.data.name, cell.name): cell for cell in cells}
    columns = (
        Column("data", "data set"), Column("weights", "weights"), Column("method", "method"), Column("network", "network"),
        Column("timesteps", "T", number=True), Column("published", "published %", number=True), *_OURS[1:],
        Column("source", "source"), _NOTES,
    )  # fmt: skip
    order = list(dict.fromkeys(row.data for row in table3()))
    nothing: tuple[Value, ...] = (None,) * (len(_OURS) - 1)
    rows: list[tuple[Value, ...]] = []
    for row in sorted(table3(), key=lambda row: order.index(row.data)):
        cell = ours.get((row.data, row.ours)) if row.ours else None
        # One number differs by 0.01 from that of Table 2.
        cell = replace(cell, paper=row.accuracy) if cell else None
        rows.append((
            DATASETS[row.data].title, row.weights, row.method, row.network, row.timesteps, row.accuracy,
            *(_ours(cell)[1:] if cell else nothing), row.source if row.from_paper else f"{row.source} (not the paper's)",
            "; ".join(cell.marks) if cell else "",
        ))  # fmt: skip
    used = [cell for (data, name), cell in ours.items() if any(_is(row, data, name) for row in table3())]
    notes = (*legend(used), "binary: which rows of the paper are binary follows the titles of the works it cites")
    return Table(TITLES[3], columns, tuple(rows), notes)


def _is(row: Published, data: str, name: str) -> bool:
    return (row.data, row.ours) == (data, name)


def _ours(cell: Cell) -> tuple[Value, ...]:
    within: Shown | None = None
    if cell.within is not None:
        within = Shown(cell.within, f"{'within' if cell.within else 'OUTSIDE'} ±{cell.tolerance:g}")
    elif _unjudged(cell):
        within = Shown(None, "not judged")
    tolerance = None if cell.paper is None else cell.tolerance
    reached = None if cell.reached is None else Shown(cell.reached, "yes" if cell.reached else "NO")
    return cell.paper, cell.accuracy, *shown_seeds(cell), cell.difference, within, tolerance, cell.threshold, reached


def validation(cell: Cell) -> Spread | None:
    """The base's accuracy on held-out samples; None without any, and where the seeds have no mean."""
    values = [result.validation["base"] for result in cell.results.values() if "base" in result.validation]
    return spread(values) if values and not cell.mixed else None


def _unjudged(cell: Cell) -> bool:
    """Whether all seeds asked for are there beside a number of the paper, and yet it is not judged."""
    return cell.finished and cell.paper is not None and cell.within is None


def shown_seeds(cell: Cell) -> tuple[Shown, int]:
    """The number of finished seeds as people read it, and that of the seeds asked for."""
    return Shown(len(cell.results), cell.seeds_text), len(cell.seeds)


def shown_alpha(alpha: float | None) -> Shown | None:
    """The number, as the paper writes it."""
    return None if alpha is None else Shown(alpha, alpha_text(alpha))


def legend(cells: Sequence[Cell]) -> list[str]:
    """What the numbers are, and what remains to be done."""
    splits = " and ".join(dict.fromkeys(cell.split for cell in cells)) or "test"
    notes = [f"ours: {splits} accuracy, mean ± sample standard deviation over the finished seeds"]
    if any(cell.paper is not None for cell in cells):
        notes[0] += "; difference: ours minus the paper's"
    if any(cell.threshold is not None for cell in cells):
        notes.append("at least: the recipe's own threshold, in %, that the mean over all seeds must reach")
    missing = [cell for cell in cells if not cell.finished]
    if missing:
        runs = sum(len(cell.seeds) - len(cell.results) for cell in missing)
        notes.append(f"{len(missing)} of {len(cells)} cells are unfinished: {runs} runs are missing; tolerance is judged "
                     f"when all seeds are there")  # fmt: skip
    if any(_unjudged(cell) for cell in cells):
        notes.append("not judged: an overlay, an override or generated data make it another setting than the paper's, not "
                     "all seeds of the recipe were asked for, or they have no mean")  # fmt: skip
    return notes


def twin_table(cells: Iterable[Cell]) -> Table | None:
    """Base against its twins (section 5.3.1): accuracies, and p of the paired difference; None if no run has a twin."""
    columns = (
        Column("recipe", "recipe"), Column("run", "run"), Column("sibling", "twin"),
        Column("base_accuracy", "base %", number=True), Column("sibling_accuracy", "twin %", number=True),
        Column("seeds", "seeds"), Column("planned_seeds", "of", data_only=True),
        Column("difference", "base - twin", signed=True, number=True),
        Column("p_t", "p (paired t)", 3, number=True), Column("p_signs", "p (sign flips)", 3, number=True), _NOTES,
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    pairs: list[Paired | None] = []
    for cell in cells:
        siblings = sorted({name for result in cell.results.values() for name in result.accuracy} - {"base"})
        for sibling in siblings if cell.split == "test" else ():  # of a sibling there is no other
            base, twin = cell.accuracies(), cell.accuracies(sibling)
            compared = paired(base, twin)
            pairs.append(compared)
            rows.append((
                cell.recipe, cell.name, sibling, cell.accuracy, _spread(twin.values()), *shown_seeds(cell),
                compared.difference if compared else None, compared.p_t if compared else None,
                compared.p_signs if compared else None,
                "; ".join(cell.marks),
            ))  # fmt: skip
    if not rows:
        return None
    notes = ["the paper finds no significant difference"]
    if any(compared and compared.p_signs is not None for compared in pairs):
        notes[0] = f"p: two-sided, over the seeds; {notes[0]}"
        notes.append("with n seeds the test of sign flips cannot give less than 2 / 2^n")
    return Table("Base against twin: test accuracy (section 5.3.1)", columns, tuple(rows), tuple(notes))


def _spread(values: Iterable[float]) -> Spread | None:
    found = list(values)
    return spread(found) if found else None


def alpha_text(alpha: float) -> str:
    """1e-3 as the paper writes it, 0.05 and 1 as they are."""
    digits, _, exponent = f"{alpha:e}".partition("e")
    mantissa = digits.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}" if int(exponent) < -1 else f"{alpha:g}"
