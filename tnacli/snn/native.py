"""The compiled kernels of training, `kernels.c`, for tensors.

Eager PyTorch sweeps over a layer's activations some thirty times a training step for batch norm, neurons and pooling; the
kernels do it in four.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from torch import Tensor

from tnacli.native.compile import Native, check, compiled, find_compiler, switched_off

__all__ = ["LayerArguments", "Native", "address", "check", "compiled", "find_compiler", "native", "switched_off"]

_SOURCE = Path(__file__).with_name("kernels.c")


class LayerArguments(ctypes.Structure):
    """`Layer` of kernels.c: the shape before pooling and the neuron's constants."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("T", "N", "H", "W", "C", "pool", "repeated", "half")),
        *((name, ctypes.c_float) for name in ("decay", "threshold", "window", "height")),
    ]  # fmt: skip


@cache
def native() -> Native:
    """The kernels of training for this machine, compiled if need be (about a second, once)."""
    kernels = compiled(_SOURCE)
    if kernels.library is not None:
        _bind(kernels.library)
    return kernels


def _bind(library: ctypes.CDLL) -> None:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.batch_norm.argtypes = [pointer, count, count, count, pointer, pointer, ctypes.c_double, pointer, count]
    library.lif_forward.argtypes = [ctypes.POINTER(LayerArguments), *[pointer] * 5, count]
    library.recall_spikes.argtypes = [ctypes.POINTER(LayerArguments), pointer, pointer, count]
    library.recall_spikes.restype = None
    library.lif_backward.argtypes = [ctypes.POINTER(LayerArguments), *[pointer] * 10, count]
    for function in (library.batch_norm, library.lif_forward, library.lif_backward):
        function.restype = ctypes.c_int


def address(tensor: Tensor | None) -> int | None:
    """Where the kernels find a tensor's numbers; it must stay alive while they run."""
    return None if tensor is None else tensor.data_ptr()
