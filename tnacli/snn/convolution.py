"""What the compiled kernels of 3x3 convolutions are given, as `convolution.h` has it."""

from __future__ import annotations

import ctypes

from torch import Tensor


class Shape(ctypes.Structure):
    """Samples, height, width, inputs, outputs."""

    _fields_ = [(name, ctypes.c_int64) for name in ("N", "H", "W", "C", "K")]

    @classmethod
    def of(cls, x: Tensor, weight: Tensor) -> Shape:
        """Of inputs x [N, C, H, W] and weights [K, C, 3, 3]."""
        samples, channels, height, width = x.shape
        return cls(samples, height, width, channels, weight.shape[0])


class Strides(ctypes.Structure):
    """Of weights [K, C, 3, 3], in numbers."""

    _fields_ = [(name, ctypes.c_int64) for name in ("k", "c", "row", "column")]
