"""Sums in the one order of `tnacli.native.ordered`, of tensors: what evaluation on the CPU and a packed file have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from tnacli.native.ordered import ordered_sums


def has_order(x: Tensor) -> bool:
    """Whether sums of x are to be ordered: fp32 on the CPU, without a gradient to follow."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def in_order(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """Sums [N, out, H', W'] or [N, out] of x [N, in, H, W] or [N, in] with `weight`, as of `ordered_sums`."""
    return torch.from_numpy(ordered_sums(x.detach().numpy(), weight.detach().numpy(), stride))
