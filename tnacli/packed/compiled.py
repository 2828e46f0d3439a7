"""The engine's work in C (`native/engine.c`): sums over lists of weights that are not zero, neurons and pooling.

Everything here is a choice of speed: integers are summed exactly, and neurons round as in NumPy
(`tnacli.packed.plain`), so spikes are the same.
"""

from __future__ import annotations

import ctypes

import numpy as np

from tnacli.native.library import INPUTS, Constants, Layer, Lists, address, engine
from tnacli.native.threads import in_parts
from tnacli.packed.codec import Rows
from tnacli.packed.network import Floats
from tnacli.packed.plain import Counts, Neurons, padded

_NONE = Neurons(0.0, 0.0)


class ListSums:
    """Currents and spikes from counts 0 to `counts_to`, over `divisor` (without it, over `counts_to`).

    Weights are [out, in, kernel, kernel] or [out, in]. Convolutions have `padding` zeros around, half the kernel without it.
    Weights are held as two bytes for each that is not 0; where more are +1 than 0, for each that is not +1 (`Lists` of engine.c).
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
        self._shape = weights.shape if len(weights.shape) == 4 else (*weights.shape, 1, 1)
        self._around = self._shape[2] // 2 if padding is None else padding
        there = weights.counts
        dense = int(there.positive > there.zero)
        rows, out, inputs = np.ascontiguousarray(weights.bytes), weights.shape[0], weights.fan_in
        each = INPUTS // weights.encoding.digits * weights.encoding.digits
        blocks = -(-inputs // each)
        counts, self._order = np.empty((blocks, out), np.uint32), np.empty((blocks, out), np.uint16)
        lengths = np.empty((blocks, out, 2), np.uint32)
        about = address(rows), out, inputs, weights.encoding.base, weights.encoding.digits, dense
        in_parts(lambda *part: _library().count_weights(*about, address(counts), *part), rows.size)
        _library().order_lists(address(counts), blocks, out, address(lengths), address(self._order))
        self._starts = np.zeros(lengths.size + 1, np.uint32)
        np.cumsum(lengths.reshape(-1), out=self._starts[1:])
        self._entries = np.empty(int(self._starts[-1]), np.uint16)
        lists = address(self._starts), address(self._order), address(self._entries)
        in_parts(lambda *part: _library().fill_lists(*about, *lists, *part), 4 * rows.size)
        # At most, every entry adds its input's largest count, each bit of which is 1.
        added = lengths[..., 0] + lengths[..., 1] * np.uint32(1 + dense)
        largest = int(added.max(axis=1).sum(dtype=np.int64)) + dense * inputs
        self._lists = Lists(
            blocks, each, out, address(self._entries), address(self._starts), address(self._order), dense,
            (largest * ((1 << counts_to.bit_length()) - 1)).bit_length(),
        )  # fmt: skip

    def currents(self, counts: Counts, scale: Floats, shift: Floats) -> Floats:
        """sum * scale + shift, fp32 [out, T, n, H', W'], of counts [in, T, n, H, W]."""
        currents = np.empty(self._outer(counts), np.float32)
        self._run(counts, scale, shift, currents=currents)
        return currents

    def spikes(self, counts: Counts, scale: Floats, shift: Floats, neurons: Neurons) -> Counts:
        """What LIF neurons make of these currents, uint8 of the same shape."""
        spikes = np.empty(self._outer(counts), np.uint8)
        self._run(counts, scale, shift, spikes=spikes, neurons=neurons)
        return spikes

    def _outer(self, counts: Counts) -> tuple[int, ...]:
        within = 2 * self._around - self._shape[2]
        sides = ((side + within) // self._stride + 1 for side in counts.shape[3:])
        return (self._shape[0], *counts.shape[1:3], *sides)

    def _run(
        self, counts: Counts, scale: Floats, shift: Floats, *, currents: Floats | None = None, spikes: Counts | None = None,
        neurons: Neurons = _NONE,
    ) -> None:  # fmt: skip
        around = padded(counts, self._around)
        into, timesteps, images, height, width = around.shape
        outer = self._outer(counts)
        layer = Layer(
            timesteps, images, height, width, into, outer[0], self._shape[2], self._stride, *outer[3:], self._counts_to,
            self._divisor, tuple(neurons),
        )  # fmt: skip
        given = address(around), address(scale), address(shift), address(currents), address(spikes)
        in_parts(
            lambda *part: _library().layer(ctypes.byref(layer), ctypes.byref(self._lists), *given, *part),
            len(self._entries) * float(np.prod(outer[1:])) / 32,
        )


def lif_spikes(currents: Floats, timesteps: int, neurons: Neurons) -> Counts:
    """Spikes uint8 [out, T, ...] of currents [out, T or 1, ...], fp32 and contiguous."""
    spikes = np.empty((len(currents), timesteps, *currents.shape[2:]), np.uint8)
    if spikes.size:
        about = int(currents.shape[1] == 1), len(currents), timesteps, currents[0, 0].size
        constants = ctypes.byref(Constants(*neurons))
        in_parts(
            lambda *part: _library().lif(address(currents), *about, constants, address(spikes), *part), spikes.size / 4
        )
    return spikes


def pooled(spikes: Counts, size: int) -> Counts:
    """How many of each size x size neurons spiked, uint8 [C, T, n, H, W], contiguous."""
    *planes, height, width = spikes.shape
    counts = np.empty((*planes, height // size, width // size), np.uint8)
    about = int(np.prod(planes)), height, width, size
    in_parts(lambda *part: _library().pool(address(spikes), *about, address(counts), *part), spikes.size / 4)
    return counts


def _library() -> ctypes.CDLL:
    library = engine().library
    assert library is not None
    return library
