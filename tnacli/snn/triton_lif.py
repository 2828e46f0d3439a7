"""A spiking layer on CUDA, from its summed input to its pooled spikes, as one operator: `tnacli.snn.triton_kernels`.

Batch norm's scale and shift, the sum with a shortcut's current, the neurons over all timesteps with the reset detached,
average pooling and dropout: one kernel forwards, two back. Sums come and spikes go in fp32, bf16 or fp16; what is between
them is in fp32. Where Triton or the GPU is missing, the plain path of `tnacli.snn.network` computes the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.dropout import key_words
from tnacli.snn.operators import operator
from tnacli.snn.synchronised import SynchronisedBatchNorm, mean_over_all

Branch = tuple[Tensor, nn.BatchNorm1d | nn.BatchNorm2d | None]
"""A summed input [T * N or N, C, ...] and the batch norm that it is still to pass, if any."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LONGEST, _WIDEST = 32, 8  # timesteps whose codes fit 64 bits; sides of a pooling whose windows fit registers


@dataclass(frozen=True)
class Layer:
    """What a layer is beside its tensors; `dropout` is drawn from the counter that begins at `key`."""

    neuron: Neuron
    timesteps: int
    samples: int
    pool: int = 1
    dropout: float = 0.0
    key: int = 0

    @property
    def counts(self) -> list[int]:
        return [self.samples, self.timesteps, self.pool, *key_words(self.key)]

    @property
    def factors(self) -> list[float]:
        neuron = self.neuron
        surrogate = (neuron.surrogate_window, neuron.surrogate_height)
        return [neuron.decay, neuron.threshold, *surrogate, self.dropout]


def why_not(current: Tensor, layer: Layer) -> str | None:
    """Why the operator does not apply to `current`, a layer's summed input; None if it does."""
    if (reason := why_not_here(current.device)) is not None:
        return reason
    if not layer.neuron.detach_reset:
        return "gradients pass through the reset"
    if current.dtype not in _DTYPES:
        return f"it is for fp32, bf16 and fp16, not {current.dtype}"
    if layer.timesteps > _LONGEST or layer.pool > _WIDEST:
        return f"it is for up to {_LONGEST} timesteps and pools of {_WIDEST}, not {layer.timesteps} and {layer.pool}"
    return None


@cache
def why_not_here(device: torch.device) -> str | None:
    """Why the operator does not run on `device`; None if it does."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        if device.type != "cuda":
            return f"it is for CUDA, not {device.type}"
        if torch.cuda.get_device_capability(device) < (7, 0):
            return "Triton needs a GPU of compute capability 7.0 or more"
    if find_spec("triton") is None:
        return "the package triton is not installed (pip install triton)"
    return None


def lif_pool(branches: Sequence[Branch], layer: Layer) -> Tensor:
    """Pooled spikes [T, N, C, ...] of one branch, or of two whose currents are added, as in training.

    An input of as many rows as samples is the same at every timestep. Running statistics of the norms are updated. Norms that
    are synchronised are over the samples of all processes: sums by channel go round before the kernel forwards, and between
    the two back.
    """
    given: list[Tensor | None] = []
    for x, norm in branches:
        weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
        given += [x, weight, bias]
    spikes: Tensor = _LIFPool.apply(layer, tuple(norm for _, norm in branches), *given)
    return spikes.view(layer.timesteps, layer.samples, *spikes.shape[1:])


def scaled_lif(current: Tensor, scale: Tensor, shift: Tensor, *, neuron: Neuron, timesteps: int) -> Tensor:
    """Spikes [T, N, ...] of `current * scale + shift`, `current` [T or 1, N, C, ...], without a gradient."""
    from tnacli.snn.triton_operators import lif_forward

    layer = Layer(neuron, timesteps, current.shape[1])
    table = torch.stack([scale, shift]).float()
    spikes: Tensor = lif_forward([_channels_last(current.flatten(0, 1)), table], layer.counts, layer.factors)
    return spikes.view(timesteps, layer.samples, *spikes.shape[1:])


class _LIFPool(torch.autograd.Function):
    """Of x, weight and bias of each branch; weight and bias are None where it has no batch norm."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, norms: tuple[nn.Module | None, ...], *given: Tensor | None) -> Tensor:
        from tnacli.snn.triton_operators import lif_forward

        branches: list[Tensor] = []
        total: Tensor | int = 0
        for x, norm in zip(given[::3], norms, strict=True):
            assert x is not None
            x = _channels_last(x)
            if norm is None:
                branches += [x, _identity(x)]
            else:
                table, total = _normalising(x, norm)
                branches += [x, table]
        ctx.layer, ctx.total = layer, total
        ctx.save_for_backward(*branches)
        spikes: Tensor = lif_forward(branches, layer.counts, layer.factors)
        return spikes

    @staticmethod
    def backward(ctx: Any, outward: Tensor) -> tuple[Tensor | None, ...]:
        from tnacli.snn.triton_operators import lif_gradient, lif_sums

        layer, branches = ctx.layer, list(ctx.saved_tensors)
        outward, x = _channels_last(outward), branches[0]
        sums = means = x.new_empty((0,), dtype=torch.float32)
        if any(len(table) == 4 for table in branches[1::2]):
            sums = lif_sums(outward, branches, layer.counts, layer.factors)
            total = ctx.total
            means = sums / total if isinstance(total, int) else mean_over_all(sums, total)
        inward: list[Tensor | None] = [None] * (len(branches) // 2)
        if any(ctx.needs_input_grad[2::3]):
            inward = list(lif_gradient(outward, branches, means, layer.counts, layer.factors))
        grads: list[Tensor | None] = []
        for index, (grad, table) in enumerate(zip(inward, branches[1::2], strict=True)):
            if len(table) != 4:
                grads += [grad, None, None]
                continue
            # Two shifts have the same gradient, and each memory of its own: an optimiser may unscale gradients where they are.
            grads += [grad, sums[1 + index], sums[0].clone() if index else sums[0]]
        return (None, None, *grads)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)


def _identity(x: Tensor) -> Tensor:
    """The table of a branch that is a current already: scale 1, shift 0."""
    table = torch.zeros((2, x.shape[1]), device=x.device)
    table[0] = 1
    return table


def _normalising(x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor | int]:
    """The table of a branch with batch norm, [4, C]: scale, shift, mean and 1 / standard deviation of the batch.

    And how many places they are over: a tensor where those of other processes are among them.
    """
    from tnacli.snn.triton_operators import norm_table

    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    places = x.numel() // x.shape[1]
    total: Tensor | int = places
    if isinstance(norm, SynchronisedBatchNorm):
        unused, unused2 = torch.zeros((2, x.shape[1]), device=x.device)
        mean, var = batch_moments(x, unused, unused2, 0.0)
        mean, var, total = norm.over_all(mean, var, places)
        mean, var = mean.float(), var.float()
    else:
        momentum = 0.1 if norm.momentum is None else norm.momentum
        kept, kept_var = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        mean, var = batch_moments(x, kept, kept_var, momentum)
        cast("Tensor", norm.num_batches_tracked).add_(1)
    table: Tensor = norm_table(mean, var, norm.weight.detach(), norm.bias.detach(), norm.eps)
    return table, total


@operator(torch.library.custom_op("tnacli::batch_moments", mutates_args=("running_mean", "running_var")))
def batch_moments(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Mean and variance (biased) of x by channel, in fp32; updates running statistics [C] (unbiased), as batch norm does."""
    mean, var = torch.batch_norm_update_stats(x, running_mean, running_var, momentum)
    return mean, var


@batch_moments.shapes
def _(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    mean, var = (torch.empty(x.shape[1], dtype=torch.float32, device=x.device) for _ in range(2))
    return mean, var
