"""One spelling for what computes the same, so that it has one identity.

A value that says what would hold without it is left out: the base's width of a sibling, a data set's own size. Left out
rather than filled in, because identities of runs that never named it must stay; for the same reason a 0 stays as written,
which overlays set for every data set alike.
"""

from __future__ import annotations

from typing import Any

from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.layout import NAMED_LAYOUTS, notation
from tnacli.recipe.schema.compression import MEAN_SHARE, Compression, Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.epochs import in_epochs
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import DEFAULT_TEMPERATURE, Distill, Sibling, Solo, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.section import Section

_NAMES = {spelled: name for name, spelled in NAMED_LAYOUTS.items()}


def canonical(settings: Settings) -> Settings:
    """`settings` without the values that only say what would hold without them; the computation is the same."""
    total, train = settings.train.epochs, settings.train
    schedule = train.schedule.model_copy(update=_own_epochs(train.schedule, "every", total))
    # Where the last epoch is the result, how often the others are evaluated only shows in the curves.
    evaluated = {"evaluate_every": 1} if train.select == "last" else {}
    return settings.model_copy(
        update={
            "data": _data(settings.data),
            "objective": _objective(settings.objective, settings.model, total),
            "compression": None if settings.compression is None else _compression(settings.compression, total),
            "train": train.model_copy(update={"schedule": schedule, **evaluated}),
        }
    )


def _data(data: Data) -> Data:
    spec, update = DATASETS[data.name], dict[str, Any]()
    own = {name: None for name, value in data.augmentation if value and value == getattr(spec, name)}
    if own:
        update["augmentation"] = data.augmentation.model_copy(update=own)
    if data.size == spec.size:
        update["size"] = None
    # Statistics are measured where none are known, and event counts are never normalised.
    if data.normalise == ("none" if spec.is_events else "measure") and spec.mean is None:
        update["normalise"] = "auto"
    return data.model_copy(update=update)


def _objective(objective: Solo | Twin | Distill, model: Model, total: int) -> Solo | Twin | Distill:
    if isinstance(objective, Solo):
        return objective
    update = {**_own_epochs(objective, "start", total), **_own_epochs(objective, "ramp", total)}
    if objective.temperature == DEFAULT_TEMPERATURE:
        update["temperature"] = None
    if isinstance(objective, Twin):
        update["siblings"] = tuple(_sibling(sibling, model) for sibling in objective.siblings)
    return objective.model_copy(update=update)


def _sibling(sibling: Sibling, base: Model) -> Sibling:
    """What is as in the base is left out; a layout that has a name goes by it."""
    beside, update = sibling.model(base), dict[str, Any]()
    for name in ("width", "timesteps", "spiking"):
        if getattr(beside, name) == getattr(base, name):
            update[name] = None
    if sibling.layout is not None:
        # Beside a base that a function builds, a layout is another architecture whatever it says.
        same = base.build is None and notation(sibling.layout) == notation(base.layout)
        update["layout"] = None if same else _NAMES.get(sibling.layout, sibling.layout)
    return sibling.model_copy(update=update)


def _compression(compression: Compression, total: int) -> Compression:
    update = _own_epochs(compression, "start", total)
    if isinstance(compression, Ternary) and compression.share == MEAN_SHARE:
        update["share"] = None
    if compression.gradual is not None:
        gradual = compression.gradual
        update["gradual"] = gradual.model_copy(update=_own_epochs(gradual, "over", total))
    return compression.model_copy(update=update)


def _own_epochs(section: Section, name: str, total: int) -> dict[str, Any]:
    """The default of an amount of epochs, where `section` says the same in another way (150 of 250 for 60%)."""
    default, value = type(section).model_fields[name].default, getattr(section, name)
    same = total > 0 and in_epochs(value, total) == in_epochs(default, total)
    return {name: default} if same else {}
