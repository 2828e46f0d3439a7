"""Latent weights to ternary and binary ones, and the gradients back: what is put on a layer's `weight`.

A ternary weight is -1 where w < -Delta, 0 where |w| <= Delta, +1 where w > Delta (Eq. 6), whatever Delta comes from. No
scale is put on it: batch norm after the layer carries one. Gradients reach the latent weight unchanged (section 4.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tnacli.recipe.schema.compression import MEAN_SHARE, Binary, Ternary


class _StraightThrough(torch.autograd.Function):
    """Forwards the quantised weight, hands the gradient to the latent one unchanged."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, quantised: Tensor) -> Tensor:
        return quantised

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Quantiser(nn.Module):
    """A parametrization of a weight whose latent weight is the parameter itself, the same object as before."""

    mode: str

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


class BinaryWeight(Quantiser):
    """sign(w) in {-1, +1}, with +1 at zero (section 4.2); gradient straight through."""

    mode = "binary"

    def forward(self, latent: Tensor) -> Tensor:
        quantised = torch.where(latent.detach() < 0, -1.0, 1.0).to(latent.dtype)
        weight: Tensor = _StraightThrough.apply(latent, quantised)
        return weight


class TernaryWeight(Quantiser):
    """-1 where w < -delta, 0 where |w| <= delta, +1 where w > delta (Eq. 6); gradient straight through."""

    mode = "ternary"

    def __init__(self, delta: float) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, latent: Tensor) -> Tensor:
        weight: Tensor = _StraightThrough.apply(latent, _ternary(latent.detach(), self.delta))
        return weight

    def extra_repr(self) -> str:
        return f"delta={self.delta}"


class MeanTernaryWeight(Quantiser):
    """Ternary with Delta = share * mean |w|, of the latent weights as they are at each step (Li and Liu 2016, Eq. 6).

    Recomputed, so that it follows weights that grow while training, and is no state of its own.
    """

    mode = "ternary"

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, latent: Tensor) -> Tensor:
        quantised = _ternary(latent.detach(), mean_delta(latent, self.share))
        weight: Tensor = _StraightThrough.apply(latent, quantised)
        return weight

    def extra_repr(self) -> str:
        return f"share={self.share}"


class _LearnedTernary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, log_delta: Tensor) -> Tensor:
        ctx.save_for_backward(latent, log_delta)
        return _ternary(latent, log_delta.exp())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        latent, log_delta = ctx.saved_tensors
        step = 2 * log_delta.exp()
        inside = latent.abs() <= step
        return grad, -(grad * latent * inside).sum() / step


class LearnedTernaryWeight(Quantiser):
    """Ternary with a Delta that is learned beside the weights: the parameter is log Delta, a scalar.

    Its gradient is that of clip(w / (2 Delta), -1, 1), the ramp whose steps the ternary weight rounds to:

        dw_ternary / dlog(Delta) = -w / (2 Delta) where |w| <= 2 Delta, else 0

    That is learned step size quantization (Esser et al. 2020) with the step 2 Delta, after a batch norm that takes the
    step back out. Its logarithm is learned, so that Delta stays above 0 and Adam, whose steps do not depend on the size of
    gradients, changes it by a share of itself (Jain et al. 2020, trained quantization thresholds).
    """

    mode = "ternary"

    def __init__(self, delta: Tensor) -> None:
        super().__init__()
        self.log_delta = nn.Parameter(delta.detach().log())

    def forward(self, latent: Tensor) -> Tensor:
        weight: Tensor = _LearnedTernary.apply(latent, self.log_delta)
        return weight

    def extra_repr(self) -> str:
        return f"delta={float(self.log_delta.detach().exp()):.4g}"


class PowerOfTwoScale(nn.Module):
    """A positive factor on quantised weights that stays as it is: follows a quantiser, for layers without a batch norm.

    `fitted` takes the mean |w| of the latent weights that do not become 0, which fits them best (Li and Liu 2016, Eq. 5;
    Rastegari et al. 2016 for binary ones), rounded to a power of two in its logarithm. So sums of scaled weights are as exact
    in floating point as sums of integers, and a multiplication is a shift. Gradients pass unchanged: a latent weight moves as
    one in full precision does.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().clone())

    @classmethod
    def fitted(cls, latent: Tensor, quantised: Tensor) -> PowerOfTwoScale:
        """The scale of weights [...] that are `quantised` [...] to -1, 0 and +1, at least one of them not to 0."""
        mean = latent.detach().double()[quantised != 0].abs().mean()
        return cls(torch.exp2(torch.log2(mean).round()).to(latent.dtype))

    def forward(self, quantised: Tensor) -> Tensor:
        weight: Tensor = _StraightThrough.apply(quantised, quantised.detach() * self.scale)
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    def extra_repr(self) -> str:
        return f"scale={float(self.scale):.4g}"


def mean_delta(latent: Tensor, share: float) -> Tensor:
    """`share` * mean |w|, a scalar in the weights' type.

    Summed in fp64 where the device has it: the sum's order differs between machines, and a weight near Delta must not.
    """
    precise = latent.detach().abs().mean(dtype=torch.float64 if latent.device.type != "mps" else torch.float32)
    return (share * precise).to(latent.dtype)


def quantiser_for(latent: Tensor, compression: Ternary | Binary) -> Quantiser:
    """The quantiser that `compression` asks for, of a layer with these latent weights."""
    if isinstance(compression, Binary):
        return BinaryWeight()
    share = MEAN_SHARE if compression.share is None else compression.share
    match compression.threshold:
        case "fixed":
            return TernaryWeight(compression.delta)
        case "mean":
            return MeanTernaryWeight(share)
        case "learned":
            return LearnedTernaryWeight(mean_delta(latent, share))


def _ternary(latent: Tensor, delta: float | Tensor) -> Tensor:
    return (latent > delta).to(latent.dtype) - (latent < -delta).to(latent.dtype)
