"""Batch norm, neurons and pooling of a layer as one autograd function over the compiled kernels.

It computes what `SpikingLayer` computes from the same three parts, on the CPU with the reset detached, in fp32; under autocast
sums come and spikes go in bf16, and what is between them is in fp32 still. For the
backward pass it keeps the layer's summed input, which batch norm needs, and two bits a neuron and timestep. Neurons that
receive a sum of currents have a function of their own, without batch norm.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.gated import Gate, put_gate
from tnacli.snn.memory import empty_rows, room
from tnacli.snn.native import LayerArguments, address, check, native

_DTYPES = (torch.float32, torch.bfloat16)


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
    if summed.dtype not in _DTYPES:
        return f"they are for fp32 and bf16, not {summed.dtype}"
    kernels = native()
    return None if kernels.library is not None else kernels.reason


def norm_lif_pool(summed: Tensor, norm: nn.Module, constants: Constants, samples: int) -> Tensor:
    """Spikes [T, N, ...], pooled, of `summed` [T * N or N, ...], normalised over all but channels as in training.

    `norm` is the layer's BatchNorm1d or BatchNorm2d; its running statistics are updated. `samples` is N: with as many rows
    as samples, the input is the same at every timestep. `summed` must be nobody else's: the backward pass, which can run
    once only (RuntimeError), writes its gradient over it.
    """
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    spikes: Tensor
    spikes, mean, var, gate = _NormLIFPool.apply(summed, norm.weight, norm.bias, constants, samples)
    if gate is not None:
        put_gate(spikes, gate)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            momentum = 0.1 if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, momentum)
            norm.running_var.lerp_(var, momentum)
    return spikes


def lif_pool(current: Tensor, constants: Constants, samples: int) -> Tensor:
    """Spikes [T, N, ...], pooled, of currents [T * N or N, ...] that are final; `samples` is N as for `norm_lif_pool`."""
    spikes: Tensor
    spikes, gate = _LIFPool.apply(current, constants, samples)
    if gate is not None:
        put_gate(spikes, gate)
    return spikes


def scaled_lif(current: Tensor, scale: Tensor, shift: Tensor, *, neuron: Neuron, timesteps: int) -> Tensor:
    """Spikes [T, N, ...] of `current * scale + shift`, `current` [T or 1, N, C, ...], without a gradient."""
    x = _by_rows(current.flatten(0, 1))
    constants = Constants(neuron, timesteps, 1, 0.0)
    samples = current.shape[1]
    arguments, spikes = _layer_arguments(x, constants, samples), _empty_spikes(x, constants, samples)
    _forward(arguments, x, scale.contiguous(), shift.contiguous(), spikes=spikes, codes=None)
    return spikes


class _LIFPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, constants: Constants, samples: int) -> tuple[Tensor, Gate | None]:
        x = _by_rows(current)
        arguments, spikes = _layer_arguments(x, constants, samples), _empty_spikes(x, constants, samples)
        codes = _empty_codes(arguments) if ctx.needs_input_grad[0] else None
        scale, shift = torch.ones(arguments.C), torch.zeros(arguments.C)
        _forward(arguments, x, scale, shift, spikes=spikes, codes=codes)
        ctx.arguments, ctx.shape, ctx.dtype = arguments, x.shape, x.dtype
        ctx.save_for_backward(codes)
        return spikes, None if codes is None else Gate(arguments, codes)

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor, no_grad: None) -> tuple[Tensor, None, None]:
        (codes,) = ctx.saved_tensors
        grad = torch.empty(ctx.shape, dtype=ctx.dtype, memory_format=_format(ctx.shape))
        _backward(ctx.arguments, _by_rows(grad_spikes.flatten(0, 1)), codes, grad=grad)
        return grad, None, None


class _NormLIFPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, summed: Tensor, weight: Tensor, bias: Tensor, constants: Constants, samples: int
    ) -> tuple[Tensor, Tensor, Tensor, Gate | None]:
        x = _by_rows(summed)
        channels, gain, offset = x.shape[1], weight.float(), bias.float()
        numbers = torch.empty(5, channels)
        scale, shift, mean, _, var = numbers.unbind()
        check(
            _library().batch_norm(
                address(x), int(x.dtype == torch.bfloat16), x.numel() // channels, channels, address(gain),
                address(offset), constants.eps, address(numbers), torch.get_num_threads(),
            )
        )  # fmt: skip
        arguments = _layer_arguments(x, constants, samples)
        spikes = _empty_spikes(x, constants, samples)
        codes = _empty_codes(arguments) if any(ctx.needs_input_grad) else None
        _forward(arguments, x, scale, shift, spikes=spikes, codes=codes)
        ctx.arguments, ctx.spent = arguments, False
        ctx.save_for_backward(x, codes, numbers)
        ctx.mark_non_differentiable(mean, var)
        return spikes, mean, var, None if codes is None else Gate(arguments, codes)

    @staticmethod
    def backward(
        ctx: Any, grad_spikes: Tensor, *of_others: Tensor | None
    ) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        if ctx.spent:
            raise RuntimeError("this graph was used once: its backward pass writes gradients over what it had kept")
        ctx.spent = True
        x, codes, numbers = ctx.saved_tensors
        scale, _, mean, invstd, _ = numbers.unbind()
        outward, sums = _by_rows(grad_spikes.flatten(0, 1)), torch.empty(4, x.shape[1])
        _backward(ctx.arguments, outward, codes, x, mean, invstd, sums=sums)
        total, product, a, b = sums.unbind()
        grad = None
        if ctx.needs_input_grad[0]:
            grad = x.detach()
            _backward(ctx.arguments, outward, codes, None, mean, invstd, scale, a, b, grad=grad)
        return grad, product, total, None, None


def _forward(
    arguments: LayerArguments, x: Tensor, scale: Tensor, shift: Tensor, *, spikes: Tensor, codes: Tensor | None
) -> None:
    check(
        _library().lif_forward(
            ctypes.byref(arguments), address(x), address(scale), address(shift), address(spikes), address(codes),
            torch.get_num_threads(),
        )
    )  # fmt: skip


def _backward(
    arguments: LayerArguments,
    outward: Tensor,
    codes: Tensor,
    *normed: Tensor | None,
    grad: Tensor | None = None,
    sums: Tensor | None = None,
) -> None:
    """Fill `grad` or `sums` [4, C]; `normed` is x, mean, invstd, scale, a and b of `lif_backward` in kernels.c."""
    given = [address(tensor) for tensor in normed]
    check(
        _library().lif_backward(
            ctypes.byref(arguments), address(outward), address(codes), *given, *[None] * (6 - len(given)), address(grad),
            address(sums), torch.get_num_threads(),
        )
    )  # fmt: skip


def _empty_codes(arguments: LayerArguments) -> Tensor:
    """Room for two bits a neuron and timestep, four timesteps a byte."""
    planes = -(-arguments.T // 4)
    return room(planes * arguments.N * arguments.H * arguments.W * arguments.C, torch.uint8)


def _library() -> ctypes.CDLL:
    library = native().library
    assert library is not None
    return library


def _by_rows(x: Tensor) -> Tensor:
    """The same numbers in memory by time, row and channel."""
    return x.contiguous(memory_format=_format(x.shape))


def _format(shape: torch.Size) -> torch.memory_format:
    return torch.channels_last if len(shape) == 4 else torch.contiguous_format


def _layer_arguments(x: Tensor, constants: Constants, samples: int) -> LayerArguments:
    height, width = x.shape[2:] if x.dim() == 4 else (1, 1)
    neuron = constants.neuron
    return LayerArguments(
        constants.timesteps, samples, height, width, x.shape[1], constants.pool,
        int(x.shape[0] == samples and constants.timesteps > 1), int(x.dtype == torch.bfloat16),
        neuron.decay, neuron.threshold, neuron.surrogate_window, neuron.surrogate_height,
    )  # fmt: skip


def _empty_spikes(x: Tensor, constants: Constants, samples: int) -> Tensor:
    shape = (x.shape[1], *(side // constants.pool for side in x.shape[2:]))
    flat = empty_rows((constants.timesteps * samples, *shape), x.dtype)
    return flat.view(constants.timesteps, samples, *shape)
