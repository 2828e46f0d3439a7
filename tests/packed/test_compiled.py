"""The compiled parts of the engine against PyTorch, bit for bit: neurons after sums, neurons alone, pooling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tnacli.packed.compiled import LookupSums, compiled_engine, lif_spikes, pooled_counts
from tnacli.packed.engine import _pooled
from tnacli.packed.sums import _fp32_sums
from tnacli.recipe.schema.model import Neuron
from tnacli.snn.lif import lif_fused

pytestmark = pytest.mark.skipif(compiled_engine().library is None, reason=compiled_engine().reason)
NEURON = Neuron(decay=0.7, threshold=0.9)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("out", "into", "kernel", "size", "stride", "counts_to"),
    [
        (7, 5, 3, (6, 5), 1, 1),
        (33, 70, 3, (9, 11), 1, 4),
        (3, 9, 5, (7, 7), 2, 64),
        (40, 300, 1, (4, 3), 1, 16),
        (16, 1100, 3, (8, 8), 1, 64),  # the largest counts, and more groups than add up in 16 bits
        (1, 1, 1, (1, 1), 1, 1),
    ],
)
def test_spikes_of_a_layer(
    out: int, into: int, kernel: int, size: tuple[int, int], stride: int, counts_to: int
) -> None:
    weight = torch.randint(-1, 2, (out, into, kernel, kernel), generator=drawn(1)).to(torch.int8)
    weight[0] = 1
    counts = torch.randint(0, counts_to + 1, (3, 2, *size, into), generator=drawn(2)).to(torch.uint8)
    counts[0, 0] = counts_to
    scale, shift = torch.rand(out, generator=drawn(3)) * 0.3, torch.randn(out, generator=drawn(4))
    plain = _fp32_sums(weight, counts_to, stride)
    current = torch.stack([plain(part) for part in counts]) * scale + shift
    spikes = LookupSums(weight, counts_to, stride).fire(counts, scale, shift, decay=0.7, threshold=0.9)
    assert spikes.dtype == torch.uint8
    assert torch.equal(spikes.float(), lif_fused(current, 3, NEURON))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 127, 128, 129, 1000])
@pytest.mark.parametrize("repeated", [False, True])
def test_spikes_of_currents(count: int, repeated: bool) -> None:
    current = torch.randn(1 if repeated else 4, count, generator=drawn(0))
    spikes = lif_spikes(current, 4, decay=0.7, threshold=0.9)
    assert spikes.dtype == torch.uint8
    assert torch.equal(spikes.float(), lif_fused(current, 4, NEURON))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(8, 17)] * 2, st.integers(1, 70)),
    size=st.sampled_from([2, 4, 8]),
)
def test_pooled_counts(shape: tuple[int, ...], size: int) -> None:
    spikes: Tensor = torch.randint(0, 2, shape, generator=drawn(0)).to(torch.uint8)
    assert torch.equal(pooled_counts(spikes, size), _pooled(spikes, size))
