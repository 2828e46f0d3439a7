"""What is minimised: one network alone, with co-trained siblings, or taught by a frozen one.

An objective is a module that holds the networks being trained and maps a batch to its losses. The training loop knows
nothing else of it, and a distributed run wraps it whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tnacli.objectives.features import FeatureMatching, recorded_rates
from tnacli.objectives.losses import cross_entropy, matching_loss, weighed
from tnacli.recipe.matching import matching_weight
from tnacli.recipe.objective_section import Distill, Matching, Twin
from tnacli.snn.network import SpikingNetwork


@dataclass(frozen=True)
class Losses:
    """The losses of a batch: the scalar that is minimised, its parts before weighting, the logits [N, classes] by network.

    Those of all shares of a batch add up to the batch's.
    """

    total: Tensor
    parts: dict[str, Tensor]
    logits: dict[str, Tensor]


class Objective(nn.Module):
    """Base of all objectives: `networks` maps "base", "sibling1", ... to the networks that are trained.

    `auxiliary` holds what is trained with them, kept in checkpoints, and no part of any network. `remedies` are settings to
    try where training diverges.
    """

    remedies: tuple[str, ...] = ()

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.auxiliary = nn.ModuleDict()

    @property
    def base(self) -> nn.Module:
        return self.networks["base"]

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        """The losses of inputs and labels [N], which are `share` of a batch, after `progress` epochs."""
        raise NotImplementedError


class SoloObjective(Objective):
    """`CE(base)`: the baseline."""

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        logits = self.base(inputs)
        loss = cross_entropy(logits, labels, share)
        return Losses(loss, {"cross_entropy": loss}, {"base": logits})


class TwinObjective(Objective):
    """`CE(base) + sum over siblings of CE(sibling) + alpha * match(base, sibling)` (Eq. 5 and section 5.3.1).

    Gradients of the matching loss reach both of its networks, unless `twin.gradient` names one side; its weight may rise with
    the epochs (`tnacli.recipe.matching`). Logits are matched as each network's own cross-entropy has them, summed over its own
    timesteps, whatever they are: it is that loss which settles their scale, and a factor in front of one network's logits would
    set the two losses against each other. With `twin.features` the loss of hidden layers (`tnacli.objectives.features`) is
    added with its own weight.
    """

    remedies = ("a smaller objective.alpha",)

    def __init__(self, networks: Mapping[str, nn.Module], twin: Twin, epochs: int) -> None:
        super().__init__(networks)
        self.matching, self.features, self.epochs = twin, twin.features, epochs
        if twin.features is not None:
            self.auxiliary["features"] = FeatureMatching(networks, twin.features)

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        if self.features is None:
            outputs = {name: _outputs(network, inputs, self.matching) for name, network in self.networks.items()}
            return self._losses(outputs, labels, share, progress)
        matching = self.auxiliary["features"]
        assert isinstance(matching, FeatureMatching)
        with recorded_rates(dict(self.networks.items()), matching.layers) as rates:
            outputs = {name: _outputs(network, inputs, self.matching) for name, network in self.networks.items()}
        losses, hidden = self._losses(outputs, labels, share, progress), weighed(matching(rates), share)
        parts = {**losses.parts, "feature_matching": hidden}
        return Losses(losses.total + self.features.alpha * hidden, parts, losses.logits)

    def _losses(self, outputs: dict[str, Tensor], labels: Tensor, share: float, progress: float) -> Losses:
        logits = {name: _summed(output) for name, output in outputs.items()}
        own = cross_entropy(logits["base"], labels, share)
        siblings = [name for name in logits if name != "base"]
        theirs = torch.stack([cross_entropy(logits[name], labels, share) for name in siblings]).sum()
        match = torch.stack([self._match(outputs["base"], outputs[name], share) for name in siblings]).sum()
        total = _added(own + theirs, match, matching_weight(self.matching, progress, self.epochs))
        return Losses(total, {"cross_entropy": own, "sibling_cross_entropy": theirs, "matching": match}, logits)

    def _match(self, base: Tensor, sibling: Tensor, share: float) -> Tensor:
        moved = self.matching.gradient
        return matching_loss(
            base.detach() if moved == "siblings" else base,
            sibling.detach() if moved == "base" else sibling,
            self.matching,
            share,
        )


class DistillObjective(Objective):
    """`CE(base) + alpha * match(base, teacher)`, or the matching loss alone, with a frozen teacher (section 5.3.3)."""

    remedies = ("a smaller objective.alpha",)

    def __init__(self, networks: Mapping[str, nn.Module], distill: Distill, teacher: nn.Module, epochs: int) -> None:
        super().__init__(networks)
        self.distill, self.epochs = distill, epochs
        # In a tuple, so that the teacher is neither trained, saved nor put into training mode with the rest.
        self._teacher = (teacher.eval().requires_grad_(False),)

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        with torch.no_grad():
            target = _outputs(self._teacher[0], inputs, self.distill)
        output = _outputs(self.base, inputs, self.distill)
        logits, match = _summed(output), matching_loss(output, target, self.distill, share)
        weight = matching_weight(self.distill, progress, self.epochs)
        if not self.distill.cross_entropy:
            return Losses(weight * match, {"matching": match}, {"base": logits})
        own = cross_entropy(logits, labels, share)
        return Losses(_added(own, match, weight), {"cross_entropy": own, "matching": match}, {"base": logits})


def _outputs(network: nn.Module, inputs: Tensor, matching: Matching) -> Tensor:
    """What is matched of a network: its logits [N, classes], or those of each timestep [T, N, classes]."""
    if matching.logits == "per_timestep":
        assert isinstance(network, SpikingNetwork)  # others are refused with the recipe
        return network.potentials(inputs)
    logits: Tensor = network(inputs)
    return logits


def _summed(output: Tensor) -> Tensor:
    return output if output.dim() == 2 else output.sum(0)


def _added(loss: Tensor, match: Tensor, weight: float) -> Tensor:
    """`loss + weight * match`; a weight of 0 leaves even a matching loss that is not finite out."""
    return loss + weight * match if weight else loss
