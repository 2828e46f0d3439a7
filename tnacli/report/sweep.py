"""What the values of a sweep came to: a table by value, and which is the best by validation. Never by the test set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tnacli.recipe.identity import Run
from tnacli.recipe.parse import Sweep, value_text
from tnacli.report.cells import Cell, collect
from tnacli.report.statistics import Spread
from tnacli.report.table import Column, Shown, Table, Value
from tnacli.report.tables import legend, shown_seeds, validation


def points_of(cells: Sequence[Cell], sweep: Sweep) -> dict[str, Cell]:
    """The cells of a sweep by name of the run, in its order; those that were not asked for are left out."""
    by_name = {cell.name: cell for cell in cells}
    return {name: by_name[name] for name in sweep.points if name in by_name}


def best(points: Mapping[str, Cell]) -> tuple[str, ...]:
    """The run of the highest mean accuracy on validation samples, or those that share it.

    Nothing where there is nothing to choose between fairly: no samples held out, seeds missing, or no means.
    """
    found = {name: validation(cell) for name, cell in points.items()}
    means = {name: one.mean for name, one in found.items() if one is not None}
    same_seeds = len({tuple(sorted(cell.results)) for cell in points.values()}) == 1
    if len(means) < max(2, len(points)) or not same_seeds or not all(cell.finished for cell in points.values()):
        return ()
    return tuple(name for name, mean in means.items() if mean == max(means.values()))


def best_text(points: Mapping[str, Cell], sweep: Sweep) -> str:
    """A line that names the best by validation, or says why none is."""
    if names := best(points):
        found = validation(points[names[0]])
        assert found is not None
        seeds = f"{found.count} seed{'s' * (found.count != 1)}"
        alike = " and ".join(_values(sweep, name) for name in names)
        return f"{sweep.name}: best by validation: {alike} ({found.mean:.2f} %, mean of {seeds})"
    if any(not cell.settings.data.validation_samples for cell in points.values()):
        return (
            f"{sweep.name}: no samples are held out, and the test set is not for choosing; data.validation_samples holds some "
            f"out, and the best by them is named"
        )
    return f"{sweep.name}: the best by validation is named when all values have all seeds, and a mean"


def best_of(sweeps: Iterable[Sweep], runs: Iterable[Run], out: Path) -> Iterator[str]:
    """`best_text` of each sweep of which some of `runs` were trained below `out`."""
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    for sweep in sweeps:
        if points := {name: collect(by_name[name], out) for name in sweep.points if name in by_name}:
            yield best_text(points, sweep)


def sweep_table(points: Mapping[str, Cell], sweep: Sweep) -> Table:
    """A row for each value: accuracies on validation samples and on the test set, and which is the best by validation."""
    columns = (
        *(Column(key, label, number=True) for key, label in zip(sweep.keys, sweep.labels, strict=True)),
        Column("run", "run", data_only=True), Column("seeds", "seeds"), Column("planned_seeds", "of", data_only=True),
        Column("validation", "validation %", number=True), Column("accuracy", "test accuracy %", number=True),
        Column("best", "best by validation"), Column("notes", "notes"),
    )  # fmt: skip
    chosen = best(points)
    rows: list[tuple[Value, ...]] = [
        (
            *(Shown(_plain(value), value_text(value)) for value in sweep.points[name]), name, *shown_seeds(cell),
            validation(cell), _test_accuracy(cell), Shown(name in chosen, "best" if name in chosen else ""),
            "; ".join(cell.marks),
        )
        for name, cell in points.items()
    ]  # fmt: skip
    recipe = next(iter(points.values())).recipe
    notes = [note for note in legend(list(points.values())) if not note.startswith("ours: ")]
    return Table(f"{recipe}: {sweep.name} by {', '.join(sweep.labels)}", columns, tuple(rows),
                 (best_text(points, sweep), *notes))  # fmt: skip


def accuracies(points: Mapping[str, Cell]) -> dict[str, tuple[Spread | None, Spread | None]]:
    """By name of the run, the accuracy on validation samples and on the test set."""
    return {name: (validation(cell), _test_accuracy(cell)) for name, cell in points.items()}


def _test_accuracy(cell: Cell) -> Spread | None:
    """None where only accuracies on validation samples are asked for."""
    return cell.accuracy if cell.split == "test" else None


def _values(sweep: Sweep, name: str) -> str:
    pairs = zip(sweep.labels, sweep.points[name], strict=True)
    return ", ".join(f"{label}={value_text(value)}" for label, value in pairs)


def _plain(value: object) -> str | int | float | bool | None:
    return value if value is None or isinstance(value, str | int | float | bool) else value_text(value)
