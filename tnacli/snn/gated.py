"""The gradient of a convolution's inputs, only where the neurons that gave them let a gradient pass.

The surrogate gradient is zero outside of its window, at every timestep by itself: what reaches the membrane potential through
time comes from later timesteps' spikes, which have windows of their own. So the gradient of a spike matters where its neuron was
inside, for a quarter to a third of neurons, and of an averaged one where any of its neurons was. `gated.c` computes those, and
leaves zero elsewhere.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tnacli.snn.convolution import Shape, Strides
from tnacli.snn.memory import empty_rows
from tnacli.snn.native import LayerArguments, Native, address, check, compiled, native

_SAMPLED = 16  # one image in so many is looked at to tell how many inputs are wanted


@dataclass(frozen=True)
class Gate:
    """The neurons of a layer and their codes (layer.h), beside the spikes that they gave."""

    layer: LayerArguments
    codes: Tensor


def put_gate(spikes: Tensor, gate: Gate) -> None:
    """Let `gate_of` know of `spikes`, this very tensor and none made from it, that they are the neurons' of `gate`."""
    spikes.tna_gate = gate  # type: ignore[attr-defined]


def gate_of(spikes: Tensor) -> Gate | None:
    """The neurons that gave `spikes`, whose gradient goes nowhere else; None where they are not known."""
    return getattr(spikes, "tna_gate", None)


def recalled(gate: Gate) -> Tensor:
    """The spikes [T * N, C, H, W] that its neurons gave, pooled, made again of their codes: the same bits."""
    layer, library = gate.layer, native().library
    assert library is not None
    shape = layer.T * layer.N, layer.C, layer.H // layer.pool, layer.W // layer.pool
    dtype = torch.bfloat16 if layer.half else torch.float32
    spikes = empty_rows(shape, dtype)
    library.recall_spikes(ctypes.byref(layer), address(gate.codes), address(spikes), torch.get_num_threads())
    return spikes


@cache
def gated_kernels(dtype: torch.dtype = torch.float32) -> Native:
    """The library of gated.c for fp32 or bf16, compiled if need be, or why there is none."""
    half = ["-DHALF"] if dtype == torch.bfloat16 else []
    kernels = compiled(Path(__file__).with_name("gated.c"), "-ffp-contract=fast", *half)
    library = kernels.library
    if library is not None:
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        shape, layer, strides = (ctypes.POINTER(kind) for kind in (Shape, LayerArguments, Strides))
        library.count_wanted.argtypes = [shape, layer, pointer, count]
        library.count_wanted.restype = count
        library.gated_input_gradient.argtypes = [shape, layer, pointer, pointer, pointer, strides, pointer, count]
        library.gated_input_gradient.restype = ctypes.c_int
    return kernels


def gated_gradient(
    x: Tensor, weight: Tensor, outward: Tensor, *, gate: Gate, below: float, into: Tensor | None = None
) -> Tensor | None:
    """dL/dx of a 3x3 convolution, zero where it is not wanted; None if a share of `below` or more is.

    It is written over `into` if that is given, which can be x, of whose numbers it needs none.

    Inputs x [T * N, C, H, W], their weights [K, C, 3, 3] and dL/dout `outward` [T * N, K, H, W] are fp32, or all bf16.
    """
    library = gated_kernels(x.dtype).library
    assert library is not None
    shape, layer, codes = Shape.of(x, weight), ctypes.byref(gate.layer), address(gate.codes)
    wanted = library.count_wanted(ctypes.byref(shape), layer, codes, _SAMPLED)
    if wanted >= below * x[::_SAMPLED].numel():
        return None
    outward = outward.contiguous(memory_format=torch.channels_last)
    gradient = empty_rows(x.shape, x.dtype) if into is None else into
    check(
        library.gated_input_gradient(
            ctypes.byref(shape), layer, codes, address(outward), address(weight), ctypes.byref(Strides(*weight.stride())),
            address(gradient), torch.get_num_threads(),
        )
    )  # fmt: skip
    return gradient
