"""The edges of what is counted: channels that are silent or saturated, and samples among the five best."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tnacli.data.batches import Batch
from tnacli.evaluation.accuracy import measure
from tnacli.evaluation.activity import LayerCounts
from tnacli.evaluation.energy import Bits


def test_a_channel_at_99_percent_is_saturated_and_one_spike_is_not_silence() -> None:
    layer = LayerCounts(
        "fc1",
        (),
        lambda spikes: spikes,
        4,
        spikes=torch.tensor([0.0, 1.0, 98.0, 99.0], dtype=torch.float64),
        chances=100,
    )
    found = layer.activity(0.0, Bits(), 1)
    assert (found.silent, found.saturated) == (0.25, 0.25)
    assert found.firing_rate == pytest.approx(0.495)


def measured(logits: list[list[float]], labels: list[int]) -> tuple[float, float]:
    batch = Batch(torch.tensor(logits), torch.tensor(labels), len(labels))

    def predict(inputs: Tensor) -> Tensor:
        return inputs

    found = measure(predict, [batch])
    return found.accuracy, found.top5


def test_the_fifth_best_counts_and_the_sixth_does_not() -> None:
    logits = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert measured([logits] * 4, [0, 4, 5, 6]) == (25.0, 50.0)
    assert measured([logits[:3]] * 2, [1, 2]) == (0.0, 100.0)  # fewer than five classes: all of them
