"""Random packed networks from what their files say: what no layout of ours has, but files of other libraries' networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.packed.networks import ORIGIN
from tnacli.packed.codec import ENCODINGS, pack
from tnacli.packed.document import Document, version_for
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import InputSpec, LayerSpec, NeuronSpec, ReadoutSpec
from tnacli.packed.steps import resolve

NEURON = NeuronSpec(decay=0.5, threshold=1.0)
CLASSES = 5
PAIRS = {"of": "spikes", "size": 2, "stride": 2, "padding": 0}
OVERLAPPING = {"of": "spikes", "size": 3, "stride": 2, "padding": 1}
BEFORE = {"of": "currents", "size": 2, "stride": 2, "padding": 0}
BEFORE_OVERLAPPING = {"of": "currents", "size": 3, "stride": 1, "padding": 1}

NETWORKS: dict[str, list[dict[str, Any]]] = {
    "maxima of spikes": [
        {"weight": (6, 2, 3, 3), "max_pool": PAIRS},
        {"weight": (9, 6, 3, 3), "max_pool": OVERLAPPING},
        {"weight": (11, 36)},
    ],
    "overlapping first, strides": [
        {"weight": (6, 2, 5, 5), "max_pool": OVERLAPPING},
        {"weight": (7, 6, 3, 3), "stride": 2, "max_pool": {"of": "spikes", "size": 3, "stride": 1, "padding": 1}},
        {"weight": (7, 7, 3, 3), "max_pool": {"of": "spikes", "size": 2, "stride": 1, "padding": 0}},
    ],
    "maxima of currents": [
        {"weight": (6, 2, 3, 3), "max_pool": BEFORE},
        {"weight": (9, 6, 3, 3), "max_pool": BEFORE_OVERLAPPING},
        {"weight": (11, 144)},
    ],
    "shortcuts around maxima": [
        {"weight": (6, 2, 3, 3), "max_pool": OVERLAPPING},
        {"weight": (6, 6, 3, 3), "max_pool": BEFORE_OVERLAPPING, "shortcut": {"source": "conv1", "convolution": None}},
        {
            "weight": (8, 6, 3, 3), "stride": 2, "max_pool": PAIRS, "shortcut": {
                "source": "conv1",
                "convolution": {"weight": (8, 6, 1, 1), "stride": 2, "encoding": "ternary2", "binary": False},
            },
        },
    ],
    "no padding": [
        {"weight": (6, 2, 5, 5), "padding": 0},
        {"weight": (9, 6, 3, 3), "padding": 0, "pool": 2},
        {"weight": (7, 9, 3, 3), "padding": 2, "stride": 2},
        {"weight": (11, 28)},
    ],
    "groups": [
        {"weight": (6, 1, 3, 3), "groups": 2, "pool": 2},
        {"weight": (8, 3, 1, 1), "groups": 2},
        {"weight": (8, 1, 3, 3), "groups": 8, "padding": 2},
        {"weight": (9, 8, 1, 1)},
        {"weight": (12, 3, 5, 5), "groups": 3, "stride": 2},
    ],
    "sums of spikes": [
        {"weight": (6, 2, 3, 3), "max_pool": OVERLAPPING},
        {"weight": (6, 6, 3, 3), "added": "conv1"},
        {"weight": (8, 6, 3, 3), "stride": 2},
        {"weight": (8, 6, 1, 1), "stride": 2, "source": "conv2", "added": "conv3", "pool": 2},
    ],
    "sums of several spikes, skipped": [
        {"weight": (6, 2, 3, 3), "neuron": {"decay": 1.0, "threshold": 1.0, "subtract": 1.0, "most_spikes": 3}},
        {"weight": (6, 6, 3, 3), "added": "conv1", "shortcut": {"source": "conv1", "convolution": None}},
        {"weight": (7, 6, 3, 3), "source": "conv1", "pool": 2, "shortcut": {
            "source": "conv2",
            "convolution": {"weight": (7, 6, 1, 1), "stride": 1, "encoding": "ternary2", "binary": False}}},
        {"weight": (11, 112)},
    ],
    "means of the last maps": [
        {"weight": (6, 2, 3, 3)},
        {"weight": (9, 6, 3, 3), "padding": 0, "pool": 3},
    ],
    "several spikes": [
        {"weight": (6, 2, 3, 3), "pool": 2, "neuron": {
            "decay": 1.0, "threshold": 0.5, "subtract": 0.5, "most_spikes": 31, "lowest": -0.75}},
        {"weight": (9, 6, 3, 3), "neuron": {
            "decay": 0.75, "threshold": 0.4, "subtract": 0.6, "most_spikes": 3, "lowest": 0.0}},
        {"weight": (7, 9, 3, 3), "pool": 2, "neuron": {"decay": 1.0, "threshold": 1.0, "lowest": -0.5}},
        {"weight": (11, 28), "neuron": {
            "decay": 0.5, "threshold": 1.0, "subtract": 1.0, "most_spikes": 127, "lowest": None}},
    ],
    "soft resets": [
        {"weight": (6, 2, 3, 3), "pool": 2, "neuron": {"decay": 0.5, "threshold": 1.0, "subtract": 1.0}},
        {"weight": (9, 6, 3, 3), "neuron": {"decay": 0.75, "threshold": 0.75, "subtract": 1.25}},
        {"weight": (7, 9, 3, 3), "pool": 2},
        {"weight": (11, 28), "neuron": {"decay": 1.0, "threshold": 2.0, "subtract": 1.5}},
    ],
    "constants of their own": [
        {"weight": (6, 2, 3, 3), "pool": 2},
        {"weight": (9, 6, 3, 3), "neuron": {"decay": 0.8, "threshold": 0.75}},
        {"weight": (11, 144), "neuron": {"decay": 1.0, "threshold": 2.0}},
    ],
}  # fmt: skip
"""Layers for `described`, each with something of its own, on maps of 9x8."""


def described(
    layers: Sequence[dict[str, Any]],
    *,
    channels: int = 2,
    size: tuple[int, int] = (9, 8),
    timesteps: int = 5,
    events: bool = False,
    seed: int = 0,
) -> PackedNetwork:
    """A network with `layers` (keys of `LayerSpec`; the weights' shape without inputs' number is enough), of random numbers.

    Every layer spikes, and none always: scale and shift are set by what the sums of random inputs are. First-layer and readout
    weights are of few bits.
    """
    generator = np.random.default_rng(seed)
    statistics = {} if events else {"mean": (0.4,) * channels, "std": (0.3,) * channels}
    kind = "events" if events else "images"
    inputs = InputSpec.model_validate({"kind": kind, "channels": channels, "size": size, **statistics})
    specs: list[LayerSpec] = []
    arrays: dict[str, Any] = {}
    for number, keys in enumerate(layers):
        encoding = "ternary2" if number else "fp32"
        name = f"{'conv' if len(keys['weight']) == 4 else 'fc'}{number + 1}"
        kind = name.rstrip("0123456789")
        spec = LayerSpec.model_validate({"name": name, "kind": kind, "encoding": encoding, **keys})
        specs.append(spec)
        arrays |= _random(name, spec.weight, encoding, generator)
        if spec.shortcut is not None and spec.shortcut.convolution is not None:
            convolution = spec.shortcut.convolution
            arrays |= _random(f"{name}.shortcut", convolution.weight, "ternary2", generator)
    found = resolve(inputs, NEURON, specs, ReadoutSpec(weight=(CLASSES, 1), leak=0.5), timesteps=timesteps)
    features = int(np.prod(found.readout.source.out))
    arrays["readout.weight"] = np.rint(generator.normal(0, 16, (CLASSES, features))).astype(np.float32) / 64
    arrays["readout.bias"] = np.rint(generator.normal(0, 16, CLASSES)).astype(np.float32) / 64
    about = Document(
        version=version_for(NEURON, specs), created_by="tests", input=inputs, labels=tuple("abcde"), timesteps=timesteps,
        neuron=NEURON, layers=tuple(specs), readout=ReadoutSpec(weight=(CLASSES, features), leak=0.5), origin=ORIGIN,
    )  # fmt: skip
    return PackedNetwork(about, arrays)


def _random(name: str, weight: tuple[int, ...], encoding: str, generator: np.random.Generator) -> dict[str, Any]:
    """Weights, scale and shift: sums of the size of the threshold."""
    fan_in = int(np.prod(weight[1:]))
    if encoding == "fp32":
        stored: Any = np.rint(generator.normal(0, 16, weight)).astype(np.float32) / 64
        scale = np.full(weight[0], 1.5 / np.sqrt(fan_in) / 0.25)
    else:
        codes = generator.choice(np.array([-1, 0, 1], np.int8), (weight[0], fan_in))
        stored, scale = pack(codes, ENCODINGS[encoding]), np.full(weight[0], 1.5 / np.sqrt(fan_in))
    return {
        f"{name}.weight": stored,
        f"{name}.scale": (scale * generator.uniform(0.7, 1.4, weight[0])).astype(np.float32),
        f"{name}.shift": generator.uniform(-0.2, 0.8, weight[0]).astype(np.float32),
    }


def inputs_of(network: PackedNetwork, count: int, *, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Inputs in 1/8ths within ±2, or numbers of events up to 3."""
    generator, about = np.random.default_rng(seed), network.about
    shape = (count, *about.input.shape(about.timesteps))
    if about.input.kind == "events":
        return generator.integers(0, 4, shape).astype(np.float32)
    return (generator.integers(-16, 17, shape) / 8).astype(np.float32)


def rates(network: PackedNetwork, inputs: Any) -> dict[str, float]:
    """The share of spikes of each layer."""
    found: dict[str, list[float]] = {}
    PackedSNN(network)(inputs, lambda name, spikes: found.setdefault(name, []).append(float((spikes > 0).mean())))
    return {name: float(np.mean(parts)) for name, parts in found.items()}


def most_spikes(network: PackedNetwork, inputs: Any) -> dict[str, int]:
    """The most spikes of a neuron of each layer in one timestep."""
    found: dict[str, int] = {}
    PackedSNN(network)(inputs, lambda name, spikes: found.update({name: max(int(spikes.max()), found.get(name, 0))}))
    return found
