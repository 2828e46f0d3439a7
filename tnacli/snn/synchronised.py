"""Batch norm over the samples of all processes, on any device (PyTorch's own is for CUDA alone)."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias over the rows of all processes; x is [rows, C, ...].

    One sum over the processes forwards (count, mean and square mean) and one backwards (the two sums of batch norm's
    gradient). The gradients of weight and bias are this process's own, as DistributedDataParallel expects.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: SynchronisedBatchNorm, weight: Tensor, bias: Tensor) -> Tensor:
        values = x.float()
        var, mean = torch.var_mean(values, _all_but_channels(x), correction=0)
        mean, var, total = norm.over_all(mean, var, x.numel() // x.shape[1])
        invstd = torch.rsqrt(var + norm.eps).float()
        centred = values - _along(mean.float(), x)
        ctx.save_for_backward(centred, invstd, weight, total)
        scaled = centred * _along(invstd * weight.float(), x) + _along(bias.float(), x)
        return scaled.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        centred, invstd, weight, total = ctx.saved_tensors
        axes, outward = _all_but_channels(grad), grad.float()
        normalised = centred * _along(invstd, grad)
        own = torch.stack([outward.double().sum(axes), (outward * normalised).double().sum(axes)])
        plain, product = mean_over_all(own, total)
        inward = outward - _along(plain, grad) - normalised * _along(product, grad)
        inward = inward * _along(invstd * weight.float(), grad)
        return inward.to(grad.dtype), None, own[1].to(weight.dtype), own[0].to(weight.dtype)


def mean_over_all(own: Tensor, total: Tensor) -> Tensor:
    """fp32 of the sums `own` of every process, added up and divided by `total`."""
    sums = own.double()
    sums = sums.clone() if sums is own else sums
    dist.all_reduce(sums)
    return (sums / total).float()


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
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return cast("Tensor", _Normalise.apply(input, self, self.weight, self.bias))

    @torch.no_grad()
    def over_all(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance (biased) [C] over all processes and how many places they are over, from those of this one.

        In float64. Running statistics are updated.
        """
        mean, var = mean.double(), var.double()
        sums = torch.cat([torch.full_like(mean[:1], count), count * mean, count * (var + mean.square())])
        dist.all_reduce(sums)
        total, (mean, squares) = sums[0], sums[1:].view(2, -1) / sums[0]
        var = (squares - mean.square()).clamp_(min=0)
        momentum = 0.1 if self.momentum is None else self.momentum
        cast("Tensor", self.num_batches_tracked).add_(1)
        for running, value in ((self.running_mean, mean), (self.running_var, var * total / (total - 1).clamp(min=1))):
            assert running is not None
            running.lerp_(value.to(running.dtype), momentum)
        return mean, var, total
