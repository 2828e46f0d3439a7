"""Weights that a run starts from in place of fresh ones: those of a checkpoint, for `train.initial` and `tna ternarize`."""

from __future__ import annotations

from pathlib import Path

from tnacli.errors import RecipeError
from tnacli.objectives.objective import Objective
from tnacli.quant.weights import load_latent_state
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.identity import Run, digest_of_file
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.siblings import models_of
from tnacli.runs.metadata import CheckpointMetadata
from tnacli.storage import network_file
from tnacli.training.checkpoint import Checkpoint, load_checkpoint


def initial_checkpoint(run: Run) -> Checkpoint:
    """The checkpoint that `train.initial` of `run` names, whose networks are those that the run trains.

    Raises RecipeError if they are others, or the file is no longer the one that the run was planned with; FileFormatError if
    it is damaged or no checkpoint.
    """
    place = run.settings.train.initial
    assert place is not None
    if digest_of_file(place) != run.initial:
        raise RecipeError(
            f"train.initial: {place} has been written anew since the run was planned; give the command again"
        )
    path = network_file(Path(place))
    checkpoint = load_checkpoint(path)
    ours, theirs = models_of(run.settings.model, run.settings.objective), checkpoint.metadata.networks
    for name in ours.keys() & theirs.keys():
        if _weights(ours[name], checkpoint.metadata, run.settings) != _weights(theirs[name], checkpoint.metadata, None):
            raise RecipeError(
                f"train.initial: the weights in {path} do not fit: its {name} is {_described(theirs[name])}, trained on "
                f"{checkpoint.metadata.data.name}, and that of this run is {_described(ours[name])} on "
                f"{run.settings.data.name}; give model.layout, model.width and the like as they are there (`tna inspect`)"
            )
    return checkpoint


def start_from(objective: Objective, initial: Checkpoint) -> tuple[str, ...]:
    """Fill the networks with the weights that a checkpoint has for them; the names of those that it does not have."""
    fresh = []
    for name, network in objective.networks.items():
        if name not in initial.networks():
            fresh.append(name)
            continue
        try:
            load_latent_state(network, initial.under(f"networks/{name}"))
        except RuntimeError as error:
            raise RecipeError(f"the weights of the checkpoint to start from do not fit {name}: {error}") from None
    helpers = initial.under("auxiliary")
    if helpers.keys() == objective.auxiliary.state_dict().keys():
        objective.auxiliary.load_state_dict(helpers)
    return tuple(fresh)


def started_text(place: str, fresh: tuple[str, ...]) -> str:
    """What is said of a run that starts from `place`, which does not have the networks `fresh`."""
    without = f"; {' and '.join(fresh)}, which it does not have, starts fresh" if fresh else ""
    return f"from the weights of {place}{without}"


def _weights(model: Model, there: CheckpointMetadata, settings: Settings | None) -> object:
    """What must be equal for weights to fit: their shapes by name; the function's name, where one makes the network.

    Inputs are those of `settings`, or of the checkpoint, also where only the user's files tell.
    """
    if model.build is not None:
        return model.function
    channels, size, classes = there.channels, there.size, len(there.classes)
    if settings is not None:
        spec = DATASETS[settings.data.name]
        channels, size, classes = (
            spec.channels or channels,
            settings.data.size or spec.size or size,
            spec.classes or classes,
        )
    shapes = layer_shapes(model.layout, width=model.width, channels=channels, size=size, classes=classes)
    return model.norm, {name: weight for shape in shapes for name, weight in shape.branches.items()}


def _described(model: Model) -> str:
    if model.build is not None:
        return f"made by {model.function}"
    return f"{model.layout}, width {model.width:g}, norm {model.norm}"
