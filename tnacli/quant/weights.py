"""Ternary and binary weights on the layers of a network, as torch parametrizations over full-precision latent weights.

`layer.weight` is what the network computes with; the latent weight stays where PyTorch puts it, the same Parameter object
as before, so the optimiser and its state carry over. What a quantiser computes is in `tnacli.quant.quantisers`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tnacli.errors import DivergedError
from tnacli.quant.quantisers import Quantiser, quantiser_for
from tnacli.recipe.schema.compression import Binary, Ternary
from tnacli.snn.network import Network


@dataclass(frozen=True)
class Shares:
    """The share of a layer's weights that are -1, 0 and +1."""

    negative: float
    zero: float
    positive: float


def compress(
    network: Network,
    compression: Ternary | Binary,
    layers: Collection[str] | None = None,
    *,
    refuse_silent: bool = False,
) -> dict[str, Shares]:
    """Put ternary or binary weights on hidden layers of `network`, in place; the shares of each come back.

    Of `layers`, or of all hidden ones, those are compressed that are not yet. With `refuse_silent`, raises DivergedError and
    leaves the network as it was if one would come out all zero: no signal could pass it.
    """
    done = compressed_layers(network)
    synapses = {
        name: layer.synapse
        for name, layer in network.hidden.items()
        if name not in done and (layers is None or name in layers)
    }
    quantisers = {name: quantiser_for(synapse.weight.detach(), compression) for name, synapse in synapses.items()}
    silent = silent_layers(synapses, quantisers)
    if silent and refuse_silent:
        raise DivergedError(_silent(silent, compression))
    return put_on(synapses, quantisers)


@torch.no_grad()
def silent_layers(synapses: Mapping[str, nn.Module], quantisers: Mapping[str, Quantiser]) -> dict[str, float]:
    """The layers that would come out all zero, and the largest |w| of each."""
    latent = {name: cast(Tensor, synapse.weight) for name, synapse in synapses.items()}
    silent = [name for name, weight in latent.items() if not quantisers[name](weight).any()]
    return {name: float(latent[name].abs().max()) for name in silent}


@torch.no_grad()
def put_on(synapses: Mapping[str, nn.Module], quantisers: Mapping[str, Quantiser]) -> dict[str, Shares]:
    """Put each quantiser on the weight of its layer; the shares of each come back."""
    for name, synapse in synapses.items():
        parametrize.register_parametrization(synapse, "weight", quantisers[name])
    return {name: shares_of(cast(Tensor, synapse.weight)) for name, synapse in synapses.items()}


def _silent(silent: dict[str, float], compression: Ternary | Binary) -> str:
    """Why these layers would come out all zero, and what to do."""
    assert isinstance(compression, Ternary)
    reached = ", ".join(f"{name} (largest |w| {largest:.3g})" for name, largest in silent.items())
    if compression.threshold == "fixed":
        return (
            f"with Delta = {compression.delta:g} every weight of these layers becomes zero: {reached}. Weights grow past "
            f"Delta while training: train longer before compression (compression.start), use a larger learning rate, or "
            f"lower Delta below the values shown (compression.delta, --delta), or let it follow the weights "
            f"(compression.threshold: mean)."
        )
    return (
        f"with Delta from compression.threshold: {compression.threshold} every weight of these layers becomes zero: {reached}. "
        f"Lower compression.share (--share), or train longer before compression (compression.start)."
    )


def quantiser_of(synapse: nn.Module) -> Quantiser | None:
    """What makes the weight of `synapse` ternary or binary; None where it is in full precision."""
    if not parametrize.is_parametrized(synapse, "weight"):
        return None
    chain = synapse.parametrizations.weight  # type: ignore[union-attr]
    return next((part for part in chain if isinstance(part, Quantiser)), None)  # type: ignore[union-attr]


def compressed_layers(network: Network) -> dict[str, str]:
    """The hidden layers with ternary or binary weights, and which of the two."""
    found = {name: quantiser_of(layer.synapse) for name, layer in network.hidden.items()}
    return {name: quantiser.mode for name, quantiser in found.items() if quantiser is not None}


def compression_mode(network: Network) -> str | None:
    """ "ternary" or "binary" where all hidden layers are; None where any holds full-precision weights."""
    modes = compressed_layers(network)
    return next(iter(modes.values())) if modes and len(modes) == len(network.hidden) else None


@torch.no_grad()
def weight_shares(network: Network) -> dict[str, Shares]:
    """The shares of -1, 0 and +1 in each compressed layer; empty for a full-precision network."""
    hidden = network.hidden
    return {name: shares_of(hidden[name].synapse.weight) for name in compressed_layers(network)}


def shares_of(weight: Tensor) -> Shares:
    """The shares of negative, zero and positive values in a weight of any shape."""
    count = weight.numel()
    return Shares(
        float((weight < 0).sum()) / count, float((weight == 0).sum()) / count, float((weight > 0).sum()) / count
    )


_PLAIN = {"parametrizations.weight.original": "weight", "parametrizations.weight.0.log_delta": "log_delta"}
"""Where torch keeps what a parametrized weight is made of, and what checkpoints call it."""


def _plain(name: str) -> str:
    for stored, plain in _PLAIN.items():
        if name.endswith(stored):
            return name.removesuffix(stored) + plain
    return name


def latent_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict with latent weights under the plain name `weight`, whether compressed or not.

    A learned Delta is beside it as `log_delta`.
    """
    return {_plain(name): value for name, value in network.state_dict().items()}


def load_latent_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Fill `network`, compressed or not, from `latent_state`; every tensor must be there and fit.

    A learned Delta goes to layers that are compressed, and is left where they are not.
    """
    ours = {_plain(name): name for name in network.state_dict()}
    used = {name: value for name, value in state.items() if name in ours or not name.endswith(".log_delta")}
    network.load_state_dict({ours.get(name, name): value for name, value in used.items()}, strict=True)


def latent_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by plain name: the same names, and the same objects, before and after compression."""
    return {_plain(name): parameter for name, parameter in network.named_parameters()}
