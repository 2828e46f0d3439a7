"""What a compressed run shares with the full-precision run of the same settings: every epoch before compression.

Until then both make the same choices bit for bit, so the compressed run begins from a checkpoint of the other, its stem,
instead of training those epochs again. Table 2's five runs then cost 4.6 baselines' time in place of seven.
"""

from __future__ import annotations

from collections.abc import Iterable

from tnacli.recipe.identity import Run
from tnacli.training.schedule import compression_epoch


def stem_of(run: Run) -> tuple[Run, int] | None:
    """The full-precision run that `run` is a branch of, and the epochs they share; None where they share nothing."""
    shared = compression_epoch(run.settings)
    if not shared:  # no compression, or from the start
        return None
    return Run(run.recipe, "stem", run.seed, run.settings.uncompressed(), run.altered, run.initial), shared


def wanted_epochs(runs: Iterable[Run]) -> dict[str, frozenset[int]]:
    """By identity of a stem, the epochs after which one of `runs` branches off."""
    wanted: dict[str, set[int]] = {}
    for run in runs:
        if (found := stem_of(run)) is not None:
            wanted.setdefault(found[0].identity, set()).add(found[1])
    return {identity: frozenset(epochs) for identity, epochs in wanted.items()}
