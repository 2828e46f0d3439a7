"""The one place that turns a run's settings into networks and an objective."""

from __future__ import annotations

import torch
from torch import nn

from tnacli.objectives.objective import DistillObjective, Objective, SoloObjective, TwinObjective
from tnacli.recipe.model_section import Model
from tnacli.recipe.objective_section import Distill, Twin
from tnacli.recipe.schema import Settings
from tnacli.seeds import derive
from tnacli.snn.network import SpikingNetwork


def build_network(
    model: Model, *, channels: int, size: tuple[int, int], classes: int, seed: int, stream: str = "base"
) -> SpikingNetwork:
    """A freshly initialised network, on the CPU, from the weights stream `stream` of the run with `seed`.

    Initialisation is PyTorch's default (Kaiming uniform), as in the paper. The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights", stream))
        return SpikingNetwork(model, channels=channels, size=size, classes=classes)


def build_objective(
    settings: Settings,
    *,
    channels: int,
    size: tuple[int, int],
    classes: int,
    seed: int,
    teacher: nn.Module | None = None,
) -> Objective:
    """The objective of a run with all the networks that it trains; the base is the same for every objective."""

    def network(stream: str, model: Model) -> nn.Module:
        return build_network(model, channels=channels, size=size, classes=classes, seed=seed, stream=stream)

    networks = {"base": network("base", settings.model)}
    objective = settings.objective
    if isinstance(objective, Twin):
        for number, sibling in enumerate(objective.siblings, 1):
            model = settings.model.model_copy(update={"width": sibling.width or settings.model.width})
            networks[f"sibling{number}"] = network(f"sibling{number}", model)
        return TwinObjective(networks, objective)
    if isinstance(objective, Distill):
        if teacher is None:
            raise ValueError("a distillation run needs its teacher")
        return DistillObjective(networks, objective, teacher)
    return SoloObjective(networks)
