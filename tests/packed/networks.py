"""Small compressed networks, and inputs for them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tnacli.build import build_network
from tnacli.packed.network import PackedNetwork
from tnacli.packed.pack import pack_network
from tnacli.packed.spec import InputSpec, Origin
from tnacli.quant.weights import compress
from tnacli.recipe.schema.compression import Binary, Ternary
from tnacli.recipe.schema.model import Model, Neuron
from tnacli.snn.network import SpikingNetwork

ORIGIN = Origin(
    data_set="digits",
    recipe="quickstart",
    run="tna",
    seed=0,
    identity="0123456789",
    altered=("with smoke",),
    accuracy=92.5,
    test_samples=60,
)


def make_network(
    layout: str = "6C3-AP2-9C3-AP2-17FC-7FC",
    *,
    channels: int = 2,
    size: tuple[int, int] = (9, 8),
    classes: int = 5,
    mode: Literal["ternary", "binary"] = "ternary",
    decay: float = 0.5,
    seed: int = 0,
    **model: Any,
) -> SpikingNetwork:
    """A compressed network in evaluation mode whose batch norm has seen inputs, so that every layer spikes.

    First-layer and readout weights are rounded to 1/64ths: with inputs of few bits, their sums are exact too.
    """
    settings = Model(layout=layout, neuron=Neuron(decay=decay), **{"timesteps": 3, **model})
    network = build_network(settings, channels=channels, size=size, classes=classes, seed=seed)
    assert isinstance(network, SpikingNetwork)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for synapse in [next(iter(network.spiking.values())).synapse, network.readout]:
            synapse.weight.copy_(torch.round(synapse.weight * 64) / 64)
        network.readout.bias.copy_(torch.round(network.readout.bias * 64) / 64)
        for layer in network.hidden.values():
            layer.synapse.weight.copy_(0.15 * torch.randn(layer.synapse.weight.shape, generator=generator))
    compress(network, Ternary() if mode == "ternary" else Binary())
    for layer in network.weighted.values():
        lively = layer.synapse.bias if layer.norm is None else layer.norm.bias
        assert lively is not None
        lively.data.uniform_(0, 1, generator=generator)
        if layer.norm is not None:
            layer.norm.momentum = None  # statistics of all that is seen
            layer.norm.weight.data.uniform_(1, 2, generator=generator)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.train()(make_inputs(network, 16, seed=seed + 1))
    return network.eval()


def make_inputs(network: SpikingNetwork, count: int, *, events: bool = False, seed: int = 0) -> Tensor:
    """Inputs in 1/8ths within ±2, or event counts 0 to 3."""
    generator = torch.Generator().manual_seed(seed)
    if events:
        shape = (count, network.timesteps, *network.input_shape)
        return torch.randint(0, 4, shape, generator=generator).float()
    return torch.randint(-16, 17, (count, *network.input_shape), generator=generator) / 8


def make_packed(network: SpikingNetwork, encoding: str = "ternary2", *, events: bool = False) -> PackedNetwork:
    channels, height, width = network.input_shape
    statistics = {} if events else {"mean": (0.4,) * channels, "std": (0.3,) * channels}
    facts = InputSpec(kind="events" if events else "images", channels=channels, size=(height, width), **statistics)
    labels = [f"class {n} é" for n in range(network.readout.out_features)]
    return pack_network(network, inputs=facts, labels=labels, origin=ORIGIN, encoding=encoding)


def same(one: PackedNetwork, other: PackedNetwork) -> bool:
    """Whether two packed networks say the same, to the last bit."""
    ours, theirs = one.arrays, other.arrays
    return (
        one.about == other.about
        and ours.keys() == theirs.keys()
        and all(ours[name].dtype == theirs[name].dtype and np.array_equal(ours[name], theirs[name]) for name in ours)
    )
