"""The edges of a packed network's neurons and sums, in every way of computing them: numbers that are exact in binary."""

from __future__ import annotations

import pytest
import torch

from tests.edges import at_the_threshold
from tnacli.packed import sums
from tnacli.packed.compiled import LookupSums, compiled_engine, lif_spikes
from tnacli.packed.engine import PackedSNN

needs_compiler = pytest.mark.skipif(compiled_engine().library is None, reason=compiled_engine().reason)
A_LITTLE = 2**-20


@needs_compiler
@pytest.mark.parametrize("count", [1, 37, 300])
def test_a_potential_at_the_threshold_spikes_and_is_reset(count: int) -> None:
    """u = 0.5, 0.25 + 0.75 = 1 (spike), 0.75 without what was before, 0.375 + 0.625 = 1 (spike); a little less never does."""
    current = torch.tensor([0.5, 0.75, 0.75, 0.625]).view(4, 1).repeat(1, count)
    assert lif_spikes(current, 4, decay=0.5, threshold=1.0).tolist() == [[n] * count for n in (0, 1, 0, 1)]
    repeated = torch.full((1, count), 1.0)
    assert lif_spikes(repeated, 3, decay=0.5, threshold=1.0).tolist() == [[1] * count] * 3
    assert lif_spikes(repeated - A_LITTLE, 1, decay=0.5, threshold=1.0).tolist() == [[0] * count]


@needs_compiler
@pytest.mark.parametrize("out", [1, 9])
def test_sums_that_bring_neurons_to_the_threshold(out: int) -> None:
    """Three spikes with weights 1, times 1/4 plus 1/4, are a potential of 1; one with weight -1 among them is one of 1/2."""
    weight = torch.ones(out, 3, 1, 1, dtype=torch.int8)
    scale, shift = torch.full((out,), 0.25), torch.full((out,), 0.25)
    counts = torch.ones(2, 1, 5, 7, 3, dtype=torch.uint8)
    spikes = LookupSums(weight, 1).fire(counts, scale, shift, decay=0.5, threshold=1.0)
    assert (spikes == 1).all()
    less = LookupSums(weight, 1).fire(counts, scale, shift - A_LITTLE, decay=0.5, threshold=1.0)
    assert (less[0] == 0).all()
    assert (less[1] == 1).all()  # what is left of the first step is added
    weight[:, 0] = -1
    assert (LookupSums(weight, 1).fire(counts, scale, shift, decay=0.5, threshold=1.0) == 0).all()


@needs_compiler
def test_lookups_that_can_be_compiled_are_right() -> None:
    """Wrong ones would go unused, in silence: the engine tries them on known sums first, and some processors do without."""
    assert sums._gives_known_sums(LookupSums)


@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_compiler), False])
@pytest.mark.parametrize("layout", ["3FC-2FC", "3C3-2C3-4FC", "3C3-R3"])
def test_a_network_at_the_threshold(layout: str, integer: bool, compiled: bool) -> None:
    packed, inputs, expected = at_the_threshold(layout)
    engine = PackedSNN(packed, integer=integer)
    engine._compiled = engine._compiled and compiled
    assert torch.equal(engine(inputs), expected)
