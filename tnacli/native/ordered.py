"""Weighted sums of fp32 numbers in one order on every machine: of a network's first layer and of its readout.

Sums of fp32 numbers depend on their order, and libraries choose it by processor, shape and version. Here products are
added one after the other in the order of the weights, in, row, column, beginning with 0, each product and each sum
rounded: so compiled and plain NumPy give the same bits everywhere, and a packed network's are its checkpoint's.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.native.library import Layer, address, engine
from tnacli.native.threads import in_parts

Floats = NDArray[np.float32]
_AT_ONCE = 1 << 17  # sums that NumPy works on at a time: they stay in a cache


def ordered_sums(
    x: Floats, weight: Floats, stride: int = 1, *, padding: int | None = None, out_first: bool = False
) -> Floats:
    """Sums [N, out, H', W'] or [N, out] of x [N, in, H, W] or [N, in] with `weight` [out, in, kernel, kernel] or [out, in].

    A convolution has `padding` zeros around it, without it (kernel - 1) / 2. With `out_first` the sums are [out, N, ...].
    """
    is_conv = weight.ndim == 4
    maps = np.ascontiguousarray(x if is_conv else x.reshape(*x.shape, 1, 1), np.float32)
    weights = np.ascontiguousarray(weight if is_conv else weight.reshape(*weight.shape, 1, 1), np.float32)
    kernel = weights.shape[2]
    pad = kernel // 2 if padding is None else padding
    size = [(side + 2 * pad - kernel) // stride + 1 for side in maps.shape[2:]]
    if pad:
        maps = np.pad(maps, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.empty((len(weights), len(maps), *size), np.float32)
    sums = out if out_first else np.empty((len(maps), len(weights), *size), np.float32)
    into = out if out_first else sums.transpose(1, 0, 2, 3)
    if into.size:
        _compute(maps, weights, stride, into)
    return sums if is_conv else sums.reshape(sums.shape[:2])


def _compute(maps: Floats, weights: Floats, stride: int, into: Floats) -> None:
    """Fill `into` [out, N, H', W'], whose last two axes are contiguous."""
    library = engine().library
    if library is None:
        _in_numpy(maps, weights, stride, into)
        return
    count, channels, height, width = maps.shape
    outer = into.shape[2:]
    layer = Layer(1, count, height, width, channels, len(weights), weights.shape[2], stride, *outer)
    distances = [np.array(steps, np.int64) // 4 for steps in (maps.strides[:2], (into.strides[1], into.strides[0]))]

    def part(index: int, parts: int) -> Any:
        return library.ordered(
            ctypes.byref(layer), address(maps), address(distances[0]), address(weights), address(into), address(distances[1]),
            index, parts,
        )  # fmt: skip

    in_parts(part, into.size * weights[0].size)


def _in_numpy(maps: Floats, weights: Floats, stride: int, into: Floats) -> None:
    kernel, outer = weights.shape[2], into.shape[2:]
    rows = weights.reshape(len(weights), -1)
    if maps.shape[2:] == (1, 1):
        into[:, :, 0, 0] = _matched(rows, maps[:, :, 0, 0].T)
        return
    for n, image in enumerate(maps):
        windows = np.lib.stride_tricks.sliding_window_view(image, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
        into[:, n] = _matched(rows, windows.transpose(0, 3, 4, 1, 2).reshape(rows.shape[1], -1)).reshape(-1, *outer)


def _matched(rows: Floats, laid: Floats) -> Floats:
    """rows [out, in] times laid [in, places], added up in the order of in."""
    sums = np.zeros((len(rows), laid.shape[1]), np.float32)
    at_once = max(1, _AT_ONCE // len(rows))
    for start in range(0, laid.shape[1], at_once):
        some, product = sums[:, start : start + at_once], None
        for k, values in enumerate(laid[:, start : start + at_once]):
            product = np.multiply(rows[:, k, None], values, out=product)
            some += product
    return sums
