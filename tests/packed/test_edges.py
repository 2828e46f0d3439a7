"""The edges of a packed network's neurons and sums, in every way of computing them: numbers that are exact in binary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.edges import at_the_threshold
from tnacli.native.library import engine
from tnacli.packed import compiled, plain
from tnacli.packed.codec import Rows
from tnacli.packed.engine import PackedSNN
from tnacli.packed.plain import Neurons

A_LITTLE = np.float32(2**-20)
NEURONS = Neurons(0.5, 1.0)


@pytest.fixture(params=["compiled", "numpy"])
def native(request: pytest.FixtureRequest) -> bool:
    if request.param == "compiled" and engine().library is None:
        pytest.skip(engine().reason)
    return bool(request.param == "compiled")


@pytest.mark.parametrize("count", [1, 37, 300])
def test_a_potential_at_the_threshold_spikes_and_is_reset(count: int, native: bool) -> None:
    """u = 0.5, 0.25 + 0.75 = 1 (spike), 0.75 without what was before, 0.375 + 0.625 = 1 (spike); a little less never does."""
    fire = compiled.lif_spikes if native else plain.lif_spikes
    current = np.repeat(np.array([0.5, 0.75, 0.75, 0.625], np.float32)[None, :, None], count, axis=2)
    assert fire(current, 4, NEURONS).tolist() == [[[n] * count for n in (0, 1, 0, 1)]]
    repeated = np.ones((1, 1, count), np.float32)
    assert fire(repeated, 3, NEURONS).tolist() == [[[1] * count] * 3]
    assert fire(repeated - A_LITTLE, 1, NEURONS).tolist() == [[[0] * count]]


@pytest.mark.parametrize("count", [1, 37, 300])
def test_a_soft_reset_leaves_what_a_spike_does_not_take(count: int, native: bool) -> None:
    """u = 1.5 leaves 0.75, 0.375 + 0.625 = 1 leaves 0.25, 0.125 + 0.75 = 0.875 stays, 0.4375 + 0.5625 = 1 spikes."""
    fire = compiled.lif_spikes if native else plain.lif_spikes
    current = np.repeat(np.array([1.5, 0.625, 0.75, 0.5625], np.float32)[None, :, None], count, axis=2)
    soft = NEURONS._replace(subtract=0.75)
    assert fire(current, 4, soft).tolist() == [[[n] * count for n in (1, 1, 0, 1)]]
    assert fire(current - A_LITTLE, 4, soft).tolist() == [[[n] * count for n in (1, 0, 1, 0)]]


@pytest.mark.parametrize("out", [1, 9])
def test_sums_that_bring_neurons_to_the_threshold(out: int, native: bool) -> None:
    """Three spikes with weights 1, times 1/4 plus 1/4, are a potential of 1; one with weight -1 among them is one of 1/2."""
    sums = compiled.ListSums if native else plain.PlainSums
    weight = np.ones((out, 3, 1, 1), np.int8)
    scale, shift = np.full(out, 0.25, np.float32), np.full(out, 0.25, np.float32)
    counts = np.ones((3, 2, 1, 5, 7), np.uint8)
    assert (sums(Rows.of(weight), 1).spikes(counts, scale, shift, NEURONS) == 1).all()
    less = sums(Rows.of(weight), 1).spikes(counts, scale, shift - A_LITTLE, NEURONS)
    assert (less[:, 0] == 0).all()
    assert (less[:, 1] == 1).all()  # what is left of the first step is added
    weight[:, 0] = -1
    assert (sums(Rows.of(weight), 1).spikes(counts, scale, shift, NEURONS) == 0).all()


@pytest.mark.parametrize("layout", ["3FC-2FC", "3C3-2C3-4FC", "3C3-R3"])
def test_a_network_at_the_threshold(layout: str, native: bool) -> None:
    packed, inputs, expected = at_the_threshold(layout)
    assert torch.equal(PackedSNN(packed, native=native)(inputs), expected)
