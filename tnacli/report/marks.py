"""What must be said wherever the numbers of runs are shown: how they came about otherwise than the paper's."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tnacli.recipe.datasets import OWN
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.metadata import of_execution
from tnacli.runs.result import RunResult

_SELECTED = {"test": "epoch selected on the test set", "val": "epoch selected on validation samples"}


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
    if any(result.initial for result in results):
        found.append("from the weights of a checkpoint")
    precisions = sorted({result.precision for result in results})
    if precisions not in ([], ["fp32"]):
        found.append(f"trained in {' and '.join(precisions)}")
    return tuple(found)
