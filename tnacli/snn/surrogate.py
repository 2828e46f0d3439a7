"""The spike and its surrogate gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Boxcar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: float, height: float, window: float) -> Tensor:
        ctx.save_for_backward((potential - threshold).abs() <= window)
        ctx.height = height
        return (potential >= threshold).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grad * inside * ctx.height, None, None, None


def spike(potential: Tensor, *, threshold: float, height: float = 0.5, window: float = 0.5) -> Tensor:
    """1 where `potential` reaches `threshold`, else 0, of the same shape and dtype.

    The gradient is the boxcar of Eq. 4: ds/du = `height` where |u - threshold| <= `window`, else 0.
    """
    spikes: Tensor = _Boxcar.apply(potential, threshold, height, window)
    return spikes
