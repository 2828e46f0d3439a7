"""The one place that turns a run's settings into networks and an objective."""

from __future__ import annotations

import torch
from torch import nn

from tnacli.errors import RecipeError
from tnacli.objectives.objective import DistillObjective, Objective, SoloObjective, TwinObjective
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.siblings import models_of
from tnacli.seeds import derive
from tnacli.snn.network import Network, SpikingNetwork
from tnacli.snn.own import own_network


def build_network(
    model: Model, *, channels: int, size: tuple[int, int], classes: int, seed: int, stream: str = "base"
) -> Network:
    """A freshly initialised network, on the CPU, from the weights stream `stream` of the run with `seed`.

    Initialisation is PyTorch's default (Kaiming uniform), as in the paper. The global random state is left as it was.
    Raises RecipeError if `model` names a function that cannot make one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights", stream))
        make = SpikingNetwork if model.build is None else own_network
        return make(model, channels=channels, size=size, classes=classes)


def build_objective(
    settings: Settings,
    *,
    channels: int,
    size: tuple[int, int],
    classes: int,
    seed: int,
    teacher: nn.Module | None = None,
) -> Objective:
    """The objective of a run with all the networks that it trains; the base is the same for every objective.

    Raises RecipeError if the user's own network cannot be made, or has nothing to compress and should be.
    """

    def network(stream: str, model: Model) -> nn.Module:
        return build_network(model, channels=channels, size=size, classes=classes, seed=seed, stream=stream)

    objective = settings.objective
    networks = {name: network(name, model) for name, model in models_of(settings.model, objective).items()}
    base = networks["base"]
    if settings.compression is not None and isinstance(base, Network) and not base.hidden:
        raise RecipeError(
            f"compression.mode: acts on the layers between the first and the last, and the network of {settings.model.function} "
            f"has none: its convolutions (Conv2d) and matrix products (Linear) are counted"
        )
    if isinstance(objective, Twin):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights", "features"))
            return TwinObjective(networks, settings.train, objective)
    if isinstance(objective, Distill):
        if teacher is None:
            raise ValueError("a distillation run needs its teacher")
        return DistillObjective(networks, settings.train, objective, teacher)
    return SoloObjective(networks, settings.train, objective)
