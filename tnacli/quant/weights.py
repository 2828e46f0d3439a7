"""Ternary and binary weights as torch parametrizations over full-precision latent weights (Eq. 6, section 4.2).

`layer.weight` is what the network computes with; the latent weight stays where PyTorch puts it, the same Parameter object
as before, so the optimiser and its state carry over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tnacli.errors import DivergedError
from tnacli.recipe.compression_section import Binary, Ternary
from tnacli.snn.network import SpikingNetwork


class _StraightThrough(torch.autograd.Function):
    """Forwards the quantised weight, hands the gradient to the latent one unchanged."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, quantised: Tensor) -> Tensor:
        return quantised

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class TernaryWeight(nn.Module):
    """-1 where w < -delta, 0 where |w| <= delta, +1 where w > delta (Eq. 6); gradient straight through."""

    def __init__(self, delta: float) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, latent: Tensor) -> Tensor:
        quantised = (latent.detach() > self.delta).to(latent.dtype) - (latent.detach() < -self.delta).to(latent.dtype)
        weight: Tensor = _StraightThrough.apply(latent, quantised)
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    def extra_repr(self) -> str:
        return f"delta={self.delta}"


class BinaryWeight(nn.Module):
    """sign(w) in {-1, +1}, with +1 at zero (section 4.2); gradient straight through."""

    def forward(self, latent: Tensor) -> Tensor:
        quantised = torch.where(latent.detach() < 0, -1.0, 1.0).to(latent.dtype)
        weight: Tensor = _StraightThrough.apply(latent, quantised)
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


@dataclass(frozen=True)
class Shares:
    """The share of a layer's weights that are -1, 0 and +1."""

    negative: float
    zero: float
    positive: float


def compress(
    network: SpikingNetwork, compression: Ternary | Binary, *, refuse_silent: bool = False
) -> dict[str, Shares]:
    """Put ternary or binary weights on every hidden layer of `network`, in place; the shares of each layer come back.

    With `refuse_silent`, raises DivergedError and leaves the network as it was if a layer would come out all zero: no
    signal could pass it.
    """
    quantiser = TernaryWeight(compression.delta) if isinstance(compression, Ternary) else BinaryWeight()
    before = {name: layer.synapse.weight.detach() for name, layer in network.hidden.items()}
    shares = {name: _shares(quantiser(latent)) for name, latent in before.items()}
    silent = [name for name, share in shares.items() if share.zero == 1.0]
    if silent and refuse_silent:
        assert isinstance(compression, Ternary)
        widest = {name: float(before[name].abs().max()) for name in silent}
        reached = ", ".join(f"{name} (largest |w| {largest:.3g})" for name, largest in widest.items())
        raise DivergedError(
            f"with Delta = {compression.delta:g} every weight of these layers becomes zero: {reached}. Weights grow past "
            f"Delta while training: train longer before compression (compression.start), use a larger learning rate, or "
            f"lower Delta below the values shown (compression.delta, --delta)."
        )
    for layer in network.hidden.values():
        parametrize.register_parametrization(layer.synapse, "weight", quantiser)
    return shares


def compression_mode(network: SpikingNetwork) -> str | None:
    """ "ternary", "binary", or None where the hidden layers hold full-precision weights."""
    for layer in network.hidden.values():
        if parametrize.is_parametrized(layer.synapse, "weight"):
            quantiser = layer.synapse.parametrizations.weight[0]  # type: ignore[union-attr,index]
            return "ternary" if isinstance(quantiser, TernaryWeight) else "binary"
    return None


@torch.no_grad()
def weight_shares(network: SpikingNetwork) -> dict[str, Shares]:
    """The shares of -1, 0 and +1 in each compressed layer; empty for a full-precision network."""
    if compression_mode(network) is None:
        return {}
    return {name: _shares(layer.synapse.weight) for name, layer in network.hidden.items()}


def _shares(weight: Tensor) -> Shares:
    count = weight.numel()
    return Shares(
        float((weight < 0).sum()) / count, float((weight == 0).sum()) / count, float((weight > 0).sum()) / count
    )


_LATENT = "parametrizations.weight.original"


def latent_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict with latent weights under the plain name `weight`, whether compressed or not."""
    return {name.replace(_LATENT, "weight"): value for name, value in network.state_dict().items()}


def load_latent_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Fill `network`, compressed or not, from `latent_state`; every tensor must be there and fit."""
    ours = {name.replace(_LATENT, "weight"): name for name in network.state_dict()}
    network.load_state_dict({ours.get(name, name): value for name, value in state.items()}, strict=True)


def latent_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by plain name: the same names, and the same objects, before and after compression."""
    return {name.replace(_LATENT, "weight"): parameter for name, parameter in network.named_parameters()}
