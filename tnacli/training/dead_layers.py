"""Layers that pass on nothing: neurons that never spike, or spike nearly all the time."""

from __future__ import annotations

from collections.abc import Mapping

SATURATED = 0.95
"""Spikes a neuron and timestep above which a layer counts as saturated."""


def dead_layers(firing_rate: Mapping[str, float]) -> dict[str, str]:
    """ "silent" or "saturated" by layer, of firing rates in spikes a neuron and timestep; empty if all are alive."""
    silent = {name: "silent" for name, rate in firing_rate.items() if rate == 0}
    return silent | {name: "saturated" for name, rate in firing_rate.items() if rate > SATURATED}


def in_words(dead: Mapping[str, str], firing_rate: Mapping[str, float]) -> str:
    """Which layers are dead, and what to try."""
    silent = [name for name, what in dead.items() if what == "silent"]
    saturated = [f"{name} ({100 * firing_rate[name]:.0f} %)" for name, what in dead.items() if what == "saturated"]
    found, remedies = [], []
    if silent:
        found.append(f"never spikes: {', '.join(silent)}")
        remedies.append("lower")
    if saturated:
        found.append(f"spikes almost always: {', '.join(saturated)}")
        remedies.append("raise")
    return (
        f"{'; '.join(found)}. Such a layer passes on nothing; try a smaller train.learning_rate, model.norm: batch, or to "
        f"{' or '.join(remedies)} model.neuron.threshold"
    )
