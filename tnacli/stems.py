"""What a compressed run shares with the full-precision run of the same settings: every epoch before compression.

Until then both make the same choices bit for bit, so the compressed run begins from a checkpoint of the other, its stem,
instead of training those epochs again. Table 2's five runs then cost four and a half baselines' time in place of seven.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tnacli.recipe.identity import Run
from tnacli.report.store import RunFolder
from tnacli.training.schedule import compression_epoch


def stem_of(run: Run) -> tuple[Run, int] | None:
    """The full-precision run that `run` is a branch of, and the epochs they share; None where they share nothing."""
    settings = run.settings
    shared = compression_epoch(settings)
    if not shared:  # no compression, or from the start
        return None
    schedule = settings.train.schedule.model_copy(update={"at_compression": "continue"})
    train = settings.train.model_copy(update={"schedule": schedule})
    stem = settings.model_copy(update={"compression": None, "train": train})
    return Run(run.recipe, "stem", run.seed, stem, run.altered, run.initial), shared


def wanted_epochs(runs: Iterable[Run]) -> dict[str, frozenset[int]]:
    """By identity of a stem, the epochs behind which one of `runs` branches off."""
    wanted: dict[str, set[int]] = {}
    for run in runs:
        if (found := stem_of(run)) is not None:
            wanted.setdefault(found[0].identity, set()).add(found[1])
    return {identity: frozenset(epochs) for identity, epochs in wanted.items()}


def kept_at(folder: RunFolder, epoch: int) -> Path:
    """Where a stem keeps its checkpoint of the end of `epoch`."""
    return folder.path / f"epoch-{epoch}.pt"


def keep(folder: RunFolder, epoch: int) -> None:
    """Keep the newest checkpoint, of the end of `epoch`. Best effort: without it the epochs are trained again."""
    with contextlib.suppress(OSError):
        kept = kept_at(folder, epoch)
        kept.unlink(missing_ok=True)
        try:
            # The same file under a second name: a newer checkpoint replaces last.pt, and never writes into it.
            os.link(folder.last, kept)
        except OSError:
            shutil.copyfile(folder.last, kept.with_suffix(".part"))
            os.replace(kept.with_suffix(".part"), kept)
