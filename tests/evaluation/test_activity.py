"""Spikes, operations and energy: against counting one by one, and against the counters of SpikingJelly and NeuroBench."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.packed.described import NETWORKS, described
from tests.packed.described import inputs_of as random_inputs
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.build import build_network
from tnacli.data.batches import Batch
from tnacli.evaluation.activity import measure_activity
from tnacli.evaluation.activity_plot import draw_activity
from tnacli.evaluation.energy import Bits, Prices
from tnacli.evaluation.own_activity import bits_of
from tnacli.evaluation.trace import trace
from tnacli.packed.engine import PackedSNN
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork

LAYOUTS = [
    {},
    {"layout": "4C3-3C5-AP2-5C1-6FC", "size": (5, 7), "mode": "binary"},
    {"layout": "9FC-8FC-7FC", "timesteps": 5},
    {"layout": "4C3/2-R4-AP2-R5x2/2-6FC", "size": (12, 13)},
]


def batches(inputs: Tensor, size: int = 4) -> list[Batch]:
    return [Batch(part, torch.zeros(len(part), dtype=torch.long), len(inputs)) for part in inputs.split(size)]


def spikes_of(network: SpikingNetwork, inputs: Tensor) -> dict[str, Tensor]:
    """Spikes [T, N, ...] before pooling by layer."""
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.neurons.register_forward_hook(lambda module, given, spikes, name=name: seen.update({name: spikes}))
        for name, layer in network.spiking.items()
    ]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return seen


def inputs_of(network: SpikingNetwork, inputs: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, weight and inputs [T * N, ...] of every hidden layer."""
    after = after_pooling(network, inputs)
    for before, (name, following) in zip(after, list(network.spiking.items())[1:], strict=False):
        yield name, following.synapse.weight.detach(), after[before]


def after_pooling(network: SpikingNetwork, inputs: Tensor) -> dict[str, Tensor]:
    """What leaves every layer, [T * N, ...]."""
    spikes, after = spikes_of(network, inputs), {}
    for name, layer in network.spiking.items():
        x = spikes[name].flatten(0, 1)
        after[name] = nn.functional.avg_pool2d(x, layer.pool) if layer.pool > 1 else x
    return after


def met_by_shortcut(network: SpikingNetwork, inputs: Tensor, name: str, nonzero: bool) -> int:
    """Additions that the shortcut of layer `name` causes: each spike is one, or meets the weights of a convolution."""
    layer = network.spiking[name]
    if layer.source is None:
        return 0
    x = after_pooling(network, inputs)[layer.source].numpy()
    if layer.shortcut is None:
        return int((x != 0).sum())
    weight = layer.shortcut.synapse.weight.detach().numpy()
    return met_one_by_one(x, weight, nonzero, stride=2)


def met_one_by_one(x: np.ndarray, weight: np.ndarray, nonzero: bool, stride: int = 1) -> int:
    """Pairs of a non-zero input and a weight, looked at one after the other."""
    if weight.ndim == 2:
        x = x.reshape(len(x), -1)
        each = (weight != 0).sum(0) if nonzero else np.full(weight.shape[1], len(weight))
        return int(sum(each[i] for _, i in zip(*x.nonzero(), strict=True)))
    out, _, k, _ = weight.shape
    pairs = 0
    for _, c, row, column in zip(*x.nonzero(), strict=True):
        for i, j in itertools.product(range(k), range(k)):
            y, z = row - i + k // 2, column - j + k // 2
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3] and y % stride == z % stride == 0:
                pairs += int((weight[:, c, i, j] != 0).sum()) if nonzero else out
    return pairs


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("settings", LAYOUTS, ids=lambda settings: settings.get("layout", "plain"))
def test_operations_are_those_counted_one_by_one(settings: dict[str, Any], events: bool) -> None:
    network = make_network(**settings)
    inputs = make_inputs(network, 6, events=events)
    activity = measure_activity(network, batches(inputs))
    rows = {layer.name: layer for layer in activity.layers}
    for name, weight, x in inputs_of(network, inputs):
        stride = network.spiking[name].stride
        for nonzero, counted in ((False, rows[name].additions), (True, rows[name].additions_nonzero)):
            own = met_one_by_one(x.numpy(), weight.numpy(), nonzero, stride)
            assert 6 * counted == pytest.approx(own + met_by_shortcut(network, inputs, name, nonzero))
        assert rows[name].macs == 0
    first, readout = activity.layers[0], activity.layers[-1]
    first_weight = next(iter(network.spiking.values())).synapse.weight.detach().numpy()
    stride = network.shapes[0].stride
    once = met_one_by_one(np.ones((1, *network.input_shape)), first_weight, False, stride)
    assert first.macs == once * (network.timesteps if events else 1)
    assert (first.ann_macs, first.additions) == (once, 0)
    assert readout.macs == network.timesteps * network.readout.weight.numel()


@pytest.mark.parametrize("settings", LAYOUTS, ids=lambda settings: settings.get("layout", "plain"))
def test_a_packed_file_is_as_active_as_its_checkpoint(settings: dict[str, Any]) -> None:
    network = make_network(**settings)
    inputs = make_inputs(network, 10)
    assert measure_activity(make_packed(network), batches(inputs)) == measure_activity(network, batches(inputs, 3))


def test_rates_and_shares_of_channels() -> None:
    network = make_network()
    inputs = make_inputs(network, 8)
    silenced = network.spiking["conv2"].norm
    assert silenced is not None
    silenced.bias.data[0], silenced.bias.data[1] = -1e6, 1e6
    spikes = spikes_of(network, inputs)
    activity = measure_activity(network, batches(inputs))
    for layer in activity.layers[:-1]:
        seen = spikes[layer.name].flatten(0, 1)
        rates = seen.transpose(0, 1).flatten(1).mean(1)
        assert layer.firing_rate == pytest.approx(float(seen.mean()))
        assert layer.silent == pytest.approx(float((rates == 0).float().mean()))
        assert layer.saturated == pytest.approx(float((rates >= 0.99).float().mean()))
    conv2 = activity.layers[1]
    assert conv2.silent is not None
    assert conv2.silent >= 1 / 9
    assert conv2.saturated is not None
    assert conv2.saturated >= 1 / 9


def test_sums_of_spikes_are_one_addition_each() -> None:
    """conv4 takes the spikes of conv2 and, pooled by maxima, of conv1."""
    network = described(NETWORKS["sums of spikes"])
    inputs, seen = torch.from_numpy(random_inputs(network, 6)), dict[str, Tensor]()
    PackedSNN(network)(inputs, lambda layer, spikes: seen.update({layer: spikes.flatten(0, 1).float()}))
    summed = seen["conv2"] + F.max_pool2d(seen["conv1"], 3, 2, 1)
    assert summed.max() == 2
    (row,) = (row for row in measure_activity(network, batches(inputs)).layers if row.name == "conv4")
    weight = network.weights["conv4"].values()
    for nonzero, found in ((False, row.additions), (True, row.additions_nonzero)):
        assert found == met_one_by_one(summed.numpy(), weight, nonzero, stride=2) / 6


def test_energy_is_operations_times_prices() -> None:
    network = make_network()
    inputs = batches(make_inputs(network, 4))
    activity = measure_activity(network, inputs, Prices(mac_pj=1000, addition_pj=1))
    macs, additions = activity.total("macs"), activity.total("additions_nonzero")
    assert activity.energy_nj == pytest.approx(macs + additions / 1000)
    assert activity.ann_energy_nj == pytest.approx(activity.total("ann_macs"))
    assert activity.energy_nj < activity.energy_dense_nj
    assert (Prices().mac_pj, Prices().addition_pj) == (4.6, 0.9)
    said = activity.as_json()
    assert said["energy_nj"] == pytest.approx(sum(layer["energy_nj"] for layer in said["layers"]))
    assert [n["name"] for n in said["layers"]] == [*network.spiking, "readout"]


@pytest.mark.parametrize("packed", [False, True])
def test_memory_of_a_tiny_network_counted_by_hand(packed: bool) -> None:
    """One pixel, 2 neurons of which one always spikes and one never, 3 neurons, 2 classes, 2 timesteps."""
    network = make_network("2FC-3FC", channels=1, size=(1, 1), classes=2, timesteps=2)
    first = network.spiking["fc1"].norm
    assert first is not None
    first.bias.data[:] = torch.tensor([1e6, -1e6])
    source = make_packed(network) if packed else network
    activity = measure_activity(source, batches(make_inputs(network, 3)), Prices(memory_pj=64))
    counted = [
        # 2 weights of 32 bits once; 2 potentials of 32 bits, read and written, twice; 2 spikes written and read, twice, 1 pixel.
        Bits(weights=2 * 32, potentials=2 * 2 * 32 * 2, spikes=2 * 2 * 2 + 8, ann=2 * 32 + 2 * 2 * 32 + 8),
        # 1 spike meets 3 weights of 2 bits, twice.
        Bits(weights=3 * 2 * 2, potentials=3 * 2 * 32 * 2, spikes=3 * 2 * 2, ann=6 * 32 + 3 * 2 * 32),
        # 6 weights of 32 bits, twice; 2 potentials. Without spikes 2 values are written.
        Bits(weights=6 * 32 * 2, potentials=2 * 2 * 32 * 2, spikes=0, ann=6 * 32 + 2 * 32),
    ]
    assert [layer.bits for layer in activity.layers] == counted
    said = activity.as_json()
    assert said["memory_nj"] == pytest.approx((336 + 408 + 640) / 1000)
    assert said["ann_memory_nj"] == pytest.approx((200 + 384 + 256) / 1000)
    assert said["energy_with_memory_nj"] == pytest.approx(said["energy_nj"] + said["memory_nj"])
    assert [layer["memory_nj"] for layer in said["layers"]] == pytest.approx([0.336, 0.408, 0.640])


def test_a_shortcut_reads_spikes_once_more_and_no_weight() -> None:
    network = make_network("4C3-R4-5FC", size=(3, 3))
    inputs = make_inputs(network, 2)
    conv1, conv2, block = measure_activity(network, batches(inputs)).layers[:3]
    weight = next(w for name, w, _ in inputs_of(network, inputs) if name == block.name)
    bypassed = met_by_shortcut(network, inputs, block.name, False) / 2
    assert weight.shape == (4, 4, 3, 3)
    assert bypassed > 0
    assert block.bits.weights == pytest.approx(2 * (block.additions - bypassed))
    assert conv1.bits.spikes == 3 * 4 * 9 * network.timesteps + 8 * 2 * 9  # written, and read by conv2 and the block
    assert conv2.bits.spikes == 2 * 4 * 9 * network.timesteps


def test_bits_of_a_weight() -> None:
    ternary = torch.tensor([[0.0, 0.5, -0.5], [2.0, -2.0, 2.0], [0.0, 0.0, 0.0]])  # a scale each channel
    assert bits_of(ternary) == 2
    assert bits_of(ternary + 0.1) == 32


def full_precision(layout: str) -> SpikingNetwork:
    """A network whose weights are all but none zero, and whose first layer spikes now and then."""
    network = build_network(Model(layout=layout, timesteps=3), channels=2, size=(8, 7), classes=5, seed=0)
    assert isinstance(network, SpikingNetwork)
    with torch.no_grad():
        for layer in network.spiking.values():
            assert layer.norm is not None
            layer.norm.bias.fill_(0.6)
    return network.eval()


@pytest.mark.filterwarnings("ignore")  # SpikingJelly's own
def test_spikingjelly_counts_the_same_synaptic_operations() -> None:
    counters = pytest.importorskip("spikingjelly.activation_based.op_counter", reason="SpikingJelly is not installed")
    network = full_precision("6C3-5C3-12FC-8FC")
    inputs = make_inputs(network, 6)
    counter = counters.SynOpCounter()
    # With a gradient: without one the first layer's and the readout's ordered sums are none of PyTorch's operators.
    with counters.DispatchCounterMode([counter]):
        network(inputs)
    activity = measure_activity(network, batches(inputs, 6))
    # SpikingJelly prices the readout by its spikes, where we count a dense MAC for each weight and timestep.
    into_readout = spikes_of(network, inputs)["fc2"].count_nonzero() * 5
    assert counter.get_total() == pytest.approx(6 * activity.total("additions") + int(into_readout))
    assert activity.total("additions") > 1000


@pytest.mark.filterwarnings("ignore")
def test_spikingjelly_sees_no_spikes_behind_a_pooling() -> None:
    """Where the two disagree: averaged spikes are no spikes to it; we add their number up."""
    counters = pytest.importorskip("spikingjelly.activation_based.op_counter", reason="SpikingJelly is not installed")
    network = full_precision("6C3-AP2-5C3")
    inputs = make_inputs(network, 6)
    counter = counters.SynOpCounter()
    # With a gradient: without one the first layer's and the readout's ordered sums are none of PyTorch's operators.
    with counters.DispatchCounterMode([counter]):
        network(inputs)
    assert counter.get_total() == int(spikes_of(network, inputs)["conv2"].count_nonzero()) * 5
    assert measure_activity(network, batches(inputs)).layers[1].additions > 0


@pytest.mark.filterwarnings("ignore")  # NeuroBench's own
@pytest.mark.parametrize("compressed", [False, True], ids=["full precision", "ternary"])
def test_neurobench_counts_the_same_effective_operations(compressed: bool) -> None:
    layers = pytest.importorskip("neurobench.metrics.utils.layers", reason="NeuroBench is not installed")
    network = make_network(layout="6C3-AP2-5C3-12FC") if compressed else full_precision("6C3-AP2-5C3-12FC")
    inputs = make_inputs(network, 6)
    rows = {layer.name: layer for layer in measure_activity(network, batches(inputs)).layers}
    for name, weight, x in inputs_of(network, inputs):
        module: nn.Conv2d | nn.Linear
        if weight.dim() == 4:
            module = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2)
        else:
            module, x = nn.Linear(weight.shape[1], weight.shape[0]), x.flatten(1)
        module.weight.data = weight.clone()
        effective, _ = layers.single_layer_MACs(x, module)
        dense, _ = layers.single_layer_MACs(x, module, total=True)
        assert effective == pytest.approx(6 * rows[name].additions_nonzero)
        assert dense == pytest.approx(6 * network.timesteps * rows[name].ann_macs)


@pytest.mark.parametrize("settings", LAYOUTS, ids=lambda settings: settings.get("layout", "plain"))
@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
def test_a_trace_has_the_spikes_of_the_network(settings: dict[str, Any], events: bool) -> None:
    network = make_network(**settings)
    inputs = make_inputs(network, 3, events=events)
    spikes = spikes_of(network, inputs)
    for number, sample in enumerate(inputs):
        for source in (network, make_packed(network, events=events)):
            for layer in trace(source, sample):
                assert torch.equal(layer.spikes, spikes[layer.name][:, number].flatten(1).bool())
                assert torch.equal(layer.spikes, layer.membrane >= network.model.neuron.threshold)


def test_a_trace_has_the_threshold_of_each_layer() -> None:
    network = described(NETWORKS["constants of their own"])
    traces = trace(network, torch.from_numpy(random_inputs(network, 1)[0]))
    thresholds = [layer.neuron.threshold for layer in network.steps.layers]
    assert len(set(thresholds)) > 1
    assert [layer.threshold for layer in traces] == thresholds
    for layer in traces:
        assert torch.equal(layer.spikes, layer.membrane >= layer.threshold)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib.*")
@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_names_every_layer(form: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    network = make_network()
    inputs = make_inputs(network, 4)
    activity = measure_activity(network, batches(inputs))
    picture = draw_activity(activity, trace(network, inputs[0]), form, title="a network")
    assert picture.startswith(begins)
    if form == "svg":
        assert all(f"<!-- {layer.name} -->".encode() in picture for layer in activity.layers)
