"""Accuracy against the values of a sweep, as a picture: a panel a sweep. Needs matplotlib, which is the extra `plots`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tnacli.errors import UsageError
from tnacli.recipe.parse import Sweep, value_text
from tnacli.report.cells import Cell
from tnacli.report.plots import PANEL_CM, file_of, require_matplotlib, style
from tnacli.report.statistics import Spread
from tnacli.report.sweep import accuracies, best, best_text, points_of
from tnacli.storage import write_atomically

_KINDS = (("validation", "-", "o"), ("test", (0, (5, 1.5)), "s"))


def save_sweeps(path: Path, swept: Sequence[tuple[Sweep, Sequence[Cell]]], *, title: str = "") -> None:
    """Draw a panel for each sweep, beside its recipe's cells, into a .png, .svg or .pdf file.

    The first key is the axis, of logarithmic steps where it spans more than a factor of 20; the others make a line each. Bars
    are sample standard deviations over the seeds. Raises UsageError without matplotlib or with nothing to draw, StorageError
    if it cannot be written.
    """
    require_matplotlib()
    if not any(cell.results for sweep, cells in swept for cell in points_of(cells, sweep).values()):
        raise UsageError("there is nothing to draw: no run of a sweep is finished; train first, or name another --out")
    with style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        size = (len(swept) * 1.4 * PANEL_CM[0] / 2.54, 1.4 * PANEL_CM[1] / 2.54)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        for axis, (sweep, cells) in zip(figure.subplots(1, len(swept), squeeze=False).flatten(), swept, strict=True):
            _panel(axis, sweep, cells)
        if title:
            figure.suptitle(title, fontsize=9)
        drawn = file_of(figure, path.suffix.lower().removeprefix("."))
    write_atomically(path, drawn)


def _panel(axis: Any, sweep: Sweep, cells: Sequence[Cell]) -> None:
    points = points_of(cells, sweep)
    values = [sweep.points[name][0] for name in points]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {name: sweep.points[name][0] for name in points}
    if not numeric:
        words = list(dict.fromkeys(map(value_text, values)))
        places = {name: words.index(value_text(place)) for name, place in places.items()}
        axis.set_xticks(range(len(words)), words)
    elif min(values) > 0 and max(values) > 20 * min(values):
        axis.set_xscale("log")
    by_others = sorted(points, key=lambda name: [value_text(value) for value in sweep.points[name][1:]])
    for number, (others, names) in enumerate(groupby(by_others, key=lambda name: sweep.points[name][1:])):
        line = sorted(names, key=lambda name: places[name])
        with_others = ", ".join(f"{key}={value_text(v)}" for key, v in zip(sweep.labels[1:], others, strict=True))
        found = accuracies({name: points[name] for name in line})
        for which, (kind, dashes, marker) in enumerate(_KINDS):
            there = {name: both[which] for name, both in found.items() if both[which] is not None}
            if there:
                _line(axis, [places[name] for name in there], list(there.values()), f"{kind} {with_others}".strip(),
                      color=f"C{number}", linestyle=dashes if numeric else "none", marker=marker)  # fmt: skip
    for chosen in best(points):
        axis.axvline(places[chosen], color="#777777", linewidth=0.7, linestyle=(0, (2, 2)))
    axis.set_title(best_text(points, sweep).partition(";")[0], loc="left", fontsize=7)
    axis.set_xlabel(sweep.keys[0])
    axis.set_ylabel("accuracy (%)")
    axis.grid(True, linewidth=0.4, color="#d8d8d8")
    axis.set_axisbelow(True)
    axis.legend(frameon=False)


def _line(axis: Any, places: Sequence[Any], found: Sequence[Spread | None], label: str, **look: Any) -> None:
    means = [one.mean for one in found if one is not None]
    bars = [one.std or 0.0 for one in found if one is not None]
    axis.errorbar(places, means, yerr=bars, label=label, markersize=3.6, markerfacecolor="white", linewidth=1.3,
                  capsize=2, elinewidth=0.8, **look)  # fmt: skip
