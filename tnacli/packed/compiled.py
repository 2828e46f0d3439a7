"""The compiled parts of the engine, `engine.c`: sums by table lookup, with and without neurons after them, and pooling.

Everything here is a choice of speed: integers are summed exactly, and neurons round as PyTorch does, so spikes are the same.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tnacli.snn.native import Native, address, check, compiled

_GROUP = 4  # input channels of a table


class _Shape(ctypes.Structure):
    """`Shape` of engine.c."""

    _fields_ = [(name, ctypes.c_int64) for name in ("T", "N", "H", "W", "C", "out", "kernel", "stride", "counts_to")]


@cache
def compiled_engine() -> Native:
    """The library of engine.c, compiled if need be, or why there is none."""
    kernels = compiled(Path(__file__).with_name("engine.c"))
    library = kernels.library
    if library is not None:
        pointer, count, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        library.ternary_layer.argtypes = [
            ctypes.POINTER(_Shape), *[pointer] * 5, number, number, pointer, count,
        ]  # fmt: skip
        library.lif.argtypes = [pointer, count, count, count, number, number, pointer, count]
        library.pool.argtypes = [pointer, *[count] * 5, pointer, count]
        library.ternary_codes.argtypes = [pointer, *[count] * 3, pointer]
        library.lif.restype = library.pool.restype = library.ternary_codes.restype = None
        library.fill_tables()
    return kernels


class LookupSums:
    """Sums of counts 0 to `counts_to` with int8 `weight`, -1, 0 and +1, [out, in, kernel, kernel] or [out, in].

    Called like any `Sums` (tnacli.packed.sums). Weights are held four in a byte, a sixteenth of fp32.
    """

    def __init__(self, weight: Tensor, counts_to: int, stride: int = 1) -> None:
        library = compiled_engine().library
        assert library is not None
        self._library = library
        self._is_conv = weight.dim() == 4
        self._out, into = weight.shape[:2]
        self._kernel = weight.shape[2] if self._is_conv else 1
        self._stride, self._counts_to = stride if self._is_conv else 1, counts_to
        taps = weight[0, 0].numel()
        self._codes = torch.empty((self._out, -(-into // _GROUP), taps), dtype=torch.uint8)
        weight = weight.contiguous()
        library.ternary_codes(address(weight), self._out, into, taps, address(self._codes))

    def __call__(self, counts: Tensor) -> Tensor:
        if self._is_conv and (self._kernel > 1 or self._stride > 1):
            shape = self._shape(1, *counts.shape)
            sums = torch.empty(self._outer(counts.shape))
        else:  # one row of places: neighbours in memory, whatever they are
            shape = self._shape(1, 1, 1, counts.shape[:-1].numel(), counts.shape[-1])
            sums = torch.empty((*counts.shape[:-1], self._out))
        self._run(shape, counts, sums=sums)
        return sums

    def fire(self, counts: Tensor, scale: Tensor, shift: Tensor, *, decay: float, threshold: float) -> Tensor:
        """Spikes uint8 [T, n, H, W, out] of LIF neurons driven by sum * scale + shift, from counts [T, n, H, W, in]."""
        spikes = torch.empty(self._outer(counts.shape), dtype=torch.uint8)
        shape = self._shape(*counts.shape)
        self._run(shape, counts, scale=scale, shift=shift, decay=decay, threshold=threshold, spikes=spikes)
        return spikes

    def _outer(self, shape: torch.Size) -> tuple[int, ...]:
        *before, height, width, _ = shape
        return (*before, *((side - 1) // self._stride + 1 for side in (height, width)), self._out)

    def _shape(self, *sizes: int) -> _Shape:
        return _Shape(*sizes, self._out, self._kernel, self._stride, self._counts_to)

    def _run(
        self, shape: _Shape, counts: Tensor, *, sums: Tensor | None = None, scale: Tensor | None = None,
        shift: Tensor | None = None, decay: float = 0.0, threshold: float = 0.0, spikes: Tensor | None = None,
    ) -> None:  # fmt: skip
        counts = counts.contiguous()
        check(
            self._library.ternary_layer(
                ctypes.byref(shape), address(counts), address(self._codes), address(sums), address(scale), address(shift),
                decay, threshold, address(spikes), torch.get_num_threads(),
            )
        )  # fmt: skip


def lif_spikes(current: Tensor, timesteps: int, *, decay: float, threshold: float) -> Tensor:
    """Spikes uint8 [T, ...] of currents [T or 1, ...], fp32 and contiguous. Needs `compiled_engine()`."""
    library = compiled_engine().library
    assert library is not None
    spikes = torch.empty((timesteps, *current.shape[1:]), dtype=torch.uint8)
    library.lif(
        address(current), int(len(current) == 1), timesteps, current[0].numel(), decay, threshold,
        address(spikes), torch.get_num_threads(),
    )  # fmt: skip
    return spikes


def pooled_counts(spikes: Tensor, size: int) -> Tensor:
    """How many of each size x size neurons spiked, uint8 [T, n, H, W, C], contiguous. Needs `compiled_engine()`."""
    library = compiled_engine().library
    assert library is not None
    steps, count, height, width, channels = spikes.shape
    counts = torch.empty((steps, count, height // size, width // size, channels), dtype=torch.uint8)
    library.pool(
        address(spikes), steps * count, height, width, channels, size, address(counts), torch.get_num_threads()
    )
    return counts
