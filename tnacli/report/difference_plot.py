"""Differences between runs with their intervals, as a picture: a line each. Needs matplotlib, which is the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tnacli.errors import UsageError
from tnacli.report.differences import Difference
from tnacli.report.effects import Effect
from tnacli.report.plots import file_of, require_matplotlib, style
from tnacli.report.statistics import SIGNIFICANCE, Interval
from tnacli.report.table import Column, text
from tnacli.storage import write_atomically

_LINE_CM, _AXIS_CM, _LETTER_CM = 0.44, 7.5, 0.15
_POINTS = Column("", "", signed=True)
_SHOWN, _NOT_SHOWN, _PAPER = "#1f4e79", "#7f7f7f", "#c05a00"


@dataclass(frozen=True)
class Line:
    """One difference over `seeds` seeds, and the paper's if it gives one, in percentage points.

    `shown` says that the interval excludes 0 and p, corrected, is below 0.05.
    """

    label: str
    mean: float
    interval: Interval | None
    seeds: int
    shown: bool = False
    paper: float | None = None

    @property
    def numbers(self) -> str:
        """Such as `+0.79 (+0.33 to +1.25), 24 seeds`."""
        interval = "" if self.interval is None else f" ({text(self.interval, _POINTS)})"
        return f"{text(self.mean, _POINTS)}{interval}, {self.seeds} seed{'s' * (self.seeds != 1)}"


def lines_of(differences: Sequence[Difference]) -> dict[str, list[Line]]:
    """A line for each of the corrected `differences` that there is.

    Where several recipes have the same, they stand below what is subtracted from what, which is the key; else all below "".
    """
    found: dict[str, list[Line]] = {}
    recipes = {one.first.recipe for one in differences}
    sets = {one.first.data_set for one in differences}
    for one in differences:
        ours = one.ours
        if ours is None:
            continue
        name, paper = (
            (one.name, one.paper) if isinstance(one, Effect) else (f"{one.first.name} - {one.second.name}", None)
        )
        label = one.first.data_set if len(sets) == len(recipes) else one.first.recipe
        excludes = ours.interval is not None and 0 not in ours.interval
        shown = excludes and one.p_holm is not None and one.p_holm < SIGNIFICANCE
        line = Line(label, ours.difference.mean, ours.interval, ours.difference.count, shown, paper)
        found.setdefault(name, []).append(line)
    if any(len(lines) > 1 for lines in found.values()):
        return found
    return {"": [replace(line, label=name) for name, (line,) in found.items()]} if found else {}


def save_differences(path: Path, lines: Mapping[str, Sequence[Line]], *, title: str = "", split: str = "test") -> None:
    """Draw the `lines` below what they are differences of, from top to bottom, into a .png, .svg or .pdf file.

    Raises UsageError without matplotlib or with nothing to draw, StorageError if it cannot be written.
    """
    write_atomically(path, _drawn(lines, path.suffix.lower().removeprefix("."), title, split))


def svg(lines: Mapping[str, Sequence[Line]], *, split: str = "test") -> str:
    """The picture as an <svg> element to be put into a page. Raises UsageError as `save_differences`."""
    drawn = _drawn(lines, "svg", "", split).decode()
    return drawn[drawn.index("<svg") :]


def _drawn(lines: Mapping[str, Sequence[Line]], format: str, title: str, split: str) -> bytes:
    require_matplotlib()
    if not lines:
        raise UsageError("there is nothing to draw: no two runs have finished a seed in common; train first")
    with style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        every = [one for ones in lines.values() for one in ones]
        count = len([name for name in lines if name]) + len(every)
        top, bottom = 0.9 if title else 0.3, 1.5
        height = count * _LINE_CM + top + bottom
        left = 0.8 + _LETTER_CM * max(len(label) for label in (*lines, *(one.label for one in every)))
        width = left + _AXIS_CM + 0.5 + _LETTER_CM * max(len(one.numbers) for one in every)
        figure = Figure(figsize=(width / 2.54, height / 2.54))
        FigureCanvasAgg(figure)
        axis = figure.add_axes((left / width, bottom / height, _AXIS_CM / width, count * _LINE_CM / height))
        axis.set_ylim(count - 0.5, -0.5)
        axis.axvline(0, color="#333333", linewidth=0.8)
        beside = axis.get_yaxis_transform()  # across in parts of the axis, down in lines
        row = 0
        for name, ones in lines.items():
            if name:
                axis.text((0.3 - left) / _AXIS_CM, row, name, transform=beside, va="center", weight="bold")
                row += 1
            for one in ones:
                axis.text((0.6 - left) / _AXIS_CM, row, one.label, transform=beside, va="center")
                axis.text(1.03, row, one.numbers, transform=beside, va="center")
                colour = _SHOWN if one.shown else _NOT_SHOWN
                if one.interval is not None:
                    axis.plot([one.interval.low, one.interval.high], [row, row], color=colour, linewidth=1.4)
                axis.plot(
                    [one.mean], [row], "o", color=colour, markerfacecolor=colour if one.shown else "white", markersize=4
                )
                if one.paper is not None:
                    axis.plot([one.paper], [row], "|", color=_PAPER, markersize=8, markeredgewidth=1.4)
                row += 1
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.grid(True, axis="x", linewidth=0.4, color="#d8d8d8")
        axis.set_axisbelow(True)
        axis.set_xlabel(f"difference in {split} accuracy (percentage points)")
        legend = "line: 95 % interval; filled: shown (p, corrected, below 0.05)"
        papers = any(one.paper is not None for one in every)
        figure.text(0.02, 0.2 / height, legend + ("; bar: the paper's, at full size" if papers else ""), fontsize=7)
        if title:
            figure.suptitle(title, fontsize=9)
        return file_of(figure, format)
