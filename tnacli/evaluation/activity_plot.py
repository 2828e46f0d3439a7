"""Spike activity as a picture: firing rates and operations by layer, and one sample's spikes and membrane potentials.

Needs matplotlib, which is the extra `plots`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch

from tnacli.errors import UsageError
from tnacli.evaluation.energy import Activity, LayerActivity
from tnacli.evaluation.trace import Trace

PICTURES = ("png", "svg", "pdf")
_RASTER_ROWS = 60  # neurons shown of each layer, evenly spread over it
_MAC, _ADDITION, _SKIPPED = "#1b4f72", "#5dade2", "#d5d8dc"


def require_matplotlib() -> None:
    """Raises UsageError with the command that installs it if matplotlib is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("--plot needs matplotlib; install it with `pip install 'tnacli[plots]'`") from None


def draw_activity(activity: Activity, traces: Sequence[Trace], form: str, *, title: str = "") -> bytes:
    """The picture as the bytes of a png, svg or pdf file; `traces` are those of one sample.

    Raises UsageError if matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize="medium")
    grid = figure.add_gridspec(2, 6)
    _rates(figure.add_subplot(grid[0, :2]), activity.layers)
    _operations(figure.add_subplot(grid[0, 2:4]), activity.layers)
    _energy(figure.add_subplot(grid[0, 4:]), activity)
    _raster(figure.add_subplot(grid[1, :3]), traces)
    _membranes(figure.add_subplot(grid[1, 3:]), traces)
    picture = io.BytesIO()
    figure.savefig(picture, format=form, dpi=130)
    return picture.getvalue()


def _plain(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _bars_by_layer(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()


def _rates(axes: Any, layers: Sequence[LayerActivity]) -> None:
    spiking = [layer for layer in layers if layer.firing_rate is not None]
    bars = axes.barh(range(len(spiking)), [layer.firing_rate for layer in spiking], color=_ADDITION)
    notes = [
        f"{layer.firing_rate:.3f}" + (f"  ({layer.silent:.0%} silent)" if layer.silent else "") for layer in spiking
    ]
    axes.bar_label(bars, notes, padding=3, fontsize="small")
    axes.set_xlim(0, 1.5 * max((layer.firing_rate or 0.0 for layer in spiking), default=1) or 1)
    _bars_by_layer(axes, [layer.name for layer in spiking])
    axes.set_xlabel("spikes a neuron and timestep")
    _plain(axes, "Firing rate")


def _operations(axes: Any, layers: Sequence[LayerActivity]) -> None:
    places = range(len(layers))
    counts = [
        ("multiply-accumulates", [layer.macs for layer in layers], _MAC),
        ("additions", [layer.additions_nonzero for layer in layers], _ADDITION),
        ("additions of weights 0", [layer.additions - layer.additions_nonzero for layer in layers], _SKIPPED),
    ]
    left = [0.0] * len(layers)
    for label, values, colour in counts:
        if any(values):
            axes.barh(places, values, left=left, color=colour, label=label)
        left = [before + value for before, value in zip(left, values, strict=True)]
    axes.plot([layer.ann_macs for layer in layers], places, "k|", markersize=14, label="without spikes: MACs")
    _bars_by_layer(axes, [layer.name for layer in layers])
    axes.set_xlabel("operations a sample")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    axes.legend(fontsize="small", loc="lower right", framealpha=0.9, edgecolor="none")
    _plain(axes, "Operations")


def _energy(axes: Any, activity: Activity) -> None:
    names = ["this network", "with weights 0", "without spikes"]
    values = [activity.energy_nj, activity.energy_dense_nj, activity.ann_energy_nj]
    bars = axes.barh(range(3), values, color=[_ADDITION, _SKIPPED, _MAC])
    axes.bar_label(bars, [f"{value:,.4g} nJ" for value in values], padding=3, fontsize="small")
    axes.set_xlim(0, 1.45 * max(values))
    _bars_by_layer(axes, names)
    axes.tick_params(axis="y", labelsize="small")
    axes.set_xlabel("nJ a sample, arithmetic alone")
    _plain(axes, f"Energy ({activity.prices.mac_pj:g} pJ a MAC, {activity.prices.addition_pj:g} pJ an addition)")


def _raster(axes: Any, traces: Sequence[Trace]) -> None:
    """Spikes of neurons of all layers, one row each, the first layer at the top: a dark cell is a spike."""
    row, middles, shown = 0, [], []
    for layer in traces:
        neurons = layer.spikes.shape[1]
        chosen = torch.linspace(0, neurons - 1, min(neurons, _RASTER_ROWS)).round().long()
        shown.append(layer.spikes[:, chosen].T)
        middles.append(row + len(chosen) / 2 - 0.5)
        row += len(chosen)
        axes.axhline(row - 0.5, color="#c0392b", linewidth=0.8)
    timesteps = traces[0].spikes.shape[0]
    axes.imshow(
        torch.cat(shown).float().numpy(), cmap="Greys", vmin=0, vmax=1.1, aspect="auto", interpolation="nearest",
        extent=(0.5, timesteps + 0.5, row - 0.5, -0.5),
    )  # fmt: skip
    for t in range(1, timesteps):
        axes.axvline(t + 0.5, color="#eaeded", linewidth=0.6)
    axes.set_yticks(middles, [layer.name for layer in traces])
    _timesteps(axes, traces)
    _plain(axes, f"Spikes of one sample, up to {_RASTER_ROWS} neurons a layer")


def _membranes(axes: Any, traces: Sequence[Trace]) -> None:
    """One neuron of each layer that spikes, but not always: its potential before the reset."""
    timesteps = traces[0].spikes.shape[0]
    for layer in traces:
        spikes = layer.spikes.sum(0)
        # The neuron whose number of spikes is nearest to one: its course shows charging, spike and reset.
        neuron = int((spikes.float() - 1.2).abs().argmin())
        course = layer.membrane[:, neuron].tolist()
        (line,) = axes.plot(range(1, timesteps + 1), course, marker=".", label=f"{layer.name}, neuron {neuron}")
        fired = layer.spikes[:, neuron].nonzero()[:, 0].tolist()
        axes.scatter(
            [t + 1 for t in fired], [course[t] for t in fired], marker="^", s=50, color=line.get_color(), zorder=3
        )
    thresholds: dict[float, list[str]] = {}
    for layer in traces:
        thresholds.setdefault(layer.threshold, []).append(layer.name)
    for threshold, names in thresholds.items():
        label = "threshold" if len(thresholds) == 1 else f"threshold of {', '.join(names)}"
        axes.axhline(threshold, color="black", linewidth=0.8, linestyle="--", label=label)
    axes.axhline(0, color="black", linewidth=0.4)
    axes.set_ylabel("membrane potential before reset")
    axes.legend(fontsize="small", frameon=False, loc="best")
    _timesteps(axes, traces)
    _plain(axes, "Membrane potentials of the same sample (triangle: spike)")


def _timesteps(axes: Any, traces: Sequence[Trace]) -> None:
    timesteps = traces[0].spikes.shape[0]
    axes.set_xlim(0.5, timesteps + 0.5)
    axes.set_xticks(range(1, timesteps + 1, max(1, timesteps // 10)))
    axes.set_xlabel("timestep")
