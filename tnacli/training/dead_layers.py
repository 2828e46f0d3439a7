"""Layers that pass on nothing: neurons that never spike, or spike nearly all the time."""

from __future__ import annotations

from collections.abc import Mapping

from tnacli.recipe.schema.model import Model

ALMOST_ALWAYS = 0.95
"""Spikes a neuron and timestep above which a whole layer says nearly the same of every input.

The single channels that `tna evaluate --activity` counts as saturated do so at a rate of their own (evaluation/energy.py).
"""


def dead_layers(firing_rate: Mapping[str, float]) -> dict[str, str]:
    """ "silent" or "almost always" by layer, of firing rates in spikes a neuron and timestep; empty if all are alive."""
    silent = {name: "silent" for name, rate in firing_rate.items() if rate == 0}
    return silent | {name: "almost always" for name, rate in firing_rate.items() if rate > ALMOST_ALWAYS}


def remedies_for(dead: Mapping[str, str], firing_rate: Mapping[str, float], model: Model) -> str:
    """Which layers are dead, and what to try that `model` does not have yet."""
    silent = [name for name, what in dead.items() if what == "silent"]
    always = [f"{name} ({100 * firing_rate[name]:.0f} %)" for name, what in dead.items() if what == "almost always"]
    found, remedies = [], []
    if silent:
        found.append(f"never spikes: {', '.join(silent)}")
        remedies.append("lower")
    if always:
        found.append(f"spikes almost always: {', '.join(always)}")
        remedies.append("raise")
    tries = ["a smaller train.learning_rate", *(["model.norm: batch"] if model.norm == "none" else [])]
    return (
        f"{'; '.join(found)}. Such a layer passes on nothing; try {', '.join(tries)}, or to {' or '.join(remedies)} "
        f"model.neuron.threshold"
    )
