"""What a run begins with: its precision, its batches, and what makes it another run than its recipe's."""

from __future__ import annotations

import torch

from tnacli.data.batches import Batches
from tnacli.data.learned_from import UNKNOWN, LearnedFrom
from tnacli.data.samples import Dataset, Samples
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.metadata import Precision, of_execution
from tnacli.training.checkpoint import Checkpoint
from tnacli.training.distributed import Ranks, require_shares
from tnacli.training.loop import Splits
from tnacli.training.precision import resolve_precision


def precision_of(settings: Settings, device: torch.device, begun: Checkpoint | None) -> tuple[Precision, str | None]:
    """The precision that a run trains in, and what is to be said of it: one that goes on keeps that which it began in.

    `auto` means another on another machine, and its name is all that a run's identity has. Raises DeviceError if `device`
    does not have it.
    """
    wanted = settings.train.precision
    found, why = resolve_precision(wanted, device)
    before = None if begun is None else begun.metadata.precision
    if before is None or before == found:
        return found, None if why is None else f"train.precision: auto is {found} here: {why}"
    resolve_precision(before, device)
    return before, f"in {before}, as it began; train.precision: auto would be {found} here: {why}"


def altered_in(
    run: Run,
    start: Checkpoint | None,
    data: LearnedFrom,
    resumed: Checkpoint | None,
    *,
    device: torch.device,
    among: Ranks,
) -> tuple[str, ...]:
    """What makes it another run than the recipe's: what it is asked for, and how it is executed, was so far included."""
    altered = [*run.altered, *(() if resumed is None else of_execution(resumed.metadata.altered))]
    if device.type == "cuda" and not run.settings.runtime.deterministic:
        altered.append("not deterministic")
    if not among.alone and not run.settings.runtime.sync_batch_norm:
        altered.append(f"batch norm in each of {among.world} processes by itself")
    if start is not None and start.metadata.data.fingerprint not in (data.fingerprint, UNKNOWN):
        altered.append("fine-tuned on other data than its checkpoint learned from")
    return tuple(dict.fromkeys(altered))


def splits_of(dataset: Dataset, run: Run, device: torch.device, among: Ranks) -> Splits:
    size = run.settings.train.batch_size
    require_shares(among, size, train=len(dataset.train), test=len(dataset.test))

    def batches(samples: Samples | None, training: bool) -> Batches:
        assert samples is not None
        return Batches(
            samples, dataset, size, device, seed=run.seed, training=training, rank=among.rank, world=among.world
        )

    return Splits(
        batches(dataset.train, True),
        batches(dataset.test, False),
        None if dataset.validation is None else batches(dataset.validation, False),
    )
