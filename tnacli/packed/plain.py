"""The engine's work in NumPy: sums, neurons and pooling, where nothing is compiled. It defines what compiled code computes.

Counts of spikes are uint8 [C, T, n, H, W], channels first. Weights are -1, 0 and +1: while fan_in times the largest
count stays below 2**24, every partial sum is a number that fp32 holds exactly, in any order, and dividing by a power
of two keeps it so. Beyond that sums are computed in fp64 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tnacli.packed.codec import Rows
from tnacli.packed.spec import NeuronSpec
from tnacli.packed.steps import Squares

Counts = NDArray[np.uint8]
Floats = NDArray[np.float32]

_Array = TypeVar("_Array", Counts, Floats, NDArray[np.int64])

_EXACT_BELOW = 1 << 24


class Neurons(NamedTuple):
    """The constants of LIF neurons (Eq. 1). A spike takes `subtract` away from the potential; 0: all of it.

    There are `most` spikes in a timestep at most, and `lowest` is the least potential that is kept.
    """

    decay: float
    threshold: float
    subtract: float = 0.0
    lowest: float = -math.inf
    most: int = 1


def neurons_of(spec: NeuronSpec) -> Neurons:
    """The constants that a file says."""
    lowest = -math.inf if spec.lowest is None else spec.lowest
    return Neurons(spec.decay, spec.threshold, spec.subtract or 0.0, lowest, spec.most_spikes)


class PlainSums:
    """Currents and spikes from counts 0 to `counts_to`, over `divisor` (without it, over `counts_to`).

    Weights are [out, in, kernel, kernel] or [out, in]. Convolutions have `padding` zeros around, half the
    kernel without it.
    """

    def __init__(
        self,
        weights: Rows,
        counts_to: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        divisor: int | None = None,
    ) -> None:
        self._counts_to, self._stride, self._divisor = counts_to, stride, divisor or counts_to
        self._kernel = weights.shape[2] if len(weights.shape) == 4 else 1
        self._around = self._kernel // 2 if padding is None else padding
        self._rows = weights.weights().reshape(weights.shape[0], -1)

    def currents(self, counts: Counts, scale: Floats, shift: Floats) -> Floats:
        """sum * scale + shift, fp32 [out, T, n, H', W'], of counts [in, T, n, H, W]."""
        return np.stack(list(self._each(counts, scale, shift)), axis=1)

    def spikes(self, counts: Counts, scale: Floats, shift: Floats, neurons: Neurons) -> Counts:
        """What LIF neurons make of these currents, uint8 of the same shape."""
        return np.stack([spiked for _, spiked in lif_steps(self._each(counts, scale, shift), neurons)], axis=1)

    def _each(self, counts: Counts, scale: Floats, shift: Floats) -> Iterator[Floats]:
        """The currents [out, n, H', W'] of each timestep."""
        exact: Any = np.float32 if self._rows.shape[1] * self._counts_to < _EXACT_BELOW else np.float64
        rows: Any = self._rows.astype(exact)
        stride, sides = self._stride, (self._kernel, self._kernel)
        around = padded(counts, self._around)
        for t in range(counts.shape[1]):
            windows = np.lib.stride_tricks.sliding_window_view(around[:, t], sides, axis=(2, 3))[
                :, :, ::stride, ::stride
            ]
            outer = windows.shape[1:4]
            laid = windows.transpose(0, 4, 5, 1, 2, 3).reshape(rows.shape[1], -1).astype(exact)
            summed = ((rows @ laid) / exact(self._divisor)).astype(np.float32)
            yield (summed * scale[:, None] + shift[:, None]).reshape(-1, *outer)


def padded(counts: Counts, pad: int) -> Counts:
    """`counts` with `pad` zeros around height and width, contiguous."""
    if not pad:
        return np.ascontiguousarray(counts)
    *before, height, width = counts.shape
    shape = (*before, height + 2 * pad, width + 2 * pad)
    around = np.zeros(shape, np.uint8)
    around[..., pad : pad + height, pad : pad + width] = counts
    return around


def lif_steps(currents: Iterator[Floats], neurons: Neurons) -> Iterator[tuple[Floats, Counts]]:
    """Eq. 1: the membrane potential before the reset and the spikes, uint8, of each timestep's current.

    The potential is written over at the next timestep. Each multiplication and addition is rounded on its own.
    """
    potential: Any = None
    for current in currents:
        if potential is None:
            potential = current.copy()
        else:
            potential *= np.float32(neurons.decay)
            potential += current
        spiked = potential >= np.float32(neurons.threshold)
        spikes = spiked.view(np.uint8)
        if neurons.most > 1:
            fitting = np.clip(potential / np.float32(neurons.threshold), 0, neurons.most)
            spikes = fitting.astype(np.uint8)
        yield potential, spikes
        if neurons.subtract:
            potential -= spikes * np.float32(neurons.subtract)
        else:
            potential[spiked] = 0
        if neurons.lowest > -math.inf:
            np.maximum(potential, np.float32(neurons.lowest), out=potential)


def lif_spikes(currents: Floats, timesteps: int, neurons: Neurons) -> Counts:
    """Spikes uint8 [out, T, ...] of currents [out, T or 1, ...]."""
    each = (currents[:, min(t, currents.shape[1] - 1)] for t in range(timesteps))
    return np.stack([spiked for _, spiked in lif_steps(each, neurons)], axis=1)


def pooled(spikes: Counts, size: int) -> Counts:
    """How many of each size x size neurons spiked, uint8 [C, T, n, H, W].

    Rows and columns that do not fill a square are dropped, as AvgPool2d does.
    """
    *before, height, width = spikes.shape
    whole = spikes[..., : height // size * size, : width // size * size]
    squares = whole.reshape(*before, height // size, size, width // size, size)
    counts: Counts = squares.sum(axis=(-3, -1), dtype=np.uint8)
    return counts


def largest(values: _Array, squares: Squares) -> _Array:
    """The largest of each of the `squares` of `values` [..., H, W], spikes or currents, floats or whole numbers."""
    size, stride, padding = squares
    kind: Any = values.dtype
    least = -np.inf if kind.kind == "f" else np.iinfo(kind).min
    around = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(padding, padding)] * 2, constant_values=least)
    ends = [stride * (squares.along(side) - 1) + 1 for side in values.shape[-2:]]
    found: _Array | None = None
    for i in range(size):
        for j in range(size):
            shifted = around[..., i : i + ends[0] : stride, j : j + ends[1] : stride]
            found = shifted.copy() if found is None else np.maximum(found, shifted, out=found)
    assert found is not None
    return found
