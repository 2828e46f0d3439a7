from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.errors import DataError
from tnacli.packed import sums
from tnacli.packed.compiled import compiled_engine
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, to_bytes
from tnacli.packed.network import PackedNetwork
from tnacli.packed.sums import hidden_sums
from tnacli.snn.network import SpikingNetwork

NETWORKS: list[dict[str, Any]] = [
    {},
    {"layout": "5C3-7C5-3C1-AP4-11FC", "size": (16, 13)},
    {"layout": "3C3-AP8-4C3-AP2-6C3", "size": (34, 35), "mode": "binary"},
    {"layout": "9FC-8FC-7FC", "decay": 0.3},
    {"layout": "4C3-9FC", "norm": "none", "readout": "sum"},
    {"layout": "33C3-70C3-AP2-1C3-64C3", "timesteps": 1},
    {"decay": 1.0, "timesteps": 6, "channels": 1},
    {"layout": "5C3/2-7C5/2-AP2-6C3", "size": (17, 14)},
    {"layout": "5C1/2-6C1/2-7FC", "size": (17, 14)},
    {"layout": "6C3-R6x2-R9/2-AP2-7FC", "size": (9, 8)},
    {"layout": "4C3-AP2-R4-AP2-R6x2/2-GAP-8FC", "size": (16, 16), "mode": "binary"},
    {"layout": "4C3/2-R6-GAP", "size": (8, 8), "norm": "none"},
]
networks = pytest.mark.parametrize("given", NETWORKS, ids=lambda given: given.get("layout", "small"))


@pytest.fixture
def _without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class NoOperators:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(f"no operator {name}")

    monkeypatch.setattr(torch.ops, "onednn", NoOperators())
    monkeypatch.setattr(sums, "_lookups_fail", lambda: "not wanted")
    sums._kernels_fail.cache_clear()
    yield
    sums._kernels_fail.cache_clear()


@pytest.fixture(params=["lookups", "int8 products", "fp32"])
def integer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Each way of summing in turn; whether it is one in integers."""
    if request.param == "lookups":
        if compiled_engine().library is None:
            pytest.skip(compiled_engine().reason)
        monkeypatch.setattr(sums, "_lookups_fail", lambda: None)  # also where the processor has something faster
    if request.param == "int8 products":
        monkeypatch.setattr(sums, "_lookups_fail", lambda: "not wanted")
        if reason := sums._kernels_fail():
            pytest.skip(reason)
    return bool(request.param != "fp32")


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


def spikes_of_engine(engine: PackedSNN, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    parts: dict[str, list[Tensor]] = {}
    logits = engine(inputs, lambda name, spikes: parts.setdefault(name, []).append(spikes.clone()))
    return logits, {name: torch.cat(batch, dim=1).float() for name, batch in parts.items()}


@networks
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_spikes_and_logits_are_those_of_the_network(given: dict[str, Any], events: bool, integer: bool) -> None:
    network = make_network(**given)
    # Inputs without few bits: the first layer's and the readout's sums are rounded here, and have to be
    # equally so.
    inputs = make_inputs(network, 7, events=events) * 0.7
    engine = PackedSNN(from_bytes(to_bytes(make_packed(network, events=events))), integer=integer)
    logits, spikes = spikes_of_network(network, inputs)
    ours, our_spikes = spikes_of_engine(engine, inputs)
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
    inputs, engine = make_inputs(network, 11), PackedSNN(packed)
    whole = spikes_of_engine(engine, inputs)
    for at_once in (1, 3):
        engine._images_at_once = at_once
        logits, spikes = spikes_of_engine(engine, inputs)
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
def test_all_ways_of_summing_equal_sums_in_64_bit_integers(
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
    ways: dict[Callable[[Tensor, int, int], sums.Sums], str | None] = {
        sums.LookupSums: None if compiled_engine().library is not None else compiled_engine().reason,
        sums._integer_sums: sums._kernels_fail(),
        sums._fp32_sums: None,
    }
    for way in (way for way, reason in ways.items() if reason is None):
        found = way(torch.from_numpy(weight), pool * pool, stride)(torch.from_numpy(counts))
        assert found.is_contiguous()
        np.testing.assert_array_equal(found.numpy(), (expected / pool**2).astype(np.float32), strict=True)


def test_integers_are_chosen_where_they_can_be_had() -> None:
    weight = torch.ones(3, 5, dtype=torch.int8)
    for integer, expected in ((True, sums.why_not_integers(5, 4)), (False, "fp32 was asked for")):
        way, reason = hidden_sums(weight, 4, integer=integer)
        assert reason == expected
        assert isinstance(way, sums.LookupSums) == (integer and sums._lookups_fail() is None)


def test_layers_whose_sums_are_not_exact_are_not_summed_in_integers() -> None:
    assert "do not add up exactly" in str(sums.why_not_integers(1 << 24, 1))
    assert "do not add up exactly" in str(sums.why_not_integers(1 << 18, 64))
    assert sums.why_not_integers((1 << 18) - 1, 64) == sums.why_not_integers(1, 1)


@pytest.mark.usefixtures("_without_kernels")
def test_without_kernels_the_same_result_comes_from_fp32(network: SpikingNetwork, packed: PackedNetwork) -> None:
    engine = PackedSNN(packed)
    assert list(engine.fallbacks) == ["conv2", "fc1", "fc2"]
    assert "no usable int8 kernels for this CPU: no operator" in engine.fallbacks["fc1"]
    inputs = make_inputs(network, 5)
    with torch.no_grad():
        assert torch.equal(engine(inputs), network(inputs))


@pytest.mark.parametrize(("way", "fail"), [("_integer_sums", "_kernels_fail"), ("LookupSums", "_lookups_fail")])
def test_kernels_that_give_wrong_sums_are_not_used(way: str, fail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "_has_vnni", lambda: False)  # where lookups are not even tried
    right, tried = sums._fp32_sums, getattr(sums, fail).__wrapped__
    if (reason := tried()) is not None:
        pytest.skip(reason)

    def saturating(weight: Tensor, counts_to: int, stride: int) -> sums.Sums:
        return lambda counts: right(weight, counts_to, stride)(counts).clamp(-500, 500)

    monkeypatch.setattr(sums, way, saturating)
    assert "wrong sums" in tried()
    monkeypatch.setattr(sums, way, right)
    assert tried() is None


def test_running_and_building_touch_no_random_state(packed: PackedNetwork, network: SpikingNetwork) -> None:
    inputs, before = make_inputs(network, 2), torch.get_rng_state()
    sums._kernels_fail.cache_clear()
    sums._lookups_fail.cache_clear()
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
