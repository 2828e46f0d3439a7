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
from tnacli.objectives.losses import cross_entropy, matching_loss, temporal_loss, twin_matching_loss, weighed
from tnacli.objectives.side_by_side import OutputsOf, in_turn
from tnacli.recipe.schema.matching import matching_weight
from tnacli.recipe.schema.objective import Distill, Logits, Solo, Twin
from tnacli.recipe.schema.recipe import Train
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
    try where training diverges. Of the section `train` an objective knows its epochs, and what its cross-entropy is taken of.
    """

    remedies: tuple[str, ...] = ()

    def __init__(self, networks: Mapping[str, nn.Module], train: Train, settings: Solo | Twin | Distill) -> None:
        super().__init__()
        self.epochs, self.supervised, self.temporal = train.epochs, train.cross_entropy, settings.temporal
        self.networks = nn.ModuleDict(networks)
        self.auxiliary = nn.ModuleDict()

    @property
    def base(self) -> nn.Module:
        return self.networks["base"]

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        """The losses of inputs and labels [N], which are `share` of a batch, after `progress` epochs."""
        raise NotImplementedError

    def _output(self, network: nn.Module, inputs: Tensor, *wanted: Logits) -> Tensor:
        """The output of a network that is trained, by timestep where its own losses or those `wanted` need it."""
        own: tuple[Logits, ...] = (self.supervised, "summed" if self.temporal is None else "per_timestep")
        return _output(network, inputs, *own, *wanted)

    def _with_temporal(self, losses: Losses, outputs: Mapping[str, Tensor], share: float) -> Losses:
        """With temporal self-distillation of each network added, if there is any."""
        if self.temporal is None:
            return losses
        taught = torch.stack([temporal_loss(output, self.temporal, share) for output in outputs.values()]).sum()
        return Losses(losses.total + self.temporal.alpha * taught, {**losses.parts, "temporal": taught}, losses.logits)

    def _cross_entropy(self, output: Tensor, labels: Tensor, share: float) -> Tensor:
        return cross_entropy(_taken(output, self.supervised), labels, share)


class SoloObjective(Objective):
    """`CE(base)`: the baseline."""

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        output = self._output(self.base, inputs)
        loss = self._cross_entropy(output, labels, share)
        losses = Losses(loss, {"cross_entropy": loss}, {"base": _taken(output, "summed")})
        return self._with_temporal(losses, {"base": output}, share)


class TwinObjective(Objective):
    """`CE(base) + sum over siblings of CE(sibling) + alpha * match(base, sibling)` (Eq. 5 and section 5.3.1).

    Gradients of the matching loss reach both of its networks, unless `twin.gradient` names one side; its weight may rise with
    the epochs (`recipe/schema/matching.py`). Logits are matched as each network's own cross-entropy has them, summed over its own
    timesteps, whatever they are: it is that loss which settles their scale, and a factor in front of one network's logits would
    set the two losses against each other. With `twin.features` the loss of hidden layers (`tnacli.objectives.features`) is
    added with its own weight.

    `outputs_of` says how the networks are computed: `in_turn`, unless set to `SideBySide`, which hidden layers' losses rule out.
    """

    remedies = ("a smaller objective.alpha",)

    def __init__(self, networks: Mapping[str, nn.Module], train: Train, twin: Twin) -> None:
        super().__init__(networks, train, twin)
        self.matching, self.features = twin, twin.features
        self.outputs_of: OutputsOf = in_turn
        if twin.features is not None:
            self.auxiliary["features"] = FeatureMatching(networks, twin.features)

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        if self.features is None:
            return self._losses(self._outputs(inputs), labels, share, progress)
        matching = self.auxiliary["features"]
        assert isinstance(matching, FeatureMatching)
        with recorded_rates(dict(self.networks.items()), matching.layers) as rates:
            outputs = self._outputs(inputs)
        losses, hidden = self._losses(outputs, labels, share, progress), weighed(matching(rates), share)
        parts = {**losses.parts, "feature_matching": hidden}
        return Losses(losses.total + self.features.alpha * hidden, parts, losses.logits)

    def _outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        networks = dict(self.networks.items())
        return self.outputs_of(networks, lambda one: self._output(one, inputs, self.matching.logits), len(inputs))

    def _losses(self, outputs: dict[str, Tensor], labels: Tensor, share: float, progress: float) -> Losses:
        own = self._cross_entropy(outputs["base"], labels, share)
        siblings = [name for name in outputs if name != "base"]
        theirs = torch.stack([self._cross_entropy(outputs[name], labels, share) for name in siblings]).sum()
        match = torch.stack([self._match(outputs["base"], outputs[name], share) for name in siblings]).sum()
        total = _added(own + theirs, match, matching_weight(self.matching, progress, self.epochs))
        logits = {name: _taken(output, "summed") for name, output in outputs.items()}
        parts = {"cross_entropy": own, "sibling_cross_entropy": theirs, "matching": match}
        return self._with_temporal(Losses(total, parts, logits), outputs, share)

    def _match(self, base: Tensor, sibling: Tensor, share: float) -> Tensor:
        logits = self.matching.logits
        return twin_matching_loss(_taken(base, logits), _taken(sibling, logits), self.matching, share)


class DistillObjective(Objective):
    """`CE(base) + alpha * match(base, teacher)`, or the matching loss alone, with a frozen teacher (section 5.3.3)."""

    remedies = ("a smaller objective.alpha",)

    def __init__(self, networks: Mapping[str, nn.Module], train: Train, distill: Distill, teacher: nn.Module) -> None:
        super().__init__(networks, train, distill)
        self.distill = distill
        # In a tuple, so that the teacher is neither trained, saved nor put into training mode with the rest.
        self._teacher = (teacher.eval().requires_grad_(False),)

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, progress: float = 0.0) -> Losses:
        with torch.no_grad():
            target = _output(self._teacher[0], inputs, self.distill.logits)
        output = self._output(self.base, inputs, self.distill.logits)
        match = matching_loss(_taken(output, self.distill.logits), target, self.distill, share)
        logits = _taken(output, "summed")
        weight = matching_weight(self.distill, progress, self.epochs)
        if not self.distill.cross_entropy:
            losses = Losses(weight * match, {"matching": match}, {"base": logits})
        else:
            own = self._cross_entropy(output, labels, share)
            parts = {"cross_entropy": own, "matching": match}
            losses = Losses(_added(own, match, weight), parts, {"base": logits})
        return self._with_temporal(losses, {"base": output}, share)


def _output(network: nn.Module, inputs: Tensor, *wanted: Logits) -> Tensor:
    """The logits of a network [N, classes], or those of each timestep [T, N, classes] where any loss wants them."""
    if "per_timestep" in wanted:
        assert isinstance(network, SpikingNetwork)  # others are refused with the recipe
        return network.potentials(inputs)
    logits: Tensor = network(inputs)
    return logits


def _taken(output: Tensor, logits: Logits) -> Tensor:
    """What a loss is taken of: `output` as it is, or summed over time."""
    return output.sum(0) if logits == "summed" and output.dim() == 3 else output


def _added(loss: Tensor, match: Tensor, weight: float) -> Tensor:
    """`loss + weight * match`; a weight of 0 leaves even a matching loss that is not finite out."""
    return loss + weight * match if weight else loss
