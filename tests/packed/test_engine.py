from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.errors import DataError
from tnacli.native.library import engine, variants
from tnacli.packed.codec import Rows
from tnacli.packed.compiled import ListSums
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, to_bytes
from tnacli.packed.network import PackedNetwork
from tnacli.packed.plain import PlainSums
from tnacli.snn.network import SpikingNetwork

NETWORKS: list[dict[str, Any]] = [
    {},
    {"layout": "5C3-7C5-3C1-AP4-11FC", "size": (16, 13)},
    {"layout": "3C3-AP8-4C3-AP2-6C3", "size": (34, 35), "mode": "binary"},
    {"layout": "9FC-8FC-7FC", "decay": 0.3},
    {"layout": "4C3-9FC", "norm": "none", "readout": "sum"},
    {"layout": "4C3-9FC", "readout": "none"},
    {"layout": "33C3-70C3-AP2-1C3-64C3", "timesteps": 1},
    {"decay": 1.0, "timesteps": 6, "channels": 1},
    {"layout": "5C3/2-7C5/2-AP2-6C3", "size": (17, 14)},
    {"layout": "5C1/2-6C1/2-7FC", "size": (17, 14)},
    {"layout": "6C3-R6x2-R9/2-AP2-7FC", "size": (9, 8)},
    {"layout": "4C3-AP2-R4-AP2-R6x2/2-GAP-8FC", "size": (16, 16), "mode": "binary"},
    {"layout": "4C3/2-R6-GAP", "size": (8, 8), "norm": "none"},
    {
        "layout": "4C3-65C3-AP8-66C3-7FC",
        "size": (17, 16),
        "mode": "binary",
    },  # more places and inputs than are worked on at once
]
WAYS: list[type[ListSums | PlainSums]] = [PlainSums, *([ListSums] if engine().library else [])]
networks = pytest.mark.parametrize("given", NETWORKS, ids=lambda given: given.get("layout", "small"))


@pytest.fixture(params=["avx512", "avx2", "baseline", "numpy"])
def native(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Each way of computing in turn; whether it is a compiled one."""
    if request.param == "numpy":
        yield False
        return
    library = engine().library
    if library is None:
        pytest.skip(engine().reason)
    there = variants(library)
    if request.param not in there:
        pytest.skip(f"this processor has no {request.param}")
    library.use_variant(there[request.param])
    yield True
    library.use_variant(min(there.values()))


def spikes_of_network(network: SpikingNetwork, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    spikes: dict[str, Tensor] = {}
    hooks = [
        layer.neurons.register_forward_hook(lambda module, args, out, name=name: spikes.__setitem__(name, out))
        for name, layer in network.spiking.items()
    ]
    try:
        with torch.no_grad():
            return network(inputs), spikes
    finally:
        for hook in hooks:
            hook.remove()


def spikes_of_engine(snn: PackedSNN, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    parts: dict[str, list[Tensor]] = {}
    logits = snn(inputs, lambda name, spikes: parts.setdefault(name, []).append(spikes.clone()))
    return logits, {name: torch.cat(batch, dim=1).float() for name, batch in parts.items()}


@networks
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_spikes_and_logits_are_those_of_the_network(given: dict[str, Any], events: bool, native: bool) -> None:
    network = make_network(**given)
    # Inputs without few bits: the first layer's and the readout's sums are rounded here, and have to be
    # equally so.
    inputs = make_inputs(network, 7, events=events) * 0.7
    snn = PackedSNN(from_bytes(to_bytes(make_packed(network, events=events))), native=native)
    logits, spikes = spikes_of_network(network, inputs)
    ours, our_spikes = spikes_of_engine(snn, inputs)
    assert list(our_spikes) == list(spikes)
    for name, expected in spikes.items():
        assert torch.equal(our_spikes[name], expected), name
    assert sum(0.02 < float(expected.mean()) < 0.98 for expected in spikes.values()) >= len(spikes) - 1
    assert torch.equal(ours, logits)


def test_both_encodings_give_the_same_logits(network: SpikingNetwork) -> None:
    inputs = make_inputs(network, 6)
    two, five = (PackedSNN(make_packed(network, encoding))(inputs) for encoding in ("ternary2", "ternary5"))
    assert torch.equal(two, five)


def test_spikes_do_not_depend_on_how_a_batch_is_worked_through(packed: PackedNetwork, network: SpikingNetwork) -> None:
    inputs, snn = make_inputs(network, 11), PackedSNN(packed)
    whole = spikes_of_engine(snn, inputs)
    for at_once in (1, 3):
        snn._images_at_once = at_once
        logits, spikes = spikes_of_engine(snn, inputs)
        assert torch.equal(logits, whole[0])
        assert all(torch.equal(spikes[name], expected) for name, expected in whole[1].items())


@settings(max_examples=60, deadline=None)
@given(
    out=st.integers(1, 40),
    into=st.integers(1, 70),
    kernel=st.sampled_from([0, 1, 3, 5]),
    side=st.integers(1, 9),
    stride=st.sampled_from([1, 1, 2, 3]),
    pool=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 1000),
)
def test_both_ways_of_summing_equal_sums_in_64_bit_integers(
    out: int, into: int, kernel: int, side: int, stride: int, pool: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-1, 2, (out, into, kernel, kernel) if kernel else (out, into), dtype=np.int8)
    weight[0] = 1  # with all counts at their largest, the largest sum there is
    counts = rng.integers(0, pool * pool + 1, (2, side, side, into) if kernel else (3, into), dtype=np.uint8)
    counts[0] = pool * pool
    if kernel:
        padded = np.pad(counts.astype(np.int64), ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
        expected = np.einsum("nhwcij,ocij->nhwo", windows[:, ::stride, ::stride], weight.astype(np.int64))
    else:
        expected = counts.astype(np.int64) @ weight.astype(np.int64).T
    spread = counts.reshape(*counts.shape, 1, 1) if counts.ndim == 2 else counts.transpose(0, 3, 1, 2)
    given = np.ascontiguousarray(spread.transpose(1, 0, 2, 3)[:, None])  # [in, T, n, H, W]
    one, none = np.ones(out, np.float32), np.zeros(out, np.float32)
    wanted = (expected / pool**2).astype(np.float32)
    wanted = wanted.T if wanted.ndim == 2 else wanted.transpose(3, 0, 1, 2)
    for sums in WAYS:
        found = sums(Rows.of(weight), pool * pool, stride).currents(given, one, none)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, strict=True)


def test_sums_beyond_what_fp32_holds_are_rounded_once() -> None:
    """16,777,217 spikes, a number that fp32 does not have, in either way."""
    counts = np.full((1 + (1 << 18), 1, 1, 1, 1), 64, np.uint8)
    counts[-1] = 1
    weight, one, none = np.ones((1, len(counts)), np.int8), np.ones(1, np.float32), np.zeros(1, np.float32)
    for sums in WAYS:
        assert float(sums(Rows.of(weight), 64).currents(counts, one, none)[0, 0, 0, 0, 0]) * 64 == 1 << 24


def test_running_and_building_touch_no_random_state(packed: PackedNetwork, network: SpikingNetwork) -> None:
    inputs, before = make_inputs(network, 2), torch.get_rng_state()
    PackedSNN(packed)(inputs)
    assert torch.equal(torch.get_rng_state(), before)


def test_pixels_are_normalised_in_three_rounded_steps(packed: PackedNetwork) -> None:
    pixels = torch.arange(256).repeat(9, 4)[:, : 2 * 9 * 8].reshape(9, 2, 9, 8).to(torch.uint8)
    spec = packed.about.input
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    expected = (pixels.numpy().astype(np.float32) / np.float32(255) - mean) / std
    floats = pixels.float()
    for values in (pixels, floats):
        np.testing.assert_array_equal(PackedSNN(packed).normalise(values).numpy(), expected, strict=True)
    assert torch.equal(floats, pixels.float()), "what is given is left as it is"


def test_event_counts_stay_counts(network: SpikingNetwork) -> None:
    counts = make_inputs(network, 2, events=True).to(torch.uint8)
    assert torch.equal(PackedSNN(make_packed(network, events=True)).normalise(counts), counts.float())


@pytest.mark.parametrize(
    ("inputs", "events", "what"),
    [
        (torch.zeros(2, 1, 9, 8), False, "takes images of 2x9x8 in float32; these are 1x9x8 in float32"),
        (torch.zeros(2, 3, 2, 9, 8), False, "these are 3x2x9x8"),
        (torch.zeros(2, 2, 9, 8, dtype=torch.uint8), False, "in uint8"),
        (torch.zeros(2, 4, 2, 9, 8), True, "takes events of 3x2x9x8 in float32; these are 4x2x9x8"),
    ],
)
def test_inputs_of_another_shape_are_refused(network: SpikingNetwork, inputs: Tensor, events: bool, what: str) -> None:
    with pytest.raises(DataError, match=what):
        PackedSNN(make_packed(network, events=events))(inputs)


@pytest.mark.parametrize("layout", ["4C3-AP2-3C3-5FC", "9FC-8FC", "4C3-3C3"])
def test_no_inputs_give_no_logits(layout: str) -> None:
    network = make_network(layout)
    assert PackedSNN(make_packed(network))(make_inputs(network, 0)).shape == (0, 5)
