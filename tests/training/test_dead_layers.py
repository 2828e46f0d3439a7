"""The edges of what counts as a layer that passes on nothing."""

from __future__ import annotations

from tnacli.training.dead_layers import ALMOST_ALWAYS, dead_layers


def test_a_layer_is_silent_at_no_spike_at_all_and_too_lively_above_95_percent() -> None:
    assert ALMOST_ALWAYS == 0.95
    rates = {"none": 0.0, "one": 1e-9, "edge": 0.95, "beyond": 0.950001, "all": 1.0}
    assert dead_layers(rates) == {"none": "silent", "beyond": "almost always", "all": "almost always"}
