"""The compiled parts of the engine against NumPy, bit for bit, in every variant: neurons after sums, neurons alone, pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tnacli.native.library import engine, variants
from tnacli.packed import compiled, plain
from tnacli.packed.codec import ENCODINGS, Rows
from tnacli.packed.plain import Neurons
from tnacli.recipe.schema.model import Neuron
from tnacli.snn.lif import lif_fused

LIBRARY = engine().library
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=engine().reason)
NEURONS, SOFT = Neurons(0.7, 0.9), Neurons(0.7, 0.9, 1.1, -0.5, 3)


@pytest.fixture(params=[] if LIBRARY is None else list(variants(LIBRARY)), autouse=True)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    assert LIBRARY is not None
    there = variants(LIBRARY)
    LIBRARY.use_variant(there[request.param])
    yield request.param
    LIBRARY.use_variant(min(there.values()))


def test_the_variant_that_any_processor_has_is_there_and_is_the_last() -> None:
    assert LIBRARY is not None
    assert list(variants(LIBRARY))[-1] == "baseline"


@pytest.fixture
def _divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little there is to do, it is shared among threads."""
    monkeypatch.setattr("tnacli.native.threads._WORTH_A_THREAD", 1e-3)


@pytest.mark.usefixtures("threads", "_divided")
@pytest.mark.parametrize(
    ("out", "into", "kernel", "size", "stride", "counts_to", "zeros"),
    [
        (7, 5, 3, (6, 5), 1, 1, 0.7),
        (33, 70, 3, (11, 9), 1, 4, 0.7),
        (3, 9, 5, (7, 7), 2, 64, 0.3),
        (40, 300, 1, (4, 3), 1, 16, 0.0),
        (5, 40, 3, (17, 16), 1, 4, 0.2),
        (16, 1100, 3, (8, 8), 1, 64, 0.1),  # the largest counts, and more than add up in 16 bits
        (16, 1100, 3, (8, 8), 1, 64, 0.9),
        (1, 1, 1, (1, 1), 1, 1, 0.5),
        (6, 20, 3, (3, 3), 1, 4, 0.5),  # several images in a block of places
        (6, 20, 3, (8, 70), 1, 1, 0.5),  # a row of places in several blocks
        (4, 9, 5, (5, 261), 2, 2, 0.4),
        (9, 500, 1, (1, 70), 1, 2, 0.6),  # more places than a block, in a row
        (5, 7, 1, (7, 9), 2, 2, 0.1),
        (4, 43, 3, (6, 6), 1, 1, 0.1),  # few zeros, and a last block whose last byte is not full
    ],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_currents_and_spikes_of_a_layer(
    out: int, into: int, kernel: int, size: tuple[int, int], stride: int, counts_to: int, zeros: float, encoding: str
) -> None:
    rng = np.random.default_rng(1)
    weight = (
        rng.choice([-1, 1], (out, into, kernel, kernel)) * (rng.random((out, into, kernel, kernel)) >= zeros)
    ).astype(np.int8)
    weight[0] = 1
    rows = Rows.of(weight, ENCODINGS[encoding])
    counts = rng.integers(0, counts_to + 1, (into, 3, 2, *size), dtype=np.uint8)
    counts[:, 0, 0] = counts_to
    counts[: into // 2, 1] = 0  # whole blocks of inputs that are silent
    scale, shift = rng.random(out, np.float32) * np.float32(0.3), rng.standard_normal(out, np.float32)
    ways = [module(rows, counts_to, stride) for module in (compiled.ListSums, plain.PlainSums)]
    ours, expected = (way.currents(counts, scale, shift) for way in ways)
    np.testing.assert_array_equal(ours, expected, strict=True)
    soft, expected_soft = (way.spikes(counts, scale, shift, SOFT) for way in ways)
    np.testing.assert_array_equal(soft, expected_soft, strict=True)
    spikes, expected_spikes = (way.spikes(counts, scale, shift, NEURONS) for way in ways)
    np.testing.assert_array_equal(spikes, expected_spikes, strict=True)
    current = torch.from_numpy(expected).transpose(0, 1)
    assert torch.equal(
        torch.from_numpy(spikes).transpose(0, 1).float(), lif_fused(current, 3, Neuron(decay=0.7, threshold=0.9))
    )


@pytest.mark.usefixtures("threads", "_divided")
@pytest.mark.parametrize("count", [1, 127, 128, 129, 1000])
@pytest.mark.parametrize("repeated", [False, True])
def test_spikes_of_currents(count: int, repeated: bool) -> None:
    current = np.random.default_rng(0).standard_normal((3, 1 if repeated else 4, count), np.float32)
    spikes = compiled.lif_spikes(current, 4, NEURONS)
    np.testing.assert_array_equal(spikes, plain.lif_spikes(current, 4, NEURONS), strict=True)
    soft = compiled.lif_spikes(current, 4, SOFT)
    np.testing.assert_array_equal(soft, plain.lif_spikes(current, 4, SOFT), strict=True)
    assert count < 100 or not np.array_equal(soft, spikes)
    theirs = lif_fused(torch.from_numpy(current).transpose(0, 1), 4, Neuron(decay=0.7, threshold=0.9))
    assert torch.equal(torch.from_numpy(spikes).transpose(0, 1).float(), theirs)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), *[st.integers(1, 3)] * 2, *[st.integers(8, 17)] * 2),
    size=st.sampled_from([2, 4, 8]),
)
def test_pooled_counts(shape: tuple[int, ...], size: int) -> None:
    spikes = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8)
    ours = compiled.pooled(spikes, size)
    np.testing.assert_array_equal(ours, plain.pooled(spikes, size), strict=True)
    theirs = torch.nn.functional.avg_pool2d(torch.from_numpy(spikes).float().flatten(0, 2), size) * size**2
    assert torch.equal(torch.from_numpy(ours).float().flatten(0, 2), theirs)
