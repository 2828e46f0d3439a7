"""What is minimised: one network alone, with co-trained siblings, or taught by a frozen one.

An objective is a module that holds the networks being trained and maps a batch to its losses. The training loop knows
nothing else of it, and a distributed run wraps it whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.objectives.features import FeatureMatching, recorded_rates
from tnacli.objectives.losses import matching_loss
from tnacli.recipe.objective_section import Distill, Twin


@dataclass(frozen=True)
class Losses:
    """The losses of a batch: the scalar that is minimised, its parts before weighting, the logits [N, classes] by network."""

    total: Tensor
    parts: dict[str, Tensor]
    logits: dict[str, Tensor]


class Objective(nn.Module):
    """Base of all objectives: `networks` maps "base", "sibling1", ... to the networks that are trained.

    `auxiliary` holds what is trained with them, kept in checkpoints, and no part of any network.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.auxiliary = nn.ModuleDict()

    @property
    def base(self) -> nn.Module:
        return self.networks["base"]

    def forward(self, inputs: Tensor, labels: Tensor) -> Losses:
        raise NotImplementedError


class SoloObjective(Objective):
    """`CE(base)`: the baseline."""

    def forward(self, inputs: Tensor, labels: Tensor) -> Losses:
        logits = self.base(inputs)
        loss = F.cross_entropy(logits, labels)
        return Losses(loss, {"cross_entropy": loss}, {"base": logits})


class TwinObjective(Objective):
    """`CE(base) + sum over siblings of CE(sibling) + alpha * match(base, sibling)` (Eq. 5 and section 5.3.1).

    Gradients of the matching loss reach both of its networks. Logits are matched as each network's own cross-entropy has
    them, summed over its own timesteps, whatever they are: it is that loss which settles their scale, and a factor in front
    of one network's logits would set the two losses against each other. With `twin.features` the loss of hidden layers
    (`tnacli.objectives.features`) is added with its own weight.
    """

    def __init__(self, networks: Mapping[str, nn.Module], twin: Twin) -> None:
        super().__init__(networks)
        self.matching, self.features = twin, twin.features
        if twin.features is not None:
            self.auxiliary["features"] = FeatureMatching(networks, twin.features)

    def forward(self, inputs: Tensor, labels: Tensor) -> Losses:
        if self.features is None:
            return self._losses({name: network(inputs) for name, network in self.networks.items()}, labels)
        matching = self.auxiliary["features"]
        assert isinstance(matching, FeatureMatching)
        with recorded_rates(dict(self.networks.items()), matching.layers) as rates:
            logits = {name: network(inputs) for name, network in self.networks.items()}
        losses, hidden = self._losses(logits, labels), matching(rates)
        parts = {**losses.parts, "feature_matching": hidden}
        return Losses(losses.total + self.features.alpha * hidden, parts, logits)

    def _losses(self, logits: dict[str, Tensor], labels: Tensor) -> Losses:
        own = F.cross_entropy(logits["base"], labels)
        siblings = [name for name in logits if name != "base"]
        theirs = torch.stack([F.cross_entropy(logits[name], labels) for name in siblings]).sum()
        match = torch.stack([matching_loss(logits["base"], logits[name], self.matching) for name in siblings]).sum()
        total = own + theirs + self.matching.alpha * match
        return Losses(total, {"cross_entropy": own, "sibling_cross_entropy": theirs, "matching": match}, logits)


class DistillObjective(Objective):
    """`CE(base) + alpha * match(base, teacher)`, or the matching loss alone, with a frozen teacher (section 5.3.3)."""

    def __init__(self, networks: Mapping[str, nn.Module], distill: Distill, teacher: nn.Module) -> None:
        super().__init__(networks)
        self.distill = distill
        # In a tuple, so that the teacher is neither trained, saved nor put into training mode with the rest.
        self._teacher = (teacher.eval().requires_grad_(False),)

    def forward(self, inputs: Tensor, labels: Tensor) -> Losses:
        with torch.no_grad():
            target = self._teacher[0](inputs)
        logits = self.base(inputs)
        match = matching_loss(logits, target, self.distill)
        if not self.distill.cross_entropy:
            return Losses(self.distill.alpha * match, {"matching": match}, {"base": logits})
        own = F.cross_entropy(logits, labels)
        return Losses(own + self.distill.alpha * match, {"cross_entropy": own, "matching": match}, {"base": logits})
