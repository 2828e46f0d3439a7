"""A packed network as data: what its file says, and how large that is. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.packed.codec import ENCODINGS, Counts, Weights, check, unpack
from tnacli.packed.document import ConvolutionFacts, Document, LayerFacts

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """Weights and what makes a current of their sums: current = weights * inputs * scale + shift.

    `stored` holds the weights as the file does: float32 of `facts.weight`'s shape, or uint8 rows [out,
    row_bytes]. `scale` and `shift` are [out].
    """

    facts: LayerFacts | ConvolutionFacts
    stored: NDArray[Any]
    scale: Floats
    shift: Floats

    def ternary(self) -> Weights:
        """The weights -1, 0 and +1, int8, in the shape of `facts.weight`; for others than fp32."""
        rows = unpack(self.stored, self.facts.fan_in, ENCODINGS[self.facts.encoding])
        return rows.reshape(self.facts.weight)

    def counts(self) -> Counts | None:
        """How many weights are -1, 0 and +1; None for fp32. Raises ValueError for bytes that are no weights."""
        if self.facts.encoding == "fp32":
            return None
        return check(self.stored, self.facts.fan_in, ENCODINGS[self.facts.encoding])


@dataclass(frozen=True, eq=False)
class PackedLayer(PackedWeights):
    """One layer; `shortcut` are the weights of its shortcut where that has a convolution."""

    facts: LayerFacts
    shortcut: PackedWeights | None = None


@dataclass(frozen=True, eq=False)
class PackedNetwork:
    """A spiking network with ternary or binary hidden weights; the readout is [classes, features] and
    [classes].
    """

    about: Document
    layers: tuple[PackedLayer, ...]
    readout_weight: Floats
    readout_bias: Floats

    def weights(self) -> dict[str, PackedWeights]:
        """All weights but the readout's by name, first to last; those of a shortcut behind their layer's own."""
        named: dict[str, PackedWeights] = {}
        for layer in self.layers:
            named[layer.facts.name] = layer
            if layer.shortcut is not None:
                named[f"{layer.facts.name}.shortcut"] = layer.shortcut
        return named

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every tensor by the name that it has in the file."""
        named: dict[str, NDArray[Any]] = {}
        for name, weights in self.weights().items():
            tensors = {"weight": weights.stored, "scale": weights.scale, "shift": weights.shift}
            named |= {f"{name}.{part}": array for part, array in tensors.items()}
        return named | {"readout.weight": self.readout_weight, "readout.bias": self.readout_bias}


@dataclass(frozen=True)
class LayerSize:
    """One row of an inspection: a layer, or the convolution of its shortcut.

    `out` is one sample's output of the layer at one timestep, behind pooling. `size_bytes` counts the tensors as
    packed, `fp32_bytes` the same numbers at four bytes each. The shares of -1, 0 and +1 add up to 1; None for
    fp32 weights.
    """

    name: str
    kind: str
    weight: tuple[int, ...]
    out: tuple[int, ...]
    encoding: str
    weights: int
    size_bytes: int
    fp32_bytes: int
    shares: tuple[float, float, float] | None


def layer_sizes(network: PackedNetwork) -> list[LayerSize]:
    """The size of all weights, first to readout."""
    rows = []
    outs = dict(zip((layer.facts.name for layer in network.layers), network.about.out_shapes(), strict=True))
    for name, weights in network.weights().items():
        facts, counts = weights.facts, weights.counts()
        number, constants = prod(facts.weight), weights.scale.nbytes + weights.shift.nbytes
        rows.append(
            LayerSize(
                name=name,
                kind="conv" if len(facts.weight) == 4 else "fc",
                weight=facts.weight,
                out=outs[name.removesuffix(".shortcut")],
                encoding=facts.encoding,
                weights=number,
                size_bytes=weights.stored.nbytes + constants,
                fp32_bytes=4 * number + constants,
                shares=None if counts is None else counts.shares,
            )
        )
    weight, bias = network.readout_weight, network.readout_bias
    size = weight.nbytes + bias.nbytes
    shape = network.about.readout.weight
    rows.append(LayerSize("readout", "readout", shape, shape[:1], "fp32", weight.size, size, size, None))
    return rows
