"""When and how strongly logits are matched, and which readings of a loss do not fit the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tnacli.recipe.schema.epochs import in_epochs
from tnacli.recipe.schema.misfit import Misfit
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Matching, Twin
from tnacli.recipe.schema.siblings import models_of


def matching_weight(matching: Matching, progress: float, epochs: int) -> float:
    """The weight of the matching loss after `progress` of `epochs` epochs: 0 until `start`, alpha once `ramp` has passed."""
    since = progress - in_epochs(matching.start, epochs)
    ramp = in_epochs(matching.ramp, epochs)
    if since < 0:
        return 0.0
    return matching.alpha if since >= ramp else matching.alpha * since / ramp


def weight_in_batch_means(matching: Matching, batch_size: int, classes: int | None) -> float | str:
    """The alpha that weighs as much under `reduction: batch_mean`, or why none can be given.

    `classes` is None where it is only known from the user's files.
    """
    if matching.logits == "per_timestep":
        return "another loss: of the logits of each timestep, no factor leads to those summed over time"
    if matching.match != "mse":
        return "another loss: a divergence, no factor leads to squared differences"
    if matching.reduction == "mean":
        return "depends on how many classes your data has" if classes is None else matching.alpha / classes
    return matching.alpha * batch_size if matching.reduction == "sum" else matching.alpha


def matching_misfits(model: Model, objective: Twin | Distill, epochs: int) -> Iterator[Misfit]:
    """What is wrong with the matching loss beside a base that is `model`, in a run of `epochs`."""
    begins, ramp = in_epochs(objective.start, epochs), in_epochs(objective.ramp, epochs)
    if (begins or ramp) and begins + ramp >= epochs:
        text = (
            f"gives the matching loss all of alpha after {begins + ramp:g} epochs, and train.epochs is {epochs}: none is left; "
            f"begin earlier, raise it faster, or train longer"
        )
        keys = ("objective.start", "objective.ramp") if begins else ("objective.ramp", "objective.start")
        yield Misfit(text, (*keys, "train.epochs"))
    if isinstance(objective, Distill) and not objective.cross_entropy and (begins or ramp):
        text = "leaves nothing to learn from in its epochs, because cross_entropy is false; leave it out"
        yield Misfit(text, ("objective.start" if begins else "objective.ramp", "objective.cross_entropy"))
    if objective.logits == "per_timestep":
        models = models_of(model, objective)
        yield from timestep_misfits("objective.logits", models)
        if len({one.timesteps for one in models.values()}) > 1:
            text = "is per_timestep, which takes the same timesteps on both sides; leave it out"
            yield Misfit(text, ("objective.logits", "objective.siblings"))


def timestep_misfits(key: str, models: Mapping[str, Model]) -> Iterator[Misfit]:
    """Why a loss of the logits of each timestep, which the setting `key` asks for, cannot be taken of `models`."""
    what = "takes the logits of each timestep" if key == "objective.temporal" else "is per_timestep"
    if any(one.build is not None for one in models.values()):
        text = f"{what}, and a network of model.build gives one set of logits; leave it out"
        yield Misfit(text, (key, "model.build"))
    elif not all(one.spiking for one in models.values()):
        text = f"{what}, and an artificial network has no timesteps; leave it out"
        yield Misfit(text, (key, "objective.siblings", "model.spiking"))
    elif all(one.timesteps == 1 for one in models.values()):
        text = f"{what}, and with model.timesteps 1 the sum over time is the same; leave it out"
        yield Misfit(text, (key, "model.timesteps"))
