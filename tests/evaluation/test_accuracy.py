"""Counting spikes while a network is evaluated."""

from __future__ import annotations

import torch

from tnacli.evaluation.accuracy import SpikeCounts


def test_spikes_of_a_layer_are_counted_exactly_whatever_they_are() -> None:
    """Ones by their sum, which no fp32 total over a batch would hold, and other values by what is not zero."""
    ones = torch.ones(1).expand(2, 5, 3, 1000, 1000)
    counts = SpikeCounts()
    counts.add("binary", ones, binary=True)
    counts.add("binary", torch.zeros(2, 5, 3, 1000, 1000, dtype=torch.float32), binary=True)
    counts.add("linear", torch.tensor([[[0.0, 0.5, 2.0, 0.0]]]), binary=False)
    assert counts.rates() == {"binary": 0.5, "linear": 0.5}


def test_a_total_beyond_fp32_loses_no_spike() -> None:
    spikes = torch.ones(1).expand(1, 3, 1, 3000, 3001).clone()
    spikes[0, 0, 0, 0, 0] = 0
    counts = SpikeCounts()
    counts.add("a", spikes, binary=True)
    assert counts.rates()["a"] == 1 - 1 / spikes.numel()
