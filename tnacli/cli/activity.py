"""What `tna evaluate --activity` asks for, draws and shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.data.batches import Batches
    from tnacli.evaluation.energy import Activity, Prices
    from tnacli.packed.network import PackedNetwork
    from tnacli.snn.network import Network


def prices_asked_for(
    activity: bool,
    plot: Path | None,
    *,
    mac_pj: float | None,
    addition_pj: float | None,
    memory_pj: float | None,
    by_timestep: bool = False,
) -> Prices | None:
    """What operations cost, or None if nobody asked; refuses options that would have no effect, and a plot that cannot be."""
    from tnacli.errors import UsageError

    prices = {"mac_pj": mac_pj, "addition_pj": addition_pj, "memory_pj": memory_pj}
    given = {key: value for key, value in prices.items() if value is not None}
    if not activity and (plot is not None or memory_pj is not None):
        raise UsageError(f"{'--memory-pj' if plot is None else '--plot'} has no effect without --activity")
    if not activity and not by_timestep:
        idle = [f"--{key.replace('_', '-')}" for key in given]
        if idle:
            raise UsageError(f"{idle[0]} has no effect without --activity, --timesteps or --exit-confidence")
        return None
    from tnacli.evaluation.energy import Prices

    if plot is not None:
        from tnacli.cli.loading import load_torch

        load_torch()
        from tnacli.evaluation.activity_plot import PICTURES, require_matplotlib

        if plot.suffix.lower()[1:] not in PICTURES:
            raise UsageError(f"--plot writes .{', .'.join(PICTURES)} files, not {plot.name!r}")
        require_matplotlib()
    return Prices(**given)


def draw(plot: Path, activity: Activity, *, network: Network | PackedNetwork, batches: Batches, title: str) -> None:
    from tnacli.evaluation.activity_plot import draw_activity
    from tnacli.evaluation.trace import trace
    from tnacli.storage import write_atomically

    sample = next(iter(batches.epoch(0))).inputs[0]
    picture = draw_activity(activity, trace(network, sample), plot.suffix.lower()[1:], title=title)
    write_atomically(plot, picture)


def show(output: Output, activity: Activity) -> None:
    """A row for each layer, and the sums."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    rows = [
        [layer.name, "" if layer.firing_rate is None else f"{layer.firing_rate:.4f}", share(layer.silent),
         share(layer.saturated), f"{layer.macs:,.0f}", f"{layer.additions:,.0f}", f"{layer.additions_nonzero:,.0f}",
         f"{layer.energy_pj(activity.prices) / 1000:,.2f}",
         f"{layer.memory_pj(activity.prices) / 1000:,.2f}", f"{layer.ann_macs:,.0f}",
         f"{layer.ann_macs * activity.prices.mac_pj / 1000:,.2f}"]
        for layer in activity.layers
    ]  # fmt: skip
    totals = [f"{activity.total(of):,.0f}" for of in ("macs", "additions", "additions_nonzero")]
    rows.append(
        ["sum", "", "", "", *totals, f"{activity.energy_nj:,.2f}", f"{activity.memory_nj:,.2f}",
         f"{activity.total('ann_macs'):,.0f}",
         f"{activity.ann_energy_nj:,.2f}"]
    )  # fmt: skip
    columns = ["layer", "firing rate", "silent %", "saturated %", "MACs", "additions", "of weights not 0", "energy nJ",
               "memory nJ", "ANN MACs", "ANN nJ"]  # fmt: skip
    output.table("", columns, rows, right=columns[1:])
    prices, memory, ann_memory = activity.prices, activity.memory_nj, activity.ann_memory_nj
    output.say(
        f"operations and energy of one sample, on average over {activity.samples}; {prices.mac_pj:g} pJ a MAC, "
        f"{prices.addition_pj:g} pJ an addition, {prices.memory_pj:g} pJ for 64 bits read or written"
    )
    output.say(
        f"arithmetic alone {activity.energy_nj:,.2f} nJ (ANN {activity.ann_energy_nj:,.2f}), with memory "
        f"{activity.energy_nj + memory:,.2f} nJ (ANN {activity.ann_energy_nj + ann_memory:,.2f})"
    )
