"""Batch norm over the samples of all processes, on any device (PyTorch's own is for CUDA alone)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tnacli.objectives.objective import Objective
from tnacli.snn.network import SpikingLayer


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias over the rows of all processes; x is [rows, C, ...].

    One sum over the processes forwards (count, mean and square mean) and one backwards (the two sums of batch norm's
    gradient). The gradients of weight and bias are this process's own, as DistributedDataParallel expects.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes, values = _all_but_channels(x), x.float()
        count = values.numel() // values.shape[1]
        var, mean = (moment.double() for moment in torch.var_mean(values, axes, correction=0))
        sums = torch.cat([torch.full_like(mean[:1], count), count * mean, count * (var + mean.square())])
        dist.all_reduce(sums)
        total, channels = sums[0], len(mean)
        mean = sums[1 : 1 + channels] / total
        var = (sums[1 + channels :] / total - mean.square()).clamp_(min=0)
        invstd = torch.rsqrt(var + eps).float()
        centred = values - _along(mean.float(), x)
        ctx.save_for_backward(centred, invstd, weight, total)
        ctx.mark_non_differentiable(mean, var, total)
        scaled = centred * _along(invstd * weight.float(), x) + _along(bias.float(), x)
        return scaled.to(x.dtype), mean, var, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, invstd, weight, total = ctx.saved_tensors
        axes, outward = _all_but_channels(grad), grad.float()
        normalised = centred * _along(invstd, grad)
        own = torch.stack([outward.double().sum(axes), (outward * normalised).double().sum(axes)])
        sums = own.clone()
        dist.all_reduce(sums)
        plain, product = (sums / total).float()
        inward = outward - _along(plain, grad) - normalised * _along(product, grad)
        inward = inward * _along(invstd * weight.float(), grad)
        return inward.to(grad.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None


def _all_but_channels(x: Tensor) -> list[int]:
    return [axis for axis in range(x.dim()) if axis != 1]


def _along(channels: Tensor, x: Tensor) -> Tensor:
    return channels.view(1, -1, *(1,) * (x.dim() - 2))


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Takes the place of a BatchNorm1d or BatchNorm2d, with the same parameters and statistics under the same names."""

    @classmethod
    def instead_of(cls, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> SynchronisedBatchNorm:
        made = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        # The very objects: an optimiser may know them already.
        made._parameters, made._buffers = norm._parameters, norm._buffers
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            normed: Tensor = nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
            return normed
        out, mean, var, total = _Normalise.apply(input, self.weight, self.bias, self.eps)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.num_batches_tracked.add_(1)
            unbiased = var * total / (total - 1).clamp(min=1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        scaled: Tensor = out
        return scaled


def synchronise_batch_norm(objective: Objective) -> None:
    """Let every network of `objective` normalise over the samples of all processes, in place."""
    for network in objective.networks.values():
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                    setattr(module, name, SynchronisedBatchNorm.instead_of(child))
            if isinstance(module, SpikingLayer):
                # The compiled kernels know this process's samples alone.
                module.compiled = False
