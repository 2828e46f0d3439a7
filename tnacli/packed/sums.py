"""Weighted sums of spikes in hidden layers, exact in two ways: in integers where that can be had, else in fp32.

Inputs are spike counts, uint8: spikes after a pooling over k x k are held as their sum, 0 to k*k, and
divided by k*k afterwards. Weights are -1, 0 and +1. While fan_in * k*k stays below 2**24, every partial sum
is a number that fp32 holds exactly, in any order; dividing by a power of two keeps it so. The fp32 sum of
averaged spikes and the integer sum of counts are therefore the same number, bit for bit, and which of the two
computed it cannot be seen in the spikes.

There are two integer ways. Table lookups, compiled by the machine's own compiler (tnacli.packed.compiled), are
two to three times as fast as int8 products with AVX2 for spikes, and about as fast for pooled spikes. CPUs with
VNNI instructions multiply int8 faster: there, and without a compiler, oneDNN's int8 kernels do it, through
private operators of PyTorch (the ones of its x86 quantisation), which may change. Both are tried on known
sums first, and not used if missing or wrong.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.packed.compiled import LookupSums, compiled_engine

Sums = Callable[[Tensor], Tensor]
"""uint8 counts [n, H, W, C] or [n, features] to new fp32 sums [n, H', W', out] or [n, out], divided by k*k."""

_EXACT_BELOW = 1 << 24


def hidden_sums(weight: Tensor, counts_to: int, *, stride: int = 1, integer: bool = True) -> tuple[Sums, str | None]:
    """How to sum a layer's inputs, and why not in integers (None if in integers).

    `weight` is int8 of -1, 0 and +1, [out, in, kernel, kernel] or [out, in]; inputs count from 0 to
    `counts_to`; `stride` is a convolution's.
    """
    reason = why_not_integers(weight[0].numel(), counts_to) if integer else "fp32 was asked for"
    if reason is not None:
        return _fp32_sums(weight, counts_to, stride), reason
    return (LookupSums if _lookups_fail() is None else _integer_sums)(weight, counts_to, stride), None


def why_not_integers(fan_in: int, counts_to: int) -> str | None:
    """Why a layer of this size cannot be summed in integers here, or None if it can."""
    if fan_in * counts_to >= _EXACT_BELOW:
        return f"{fan_in} inputs of up to {counts_to} spikes do not add up exactly in fp32"
    return None if _lookups_fail() is None else _kernels_fail()


def _fp32_sums(weight: Tensor, counts_to: int, stride: int = 1) -> Sums:
    # Held as int8, a quarter of the memory, and converted at every use: far less work than the sums.
    if weight.dim() == 2:
        return lambda counts: F.linear(counts.float().div_(counts_to), weight.float())
    padding = weight.shape[-1] // 2

    def convolve(counts: Tensor) -> Tensor:
        averaged = counts.float().div_(counts_to).permute(0, 3, 1, 2)
        return F.conv2d(averaged, weight.float(), stride=stride, padding=padding).permute(0, 2, 3, 1).contiguous()

    return convolve


def _integer_sums(weight: Tensor, counts_to: int, stride: int = 1) -> Sums:
    # CPUs without VNNI instructions add pairs of products in 16 bits, saturating at 32767. Counts reach 64 at
    # most (pooling over 8 x 8) and weights are +-1, so a pair reaches 128; all further adding is in 32 bits.
    ops = torch.ops.onednn
    ones, zeros = torch.ones(weight.shape[0]), torch.zeros(weight.shape[0], dtype=torch.int64)
    # The kernels scale their 32-bit sums in fp32 on the way out; by a power of two that is exact as well.
    scale = 1.0 / counts_to
    # After the weights: no bias; output in fp32 with scale 1 and zero point 0; nothing fused on top.
    output: tuple[object, ...] = (1.0, 0, torch.float32, "none", [], "")
    if weight.dim() == 2:
        packed = ops.qlinear_prepack(weight, None)
        return lambda counts: ops.qlinear_pointwise(counts, scale, 0, packed, ones, zeros, None, *output)
    strides, padding, dilation, groups = [stride] * 2, [weight.shape[-1] // 2] * 2, [1, 1], 1
    packed = ops.qconv_prepack(weight, ones, scale, 0, strides, padding, dilation, groups, None)
    geometry = (strides, padding, dilation, groups)

    def convolve(counts: Tensor) -> Tensor:
        x = counts.permute(0, 3, 1, 2)
        summed: Tensor = ops.qconv2d_pointwise(x, scale, 0, packed, ones, zeros, None, *geometry, *output)
        return summed.permute(0, 2, 3, 1).contiguous()  # the kernels' own order: nothing is copied

    return convolve


@functools.cache
def _lookups_fail() -> str | None:
    """Why table lookups are not used on this machine, or None if they are, and give known sums."""
    if _has_vnni():
        return "this CPU multiplies int8 faster"
    kernels = compiled_engine()
    if kernels.library is None:
        return kernels.reason
    if not kernels.library.has_shuffle():
        return "this CPU has no byte shuffles that the compiled kernels know"
    return None if _gives_known_sums(LookupSums) else "table lookups give wrong sums on this CPU"


@functools.cache
def _kernels_fail() -> str | None:
    """Why the int8 kernels cannot be used on this machine, or None if they give known sums."""
    try:
        return (
            None if _gives_known_sums(_integer_sums) else "the int8 kernels of this PyTorch give wrong sums on this CPU"
        )
    except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"this PyTorch has no usable int8 kernels for this CPU: {first}"


def _has_vnni() -> bool:
    try:
        return bool(torch.cpu._is_vnni_supported())
    except AttributeError:  # private, and may go
        return False


def _gives_known_sums(way: Callable[[Tensor, int, int], Sums]) -> bool:
    return all(
        torch.equal(way(weight, counts_to, stride)(counts), _fp32_sums(weight, counts_to, stride)(counts))
        for counts_to, stride in ((1, 1), (4, 1), (16, 1), (64, 1), (1, 2))
        for weight, counts in _trials(counts_to)
    )


def _trials(counts_to: int) -> list[tuple[Tensor, Tensor]]:
    """Weights and counts for a convolution and a matrix product, the largest possible sums among them.

    Their sizes leave a remainder in vector registers of every width.
    """
    weight = _mixed(3, 33, 70, 3, 3).to(torch.int8) - 1
    weight[0], weight[1] = 1, -1
    counts = _mixed(counts_to + 1, 2, 6, 5, 70).to(torch.uint8)
    counts[0] = counts_to
    return [(weight, counts), (weight[:, :, 1, 1].contiguous(), counts[:, 0, 0].contiguous())]


def _mixed(below: int, *shape: int) -> Tensor:
    """Numbers from 0 to `below` without order, always the same ones, and no random state touched."""
    return (torch.arange(math.prod(shape)) * 1_103_515_245 // 65_536).remainder(below).reshape(shape)
