"""Figures 2 and 3 and training curves as pictures. Needs matplotlib, which is the extra `plots`.

A method has the same colour and marker at the same alpha in every figure, twins from violet to green and distillation from
blue to yellow, darker where alpha is stronger, so that curves can be told apart in grey; marks are filled where siblings are
others than a twin. Weights are told by the line: solid full precision, dashed ternary, dotted binary.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tnacli.errors import UsageError
from tnacli.report.curves import Curve, label
from tnacli.storage import write_atomically

PICTURES = (".png", ".svg", ".pdf")
PANEL_CM = (8.6, 6.2)
_LINES = {"full": "-", "ternary": (0, (5, 1.5)), "binary": (0, (1, 1.2))}
_MARKERS = "h*osD^v"  # from the strongest alpha to the weakest
_DISTILLED = "8XpPd<>"
_STRONGEST, _WEAKEST = 0.0, -6.0  # exponents of alpha between which the colours are spread
_UNMATCHED = {"baseline": "#000000", "KD": "#8c564b"}


def require_matplotlib() -> None:
    """Raises UsageError with the command that installs it if matplotlib is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("pictures and pages need matplotlib, which is not installed: "
                         "pip install 'tnacli[plots]' (or: pip install matplotlib)") from None  # fmt: skip


def save_figure(path: Path, found: Sequence[Curve], panels: Sequence[str], *, title: str = "") -> None:
    """Draw one panel for each of `panels` (keys of METRICS) into a .png, .svg or .pdf file.

    Raises UsageError without matplotlib or with nothing to draw, StorageError if it cannot be written.
    """
    write_atomically(path, figure_bytes(found, panels, path.suffix.lower().removeprefix("."), title=title))


def save_panels(path: Path, groups: Sequence[tuple[str, Sequence[Curve]]], metric: str, *, title: str = "") -> None:
    """Draw one panel for each titled group of curves, all of the same quantity, side by side: Figure 3."""
    write_atomically(path, _draw([(name, metric, found) for name, found in groups], path.suffix.lower()[1:], title))


def figure_bytes(found: Sequence[Curve], panels: Sequence[str], format: str, *, title: str = "") -> bytes:
    """The picture as the bytes of a png, svg or pdf file."""
    shown = [key for key in panels if any(key in one.series for one in found)]
    names = [f"({letter})" if len(shown) > 1 else "" for letter in "abcdefgh"]
    return _draw([(name, key, found) for name, key in zip(names, shown, strict=False)], format, title)


def svg(found: Sequence[Curve], panels: Sequence[str]) -> str:
    """The picture as an <svg> element to be put into a page."""
    text = figure_bytes(found, panels, "svg").decode()
    return text[text.index("<svg") :]


def _draw(panels: Sequence[tuple[str, str, Sequence[Curve]]], format: str, title: str) -> bytes:
    require_matplotlib()
    if not any(found for _, _, found in panels):
        raise UsageError("there is nothing to draw: no run has finished an epoch; train first, or name another --out")
    with style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        columns = min(len(panels), 3)
        rows = math.ceil(len(panels) / columns)
        # All panels share one legend: in a place that no panel takes, else in a strip below them.
        spare = rows * columns > len(panels)
        labels = {one.label for _, _, found in panels for one in found}
        strip = 0.0 if spare else 0.55 * math.ceil(len(labels) / (3 if columns > 1 else 2))
        heading = "\n".join(filter(None, (title, _marks(panels))))
        height = rows * PANEL_CM[1] + strip + 0.2 + 0.5 * len(heading.splitlines())
        figure = Figure(figsize=(columns * PANEL_CM[0] / 2.54, height / 2.54), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        handles: dict[str, Any] = {}
        for axis, (name, key, found) in zip(axes, panels, strict=False):
            _panel(axis, name, key, found, handles=handles)
        for axis in axes[len(panels) :]:
            axis.axis("off")
        if heading:
            figure.suptitle(heading, fontsize=9)
        lines, names = list(handles.values()), list(handles)
        if spare:
            axes[len(panels)].legend(lines, names, loc="center", frameon=False)
        else:
            figure.legend(lines, names, loc="outside lower center", ncols=3 if columns > 1 else 2, frameon=False)
        return file_of(figure, format)


def file_of(figure: Any, format: str) -> bytes:
    """A figure as the bytes of a png, svg or pdf file. No date inside: the same runs give the same file."""
    file = io.BytesIO()
    figure.savefig(file, format=format, dpi=200, metadata={"Date": None} if format == "svg" else None)
    return file.getvalue()


def _marks(panels: Sequence[tuple[str, str, Sequence[Curve]]]) -> str:
    """What must be said of the numbers wherever they are shown, over all curves."""
    found = [one for _, _, curves in panels for one in curves]
    marks = list(dict.fromkeys(mark for one in found for mark in one.marks))
    unfinished = any(not one.finished for one in found)
    return "; ".join([*marks, *(["some runs are unfinished"] if unfinished else [])])


def _panel(axis: Any, name: str, key: str, found: Sequence[Curve], *, handles: dict[str, Any]) -> None:
    axis.set_title(name, loc="left", fontsize=9)
    axis.set_xlabel("epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylabel(label(key, found))
    axis.grid(True, linewidth=0.4, color="#d8d8d8")
    axis.set_axisbelow(True)
    for number, one in enumerate(found):
        series = one.series.get(key)
        if series is None:
            continue
        step = max(1, len(series.epochs) // 6)
        (line,) = axis.plot(
            series.epochs, series.mean, **looks(one), linewidth=1.3, markersize=3.6, markeredgewidth=0.9,
            markevery=(number % step, step), label=one.label,
        )  # fmt: skip
        handles.setdefault(one.label, line)
        if one.seeds > 1:
            axis.fill_between(series.epochs, series.low, series.high, color=colour(one), alpha=0.15, linewidth=0)
    starts = {one.compressed_from for one in found if one.compressed_from is not None}
    for start in sorted(starts):
        axis.axvline(start - 0.5, color="#777777", linewidth=0.7, linestyle=(0, (2, 2)))
    values = [value for one in found if key in one.series for value in one.series[key].mean]
    bottom = _end_of_the_climb(key, found)
    if bottom is not None:
        axis.set_ylim(bottom=bottom)
    if key in ("matching", "train_loss") and values and min(values) > 0 and max(values) > 50 * min(values):
        axis.set_yscale("log")


def _end_of_the_climb(key: str, found: Sequence[Curve]) -> float | None:
    """Where the axis of an accuracy begins, so that the methods, a point or two apart, do not fall into one line.

    The first tenth of a long run climbs through most of the range; it is cut off.
    """
    shown = [one.series[key] for one in found if key in one.series]
    if "accuracy" not in key or not shown or min(len(series.epochs) for series in shown) < 30:
        return None
    later = [value for series in shown for value in series.low[len(series.epochs) // 10 :]]
    return min(later) - 0.05 * (max(later) - min(later))


def looks(one: Curve) -> dict[str, Any]:
    """What a curve is told by, as matplotlib's settings of a line: colour, mark, its filling, and the line."""
    own = colour(one)
    filled = one.method.startswith("TNA,")  # other siblings than a twin, perhaps at the alpha of TNA beside it
    return {
        "color": own, "marker": _marker(one), "markerfacecolor": own if filled else "white",
        "linestyle": _LINES[one.weights],
    }  # fmt: skip


def colour(one: Curve) -> str:
    """The colour of a curve: by alpha, or one of its method where nothing is matched or nothing else is minimised."""
    if one.alpha is None or one.method in _UNMATCHED:
        return _UNMATCHED.get(one.method, "#000000")
    return alpha_colour(one.alpha, distilled=_distilled(one))


def _distilled(one: Curve) -> bool:
    """Whether a teacher is matched, of a curve whose run matches anything."""
    return not one.method.startswith("TNA")


def alpha_colour(alpha: float, *, distilled: bool) -> str:
    """The colour of an alpha of a twin, or of distillation, as #rrggbb; from dark at 1 and above to light at 1e-6 and below."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    # The last sixth of either map is too light for white paper.
    return str(to_hex(mpl.colormaps["plasma" if distilled else "viridis"](0.04 + 0.8 * _place(alpha))))


def _place(alpha: float) -> float:
    """0 at 1 and above, 1 at 1e-6 and below, by the exponent in between."""
    place = (_STRONGEST - math.log10(alpha)) / (_STRONGEST - _WEAKEST)
    return min(1.0, max(0.0, place))


def _marker(one: Curve) -> str | None:
    if one.method == "KD":
        return "x"
    if one.alpha is None:
        return None
    markers = _DISTILLED if _distilled(one) else _MARKERS
    return markers[round(_place(one.alpha) * (len(markers) - 1))]


@contextmanager
def style() -> Iterator[None]:
    """Settings for print, whatever the user's own are; text in SVG stays text, and its identifiers stay the same."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "font.family": "sans-serif", "font.size": 8, "axes.labelsize": 8, "legend.fontsize": 8, "axes.spines.top": False,
        "axes.spines.right": False, "svg.fonttype": "none", "svg.hashsalt": "tnacli", "axes.linewidth": 0.7,
        "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    }  # fmt: skip
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield
