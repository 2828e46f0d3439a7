"""What must be said wherever the numbers of runs are shown: how they came about otherwise than the paper's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePath

from tnacli.recipe.datasets import OWN
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.metadata import of_execution
from tnacli.runs.result import RunResult

_SELECTED = {"test": "epoch selected on the test set", "val": "epoch selected on validation samples"}


def started_from(place: str | PurePath | None) -> str:
    """That a run starts from the weights of the checkpoint at `place`, as short as tells: the folder of its run, or its file."""
    if place is None:
        return "from the weights of a checkpoint"
    path = PurePath(place)
    return f"from the weights of {path.parent.name if path.name in ('last.pt', 'previous.pt') else path.name}"


def marks(settings: Settings, altered: Sequence[str], results: Collection[RunResult]) -> tuple[str, ...]:
    """The marks of runs that differ in nothing but their seeds, from all of their stored `results`.

    `altered` are the overlays and overrides under which they were asked for.
    """
    found = list(altered)
    # An overlay that a finished run was trained under and that changed nothing of it is no longer worth a word; how it
    # was executed is.
    found += dict.fromkeys(text for result in results for text in of_execution(result.altered))
    if settings.train.select in _SELECTED:
        found.append(_SELECTED[settings.train.select])
    sources = {result.data.source for result in results}
    if "folder" in sources and settings.data.name not in OWN:
        found.append("class folders, not the official files")
    if "generated" in sources:
        found.append("generated data")
    if settings.train.initial or any(result.initial for result in results):
        found.append(started_from(settings.train.initial))
    precisions = sorted({result.precision for result in results})
    if precisions not in ([], ["fp32"]):
        found.append(f"trained in {' and '.join(precisions)}")
    return tuple(found)
