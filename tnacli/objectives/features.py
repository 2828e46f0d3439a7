"""Matching of hidden layers: firing rates of a sibling against those of the base, layer by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.errors import RecipeError
from tnacli.recipe.schema.objective import Features
from tnacli.recipe.schema.siblings import matched_layers
from tnacli.snn.network import SpikingNetwork

Rates = dict[str, dict[str, Tensor]]
"""Firing rates by network and layer, each [N, C, H, W] or [N, features]."""


class FeatureMatching(nn.Module):
    """Mean squared difference of firing rates over time, averaged over layers and summed over siblings.

    A sibling's rates r [N, C', ...] are compared with the base's [N, C, ...] as they are, or as W r with a learned W [C, C']
    over the feature maps, where C' is not C or one of the two networks is an ANN, whose values are no rates. Gradients reach
    both networks. Raises RecipeError if no layer of a sibling can be matched.
    """

    def __init__(self, networks: Mapping[str, nn.Module], features: Features) -> None:
        super().__init__()
        self.per_map = features.rates == "map"
        self.layers: dict[str, tuple[str, ...]] = {}
        self.projections = nn.ModuleDict()
        base = _of_layout(networks["base"])
        for name, network in networks.items():
            if name == "base":
                continue
            sibling = _of_layout(network)
            try:
                self.layers[name] = matched_layers(base.shapes, sibling.shapes, features)
            except ValueError as error:
                raise RecipeError(f"objective.features.layers: with {name}: {error}") from None
            theirs, ours = ({shape.name: shape.out[0] for shape in one.shapes} for one in (sibling, base))
            alike = sibling.model.spiking == base.model.spiking
            self.projections[name] = nn.ModuleDict(
                {
                    layer: nn.Linear(theirs[layer], ours[layer], bias=False)
                    for layer in self.layers[name]
                    if theirs[layer] != ours[layer] or not alike
                }
            )

    def forward(self, rates: Rates) -> Tensor:
        return torch.stack([self._sibling(name, rates) for name in self.layers]).sum()

    def _sibling(self, name: str, rates: Rates) -> Tensor:
        losses = []
        for layer in self.layers[name]:
            ours, theirs = (self._of_maps(rates[network][layer]) for network in ("base", name))
            projection = self.projections[name]._modules.get(layer)
            if projection is not None:
                theirs = projection(theirs.movedim(1, -1)).movedim(-1, 1)
            losses.append(F.mse_loss(theirs.float(), ours.float()))
        return torch.stack(losses).mean()

    def _of_maps(self, rate: Tensor) -> Tensor:
        return rate.mean((2, 3)) if self.per_map and rate.dim() == 4 else rate


@contextlib.contextmanager
def recorded_rates(networks: Mapping[str, nn.Module], wanted: Mapping[str, tuple[str, ...]]) -> Iterator[Rates]:
    """While inside, the rates of each forward pass are put into what is given: mean spikes over time after pooling.

    `wanted` are the layers of each sibling; the base's are all of theirs.
    """
    rates: Rates = {name: {} for name in networks}

    def record(name: str, layer: str) -> Callable[[object, object, Tensor], None]:
        def hook(module: object, given: object, spikes: Tensor) -> None:
            rates[name][layer] = spikes.mean(0)  # [T, N, ...]

        return hook

    of_base = {layer for layers in wanted.values() for layer in layers}
    hooks = [
        _of_layout(network).spiking[layer].output.register_forward_hook(record(name, layer))
        for name, network in networks.items()
        for layer in wanted.get(name, of_base)
    ]
    try:
        yield rates
    finally:
        for hook in hooks:
            hook.remove()


def _of_layout(network: nn.Module) -> SpikingNetwork:
    assert isinstance(network, SpikingNetwork)  # others are refused with the recipe
    return network
