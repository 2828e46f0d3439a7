"""Counting spikes while a network is evaluated."""

from __future__ import annotations

import torch

from tnacli.evaluation.accuracy import spikes_in
from tnacli.evaluation.scores import SpikeCounts


def test_spikes_of_a_layer_are_counted_exactly_whatever_they_are() -> None:
    """Ones by their sum, which no fp32 total over a batch would hold, and other values by what is not zero."""
    ones = torch.ones(1).expand(2, 5, 3, 1000, 1000)
    counts = SpikeCounts()
    counts.add("binary", spikes_in(ones, binary=True), ones.numel())
    counts.add("binary", spikes_in(torch.zeros(2, 5, 3, 1000, 1000), binary=True), ones.numel())
    counts.add("linear", spikes_in(torch.tensor([[[0.0, 0.5, 2.0, 0.0]]]), binary=False), 4)
    assert counts.rates() == {"binary": 0.5, "linear": 0.5}


def test_a_total_beyond_fp32_loses_no_spike() -> None:
    spikes = torch.ones(1).expand(1, 3, 1, 3000, 3001).clone()
    spikes[0, 0, 0, 0, 0] = 0
    counts = SpikeCounts()
    counts.add("a", spikes_in(spikes, binary=True), spikes.numel())
    assert counts.rates()["a"] == 1 - 1 / spikes.numel()
