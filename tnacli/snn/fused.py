"""Batch norm, neurons and pooling of a layer as one autograd function over the compiled kernels.

It computes what `SpikingLayer` computes from the same three parts, on the CPU in fp32 with the reset detached. For the
backward pass it keeps the layer's summed input, which batch norm needs, and two bits a neuron and timestep.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tnacli.recipe.model_section import Neuron
from tnacli.snn.native import LayerFacts, address, check, native

_LARGEST_POOL = 8


@dataclass(frozen=True)
class Constants:
    """What a layer is beside its tensors."""

    neuron: Neuron
    timesteps: int
    pool: int
    eps: float


def why_not(summed: Tensor, neuron: Neuron) -> str | None:
    """Why the compiled kernels do not apply to `summed`, the input of batch norm; None if they do."""
    if not neuron.detach_reset:
        return "gradients pass through the reset"
    if summed.device.type != "cpu":
        return f"they are for the CPU, not {summed.device.type}"
    if summed.dtype != torch.float32:
        return f"they are for fp32, not {summed.dtype}"
    kernels = native()
    return None if kernels.library is not None else kernels.reason


def norm_lif_pool(summed: Tensor, norm: nn.Module, constants: Constants, samples: int) -> Tensor:
    """Spikes [T, N, ...], pooled, of `summed` [T * N or N, ...], normalised over all but channels as in training.

    `norm` is the layer's BatchNorm1d or BatchNorm2d; its running statistics are updated. `samples` is N: with as many rows
    as samples, the input is the same at every timestep.
    """
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    spikes: Tensor
    spikes, mean, var = _NormLIFPool.apply(summed, norm.weight, norm.bias, constants, samples)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            count = summed.numel() // summed.shape[1]
            momentum = 0.1 if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, momentum)
            norm.running_var.lerp_(var * (count / max(1, count - 1)), momentum)
    return spikes


def scaled_lif(current: Tensor, scale: Tensor, shift: Tensor, neuron: Neuron, timesteps: int) -> Tensor:
    """Spikes [T, N, ...] of `current * scale + shift`, `current` [T or 1, N, C, ...], without a gradient."""
    x = _by_rows(current.flatten(0, 1))
    constants = Constants(neuron, timesteps, 1, 0.0)
    samples = current.shape[1]
    facts, spikes = _facts(x, constants, samples), _empty_spikes(x, constants, samples)
    scale, shift = scale.contiguous(), shift.contiguous()
    check(
        _library().lif_forward(
            ctypes.byref(facts),
            address(x),
            address(scale),
            address(shift),
            address(spikes),
            None,
            torch.get_num_threads(),
        )
    )
    return spikes


class _NormLIFPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, summed: Tensor, weight: Tensor, bias: Tensor, constants: Constants, samples: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = _by_rows(summed)
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        library, threads = _library(), torch.get_num_threads()
        mean64, var64 = torch.empty(2, channels, dtype=torch.float64)
        check(library.channel_moments(address(x), rows, channels, address(mean64), address(var64), threads))
        invstd64 = torch.rsqrt(var64 + constants.eps)
        scale64 = weight.detach().double() * invstd64
        scale, shift = scale64.float(), (bias.detach().double() - mean64 * scale64).float()
        facts = _facts(x, constants, samples)
        spikes = _empty_spikes(x, constants, samples)
        keep = any(ctx.needs_input_grad)
        planes = -(-constants.timesteps // 4)
        codes = torch.empty(planes * facts.N * facts.H * facts.W * channels, dtype=torch.uint8) if keep else None
        check(
            library.lif_forward(
                ctypes.byref(facts),
                address(x),
                address(scale),
                address(shift),
                address(spikes),
                address(codes),
                threads,
            )
        )
        mean, var = mean64.float(), var64.float()
        ctx.facts, ctx.shape = facts, summed.shape
        ctx.save_for_backward(x, codes, mean, invstd64.float(), scale)
        ctx.mark_non_differentiable(mean, var)
        return spikes, mean, var

    @staticmethod
    def backward(
        ctx: Any, grad_spikes: Tensor, grad_mean: Tensor, grad_var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, codes, mean, invstd, scale = ctx.saved_tensors
        library, threads, facts = _library(), torch.get_num_threads(), ctx.facts
        channels, rows = x.shape[1], x.numel() // x.shape[1]
        outward = _by_rows(grad_spikes.flatten(0, 1))
        grad = torch.empty_like(x)
        total, product = torch.empty(2, channels, dtype=torch.float64)
        check(
            library.lif_backward(
                ctypes.byref(facts), address(outward), address(codes), address(x), address(mean), address(invstd),
                address(grad), address(total), address(product), threads,
            )
        )  # fmt: skip
        a, b = (total / rows).float(), (product / rows).float()
        library.norm_backward(
            rows, channels, address(x), address(mean), address(invstd), address(scale), address(a), address(b),
            address(grad), threads,
        )  # fmt: skip
        return grad, product.float(), total.float(), None, None


def _library() -> ctypes.CDLL:
    library = native().library
    assert library is not None
    return library


def _by_rows(x: Tensor) -> Tensor:
    """The same numbers in memory by time, row and channel."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def _facts(x: Tensor, constants: Constants, samples: int) -> LayerFacts:
    height, width = x.shape[2:] if x.dim() == 4 else (1, 1)
    neuron = constants.neuron
    return LayerFacts(
        constants.timesteps, samples, height, width, x.shape[1], constants.pool,
        int(x.shape[0] == samples and constants.timesteps > 1),
        neuron.decay, neuron.threshold, neuron.surrogate_window, neuron.surrogate_height,
    )  # fmt: skip


def _empty_spikes(x: Tensor, constants: Constants, samples: int) -> Tensor:
    shape = (x.shape[1], *(side // constants.pool for side in x.shape[2:]))
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    flat = torch.empty((constants.timesteps * samples, *shape), memory_format=layout)
    return flat.view(constants.timesteps, samples, *shape)
