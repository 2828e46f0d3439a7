"""The operators of a spiking layer on CUDA, as PyTorch sees them: each launches a kernel of `tnacli.snn.triton_kernels`.

A branch is a summed input x [T * N or N, C, H, W] (or [.., C]), and a table of fp32 [2 or 4, C]: scale, shift and, for the
backward pass through batch norm, mean and 1 / standard deviation. This module needs the package triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op, wrap_triton

from tnacli.snn.operators import holds_numbers, operator
from tnacli.snn.triton_kernels import forward_kernel, gradient_kernel, sums_kernel, table_kernel
from tnacli.snn.triton_launch import Launch

_PROGRAMS = 264  # among which the sums are shared out: fixed, so that every GPU adds in the same order


@operator(triton_op("tnacli::norm_table", mutates_args=()))
def norm_table(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The table [4, C] of a branch with batch norm, from its moments and parameters, each fp32 [C]."""
    channels = mean.shape[0]
    table = torch.empty((4, channels), dtype=torch.float32, device=mean.device)
    _launched(table_kernel, mean)[(-(-channels // 128),)](
        mean, var, weight, bias, table, eps, channels, 128, enable_fp_fusion=False
    )
    return table


@operator(triton_op("tnacli::lif_forward", mutates_args=()))
def lif_forward(branches: Sequence[Tensor], counts: Sequence[int], factors: Sequence[float]) -> Tensor:
    """Pooled spikes [T * N, C, ...] of the branches [x, table] or [x, table, y, table2], in the type and format of x.

    `counts` are N, T, P and dropout's two words of key, `factors` decay, threshold, the surrogate's window and height, and
    the probability of dropout.
    """
    shape = Launch.of(branches, counts, factors)
    out = shape.empty_spikes(branches[0])
    _launched(forward_kernel, branches[0])[(shape.tiles(whole=True) * shape.blocks,)](
        *shape.branches(branches), out, *shape.windows(whole=True), *factors[:2], *shape.dropout,
        shape.C, shape.T, shape.P, shape.repeated, shape.two, factors[4] > 0, shape.unroll, *shape.counting,
        *shape.tile, enable_fp_fusion=False,
    )  # fmt: skip
    return out


@operator(triton_op("tnacli::lif_sums", mutates_args=()))
def lif_sums(outward: Tensor, branches: Sequence[Tensor], counts: Sequence[int], factors: Sequence[float]) -> Tensor:
    """fp32 [3, C]: the sums of the current's gradient, and of its products with either branch's normalised input.

    `outward` is the gradient of the pooled spikes, [T * N, C, ...] in the format of x. The sum of products is 0 for a branch
    without batch norm, whose table has two rows.
    """
    shape = Launch.of(branches, counts, factors)
    tiles = shape.tiles(whole=True)
    each = -(-tiles // min(tiles, _PROGRAMS))
    programs = -(-tiles // each)
    parts = torch.empty((programs, 3, shape.C), dtype=torch.float32, device=outward.device)
    _launched(sums_kernel, outward)[(programs * shape.blocks,)](
        *shape.branches(branches), outward, parts, *shape.windows(whole=True), each, *factors[:4], *shape.dropout,
        shape.C, shape.T, shape.P, shape.repeated, shape.two, *shape.normed(branches), factors[4] > 0, shape.unroll,
        shape.code, *shape.tile, enable_fp_fusion=False, num_warps=shape.backward_warps,
    )  # fmt: skip
    return parts.sum(0, dtype=torch.float64).float()  # so precise that the order does not show


@operator(triton_op("tnacli::lif_gradient", mutates_args=()))
def lif_gradient(
    outward: Tensor, branches: Sequence[Tensor], means: Tensor, counts: Sequence[int], factors: Sequence[float]
) -> list[Tensor]:
    """The gradient of x, and of y if there is one. `means` [3, C] are `lif_sums` divided by the places that norm is over."""
    shape = Launch.of(branches, counts, factors)
    inward = [torch.empty_like(x) for x in branches[::2]]
    _launched(gradient_kernel, outward)[(shape.tiles(whole=False) * shape.blocks,)](
        *shape.branches(branches), outward, means, inward[0], inward[-1], *shape.windows(whole=False), *factors[:4],
        *shape.dropout, shape.C, shape.T, shape.P, shape.repeated, shape.two, *shape.normed(branches), factors[4] > 0,
        shape.unroll, shape.code, *shape.tile, enable_fp_fusion=False, num_warps=shape.backward_warps,
    )  # fmt: skip
    return inward


def _launched(kernel: Any, x: Tensor) -> Any:
    """`kernel`, for tensors like `x`: as it is, or as a tracer sees it."""
    return kernel if holds_numbers(x) else wrap_triton(kernel)


# What the operators make, without making it: for tensors that have shapes alone.


@norm_table.shapes
def _(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty((4, mean.shape[0]), dtype=torch.float32, device=mean.device)


@lif_forward.shapes
def _(branches: Sequence[Tensor], counts: Sequence[int], factors: Sequence[float]) -> Tensor:
    return Launch.of(branches, counts, factors).empty_spikes(branches[0])


@lif_sums.shapes
def _(outward: Tensor, branches: Sequence[Tensor], counts: Sequence[int], factors: Sequence[float]) -> Tensor:
    return torch.empty((3, branches[0].shape[1]), dtype=torch.float32, device=outward.device)


@lif_gradient.shapes
def _(
    outward: Tensor, branches: Sequence[Tensor], means: Tensor, counts: Sequence[int], factors: Sequence[float]
) -> list[Tensor]:
    return [torch.empty_like(x) for x in branches[::2]]
