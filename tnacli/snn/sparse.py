"""3x3 convolutions that do only what spikes ask for: forward, and the gradient of the weights, over lists of what is not zero.

Most inputs of a spiking layer are zero: a fifth of the neurons fire in a timestep. A dense convolution multiplies them all.
Where few enough are other than zero, `sparse.c` takes over on the CPU; the gradient of the inputs is that of `gated.py` where
few enough are wanted, else PyTorch's. Sums are fp32 and those of a dense convolution in another order. Where training is in bf16,
inputs, outputs and weights are rounded to it as autocast rounds them, but the gradient of the weights is not.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tnacli.machine import processor_family
from tnacli.snn.convolution import Shape, Strides
from tnacli.snn.gated import Gate, gated_gradient, gated_kernels, recalled
from tnacli.snn.memory import empty_rows
from tnacli.snn.native import Native, address, check, compiled

_FORWARD_OUT, _WEIGHTS_OUT = 32, 16  # outputs summed together in sparse.c; fewer cost as much
_SMALLEST = 50_000_000  # multiply-accumulates of a dense convolution below which lists win next to nothing
_SAMPLED = 16  # one row of inputs in so many is looked at to tell how sparse they are


@dataclass(frozen=True)
class Bounds:
    """The share of inputs that are not zero below which lists are faster than dense sums (benchmarks/sparse.py).

    For the gradient of the inputs, the share of those that is wanted.
    """

    forward: float
    weights: float
    inputs: float = 0.0


@cache
def sparse_kernels(dtype: torch.dtype = torch.float32) -> Native:
    """The library of sparse.c for fp32 or bf16 inputs, compiled if need be, or why there is none."""
    half = ["-DHALF"] if dtype == torch.bfloat16 else []
    kernels = compiled(Path(__file__).with_name("sparse.c"), "-ffp-contract=fast", *half)
    library = kernels.library
    if library is not None:
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        shape, strides = ctypes.POINTER(Shape), ctypes.POINTER(Strides)
        library.sparse_forward.argtypes = [shape, pointer, pointer, strides, pointer, count]
        library.sparse_weight_gradient.argtypes = [shape, pointer, pointer, pointer, strides, count]
        library.count_not_zero.argtypes, library.count_not_zero.restype = [pointer, count, count, count], count
        library.sparse_forward.restype = library.sparse_weight_gradient.restype = ctypes.c_int
    return kernels


_CAUTIOUS = {torch.float32: Bounds(0.25, 0.4), torch.bfloat16: Bounds(0.1, 0.2)}
_AVX512: dict[tuple[str, int] | None, dict[torch.dtype, Bounds]] = {
    ("AuthenticAMD", 25): {torch.float32: Bounds(0.6, 0.7, 0.6), torch.bfloat16: Bounds(0.35, 0.5, 0.45)},
}
"""Measured of processors with AVX-512, by vendor and family (benchmarks/sparse.py): Zen 4 adds 512 bits in two halves."""


@cache
def bounds(dtype: torch.dtype) -> Bounds:
    """For this processor and fp32 or bf16 inputs.

    Dense sums are twice as fast where vectors are twice as long and added at once, and once more in bf16 where a processor
    has instructions for it. AVX2's bound of the gradient of the inputs was measured on Zen 4, with AVX2's instructions alone.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return Bounds(0.5, 0.8, 0.4 if dtype == torch.float32 else 0.0)
    return _AVX512.get(processor_family(), _CAUTIOUS)[dtype]


def sparse_convolution(x: Tensor, synapse: nn.Conv2d, gate: Gate | None = None) -> Tensor | None:
    """The convolution of x [N, C, H, W], [N, K, H, W], or None where a dense one does it as well or better.

    With `gate`, x are the spikes of its neurons, and the gradient of x is zero where those let none pass.

    Which way is taken depends on nothing but the processor, the shapes and the numbers in x, so that a run that is resumed
    computes what it would have computed.
    """
    if x.device.type != "cpu":
        return None
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
    if (
        not {x.dtype, dtype} <= {torch.float32, torch.bfloat16}
        or (synapse.kernel_size, synapse.stride, synapse.padding) != ((3, 3), (1, 1), (1, 1))
        or synapse.bias is not None
        or x.numel() * synapse.out_channels * 9 < _SMALLEST
        or sparse_kernels(dtype).library is None
    ):
        return None
    share, out = share_not_zero(x), synapse.out_channels
    below = bounds(dtype)
    forward = share * _filled(out, _FORWARD_OUT) < below.forward
    weights = share * _filled(out, _WEIGHTS_OUT) < below.weights
    inputs = below.inputs if gate is not None and gated_kernels(dtype).library is not None else 0.0
    if not (forward or weights or inputs or gate is not None):
        return None
    weight = synapse.weight  # once: where weights are ternary, they are made anew whenever they are asked for
    if weight.dtype != dtype and not autocast:
        return None
    summed: Tensor = _SparseConvolution.apply(x.to(dtype), weight, forward, weights, inputs, gate)
    return summed


def _filled(out: int, block: int) -> float:
    """How many times as much as `out` outputs the blocks cost that hold them: one that is not full costs what a full one does."""
    return -(-out // block) * block / out


def share_not_zero(x: Tensor) -> float:
    """How much of x [N, C, H, W] is not zero, of one sample in sixteen."""
    samples, size = x.shape[0], x[0].numel()
    if x.is_contiguous(memory_format=torch.channels_last) or x.is_contiguous():
        count = _library(x).count_not_zero(address(x), samples, size, _SAMPLED)
    else:
        count = int(torch.count_nonzero(x[::_SAMPLED]))
    found: float = count / (-(-samples // _SAMPLED) * size)
    return found


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, forward: bool, weights: bool, inputs: float, gate: Gate | None
    ) -> Tensor:
        x, rounded = x.contiguous(memory_format=torch.channels_last), weight.to(x.dtype)
        ctx.sparse_gradient, ctx.wanted_below, ctx.layer = weights, inputs, None if gate is None else gate.layer
        # Spikes are recalled from the codes that their neurons keep anyway.
        ctx.save_for_backward(x if gate is None else None, rounded, None if gate is None else gate.codes)
        ctx.weight_dtype = weight.dtype
        if not forward:
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(x, rounded, padding=1)
        summing = rounded.float()
        shape, strides = Shape.of(x, weight), Strides(*summing.stride())
        out = empty_rows((x.shape[0], weight.shape[0], *x.shape[2:]), x.dtype)
        check(
            _library(x).sparse_forward(
                ctypes.byref(shape), address(x), address(summing), ctypes.byref(strides), address(out),
                torch.get_num_threads(),
            )
        )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outward: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        x, weight, codes = ctx.saved_tensors
        gate = None if codes is None else Gate(ctx.layer, codes)
        if gate is not None:
            x = recalled(gate).to(weight.dtype)
        outward = outward.contiguous(memory_format=torch.channels_last)
        of_x, of_weight = ctx.needs_input_grad[:2]
        sparse = of_weight and ctx.sparse_gradient
        grad_x = grad_weight = None
        if sparse:
            grad_weight = torch.empty_like(weight, dtype=torch.float32)
            shape, strides = Shape.of(x, weight), Strides(*grad_weight.stride())
            check(
                _library(x).sparse_weight_gradient(
                    ctypes.byref(shape), address(x), address(outward), address(grad_weight), ctypes.byref(strides),
                    torch.get_num_threads(),
                )
            )  # fmt: skip
        if of_x and gate is not None and ctx.wanted_below:
            # Recalled spikes are nobody else's, and of no more use once the weights have their gradient.
            into = x if sparse or not of_weight else None
            grad_x = gated_gradient(x, weight, outward, gate=gate, below=ctx.wanted_below, into=into)
        of_x = of_x and grad_x is None
        if of_x or (of_weight and not sparse):
            of_inputs, of_weights, _ = torch.ops.aten.convolution_backward(
                outward,
                x,
                weight,
                None,
                (1, 1),
                (1, 1),
                (1, 1),
                False,
                (0, 0),
                1,
                (of_x, of_weight and not sparse, False),
            )
            grad_x = of_inputs if of_x else grad_x
            grad_weight = grad_weight if sparse else of_weights
        return grad_x, None if grad_weight is None else grad_weight.to(ctx.weight_dtype), None, None, None, None


def _library(x: Tensor) -> ctypes.CDLL:
    library = sparse_kernels(x.dtype).library
    assert library is not None
    return library
