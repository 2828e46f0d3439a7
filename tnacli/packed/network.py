"""A packed network as data: what its file says, the steps that follow from it, and how large it is. Nothing here needs torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.packed.codec import ENCODINGS, Counts, Rows, Weights
from tnacli.packed.document import Document
from tnacli.packed.spec import ConvolutionSpec, LayerSpec
from tnacli.packed.steps import Steps

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """Weights and what makes a current of their sums: current = weights * inputs * scale + shift.

    `stored` holds the weights as the file does: float32 of `spec.weight`'s shape, or uint8 rows [out,
    row_bytes]. `scale` and `shift` are [out].
    """

    spec: LayerSpec | ConvolutionSpec
    stored: NDArray[Any]
    scale: Floats
    shift: Floats

    def ternary(self) -> Weights:
        """The weights -1, 0 and +1, int8, in the shape of `spec.weight`; for others than fp32."""
        return self._rows.weights()

    def dense_rows(self) -> Rows:
        """`dense` of weights that are ternary, as rows of bytes."""
        return self._rows if self.spec.groups == 1 else Rows.of(self.dense())

    def dense(self) -> NDArray[Any]:
        """`values` as if every output took every input, [out, in, ...]: where groups are apart, zeros, which change no sum."""
        weight, groups = self.values(), self.spec.groups
        if groups == 1:
            return weight
        out, each, *sides = weight.shape
        found = np.zeros((groups, out // groups, groups, each, *sides), weight.dtype)
        for group, part in enumerate(weight.reshape(groups, -1, each, *sides)):
            found[group, :, group] = part
        return found.reshape(out, groups * each, *sides)

    def values(self) -> NDArray[Any]:
        """The weights in the shape of `spec.weight`: float32 of the first layer, int8 of the others."""
        return self.stored if self.spec.encoding == "fp32" else self.ternary()

    @property
    def counts(self) -> Counts | None:
        """How many weights are -1, 0 and +1; None for fp32. Raises ValueError for bytes that are no weights."""
        return None if self.spec.encoding == "fp32" else self._rows.counts

    @functools.cached_property
    def _rows(self) -> Rows:
        return Rows(self.stored, ENCODINGS[self.spec.encoding], self.spec.weight)


@dataclass(frozen=True, eq=False)
class PackedNetwork:
    """A spiking network with ternary or binary hidden weights: `about` and every tensor, by the names of the file.

    The tensors are those that `about` asks for; `read_packed` and `pack_network` see to it.
    """

    about: Document
    arrays: Mapping[str, NDArray[Any]]

    @functools.cached_property
    def steps(self) -> Steps:
        """What it computes, in order."""
        return self.about.steps()

    @functools.cached_property
    def weights(self) -> dict[str, PackedWeights]:
        """All weights but the readout's by the names of the steps' currents, first to last."""
        return {
            name: PackedWeights(spec, *(self.arrays[f"{name}.{part}"] for part in ("weight", "scale", "shift")))
            for name, spec in self.steps.weights.items()
        }

    @property
    def readout_weight(self) -> Floats:
        """[classes, features]."""
        return self.arrays["readout.weight"]

    @property
    def readout_bias(self) -> Floats:
        """[classes]."""
        return self.arrays["readout.bias"]


@dataclass(frozen=True)
class LayerSize:
    """One row of an inspection: a layer, or the convolution of its shortcut.

    `out` is one sample's output of the layer at one timestep, after pooling. `size_bytes` counts the tensors as
    packed, `fp32_bytes` the same numbers at four bytes each. The shares of -1, 0 and +1 add up to 1; None for
    fp32 weights.
    """

    name: str
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
    for layer in network.steps.layers:
        for current in layer.currents:
            if current.spec is None:
                continue
            weights = network.weights[current.name]
            counts, number = weights.counts, prod(weights.spec.weight)
            constants = weights.scale.nbytes + weights.shift.nbytes
            rows.append(
                LayerSize(
                    name=current.name,
                    weight=weights.spec.weight,
                    out=layer.out,
                    encoding=weights.spec.encoding,
                    weights=number,
                    size_bytes=weights.stored.nbytes + constants,
                    fp32_bytes=4 * number + constants,
                    shares=None if counts is None else counts.shares,
                )
            )
    weight, bias = network.readout_weight, network.readout_bias
    size = weight.nbytes + bias.nbytes
    shape = network.about.readout.weight
    rows.append(LayerSize("readout", shape, shape[:1], "fp32", weight.size, size, size, None))
    return rows
