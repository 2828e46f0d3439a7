"""Training curves read from metrics.jsonl: the mean over seeds by epoch, with the range that the seeds span."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from tnacli.report.alike import disagreement
from tnacli.report.cells import Cell, method
from tnacli.report.table import Column, Table, Value
from tnacli.report.tables import alpha_text, shown_alpha
from tnacli.runs.store import RunFolder

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Series:
    """One quantity by epoch: `mean`, `low` and `high` over the seeds, one value an epoch in `epochs`."""

    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """All series of one run of a recipe. `alpha` is the weight of its matching loss, if it has one."""

    label: str
    method: str
    weights: str
    alpha: float | None
    seeds: int
    finished: bool
    measured_on: str
    series: Mapping[str, Series]
    compressed_from: int | None = None
    marks: tuple[str, ...] = ()


def _part(name: str) -> Callable[[Row], float | None]:
    return lambda row: row["train_parts"].get(name)


METRICS: dict[str, tuple[str, Callable[[Row], float | None]]] = {
    # The base's own cross-entropy, so that curves with and without a twin can be compared; KD alone has no such part.
    "train_loss": ("training loss", lambda row: row["train_parts"].get("cross_entropy", row["train_loss"])),
    "train_accuracy": ("training accuracy (%)", lambda row: row["train_accuracy"]["base"]),
    "matching": ("matching loss", _part("matching")),
    "val_loss": ("validation loss", lambda row: row["loss"].get("base")),
    "val_accuracy": ("validation accuracy (%)", lambda row: row["accuracy"].get("base")),
}
"""The five quantities of Figure 2, with the paper's names; `label` says on which samples ours were measured."""


def label(key: str, found: Iterable[Curve]) -> str:
    """The axis of the quantity `key` of `found`: the paper's "validation" is the test set where no samples are held out."""
    measured = " or ".join(sorted({one.measured_on for one in found})) or "validation"
    return METRICS[key][0].replace("validation", measured)


def curve(cell: Cell) -> Curve | None:
    """The curve of a cell, from its finished seeds or, while there are none, from those begun.

    None if there are none, or their data or precision differ, so that they have no mean.
    """
    found = [rows for seed in cell.results or cell.folders if (rows := _rows(cell.folders[seed]))]
    if not found or _apart(cell):
        return None
    matched = f", α = {alpha_text(cell.alpha)}" if cell.alpha is not None else ""
    compressed = [row["epoch"] for row in found[0] if row["compressed"]]
    return Curve(
        label=f"{method(cell.settings)}{'' if cell.weights == 'full' else f', {cell.weights}'}{matched}",
        method=method(cell.settings),
        weights=cell.weights,
        alpha=cell.alpha,
        seeds=len(found),
        finished=cell.finished,
        measured_on=found[0][0]["measured_on"],
        series={key: series for key in METRICS if (series := _series(found, METRICS[key][1])) is not None},
        compressed_from=min(compressed) if compressed else None,
        marks=cell.marks,
    )


def _apart(cell: Cell) -> str | None:
    """Why the seeds of a curve have no mean."""
    begun = {seed: begun for seed, folder in cell.folders.items() if (begun := folder.begun) is not None}
    return disagreement(cell.results or begun)


def curves(cells: Sequence[Cell]) -> list[Curve]:
    """The curves of those cells that have any; where labels coincide, the run's name is added."""
    pairs = [(cell, found) for cell in cells if (found := curve(cell)) is not None]
    labels = [found.label for _, found in pairs]
    return [
        found if labels.count(found.label) == 1 else replace(found, label=f"{cell.name} ({found.label})")
        for cell, found in pairs
    ]


def missing_curves(cells: Sequence[Cell]) -> list[tuple[Cell, str]]:
    """The cells that have no curve, and why."""
    return [
        (cell, f"{apart}: no mean" if (apart := _apart(cell)) else "no epoch yet")
        for cell in cells
        if curve(cell) is None
    ]


def _rows(folder: RunFolder) -> list[Row]:
    """The folder's epochs, the newest of each where a crash left one written twice."""
    by_epoch = {row["epoch"]: row for row in folder.metrics() if isinstance(row, dict) and "epoch" in row}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _series(seeds: Sequence[Sequence[Row]], read: Callable[[Row], float | None]) -> Series | None:
    """Over the epochs that all seeds have reached; a mean over changing seeds would jump."""
    values = [{row["epoch"]: value for row in rows if (value := read(row)) is not None} for rows in seeds]
    epochs = sorted(set.intersection(*(set(one) for one in values)))
    if not epochs:
        return None
    by_epoch = [[one[epoch] for one in values] for epoch in epochs]
    return Series(tuple(epochs), tuple(map(fmean, by_epoch)), tuple(map(min, by_epoch)), tuple(map(max, by_epoch)))


def last_epoch_table(cells: Sequence[Cell], title: str) -> Table:
    """Where each curve ends: one row a run, the five quantities of Figure 2 at the last epoch, means over the seeds."""
    found = curves(cells)
    columns = (
        Column("run", "run"), Column("alpha", "α", number=True), Column("seeds", "seeds", number=True),
        Column("epoch", "epoch", number=True),
        *(Column(key, label(key, found), 2 if "accuracy" in key else 4, number=True) for key in METRICS),
        Column("notes", "notes"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for one in found:
        epoch = max(series.epochs[-1] for series in one.series.values())
        # Of a run that is not finished, the last epoch need not be one that was evaluated.
        there = {key: series for key, series in one.series.items() if series.epochs[-1] == epoch}
        ends = [there[key].mean[-1] if key in there else None for key in METRICS]
        mixed = len({other.measured_on for other in found}) > 1
        notes = [*([f"measured on the {one.measured_on} samples"] if mixed else []), *one.marks]
        notes += [] if one.finished else ["unfinished"]
        rows.append((one.label, shown_alpha(one.alpha), one.seeds, epoch, *ends, "; ".join(notes)))
    for cell, why in missing_curves(cells):
        rows.append((cell.name, shown_alpha(cell.alpha), 0, *(None,) * (1 + len(METRICS)), why))
    return Table(title, columns, tuple(rows), ("last epoch, mean over seeds",))
