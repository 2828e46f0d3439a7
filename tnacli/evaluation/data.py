"""The samples to evaluate a trained network on, as that network takes them. Loads torch for batches alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tnacli.data.choose import balanced
from tnacli.data.files import files_there
from tnacli.data.learned_from import LearnedFrom
from tnacli.data.load import load
from tnacli.data.samples import Dataset, Samples
from tnacli.errors import DataError
from tnacli.recipe.schema.data import Data

if TYPE_CHECKING:
    import torch

    from tnacli.data.batches import Batches


@dataclass(frozen=True)
class TrainedOn:
    """What a network was trained on: the data, frames a recording, classes in the order of its logits, channels, and the
    statistics that pixels were normalised with."""

    data: Data
    timesteps: int
    classes: Sequence[str]
    channels: int
    mean: Sequence[float] | None
    std: Sequence[float] | None


@dataclass(frozen=True)
class Selection:
    """The samples to evaluate on: all of `split`, or so many, balanced over classes; `data_root` says where the data lies now."""

    split: str = "test"
    samples: int | None = None
    data_root: str | None = None


WHOLE_TEST_SET = Selection()


def evaluation_samples(
    trained_on: TrainedOn, selection: Selection, *, dataset: Dataset | None = None
) -> tuple[Samples, Dataset]:
    """The selected samples, and their data set with the statistics that the network was trained with.

    `dataset` saves loading it. Raises DataError if it is missing, has other classes or channels, or fewer samples than asked
    for.
    """
    data, split, samples = trained_on.data, selection.split, selection.samples
    if dataset is None:
        update: dict[str, object] = {}
        if selection.data_root is not None and data.name != "digits":
            update["root"] = selection.data_root
        if samples is not None and split == "test":
            _require(samples, data.test_samples, split)
            update["test_samples"] = samples  # no others are read
        dataset = load(data.model_copy(update=update), trained_on.timesteps, splits=(split,))
    chosen = getattr(dataset, split)
    if chosen is None:
        raise DataError("no validation samples were held out when this was trained; use --split test or train")
    require_fitting(dataset, trained_on.classes, trained_on.channels)
    if samples is not None and samples != len(chosen):
        _require(samples, len(chosen), split)
        chosen = chosen.take(balanced(chosen.labels, samples, data.name, split))
    mean, std = (None if values is None else tuple(values) for values in (trained_on.mean, trained_on.std))
    return chosen, dataclasses.replace(dataset, mean=mean, std=std)


def batches_of(
    samples: Samples, dataset: Dataset, *, batch_size: int = 64, device: torch.device | str = "cpu"
) -> Batches:
    """What `evaluation_samples` gave, unaugmented and normalised, as batches of tensors."""
    from tnacli.data.batches import Batches

    return Batches(samples, dataset, batch_size, device, training=False)


def _require(samples: int, there: int | None, split: str) -> None:
    if there is not None and samples > there:
        raise DataError(
            f"{samples:,} samples are asked for, and the {split} split has {there:,} (data.{split}_samples, or all)"
        )


def require_fitting(dataset: Dataset, classes: Sequence[str], channels: int) -> None:
    """Raise DataError unless `dataset` has these classes, in this order, and so many channels: a network's labels are numbers."""
    there, known = list(dataset.classes), list(classes)
    if there == known and dataset.channels == channels:
        return
    if dataset.channels != channels:
        what = f"its samples have {dataset.channels} channels, and the network takes {channels}"
    elif sorted(there) == sorted(known):
        what = f"its classes come in another order: {_some(there)}, and the network was trained on {_some(known)}"
    else:
        new = [name for name in there if name not in known]
        gone = [name for name in known if name not in there]
        parts = [
            f"{_some(names)} {which}" for names, which in ((new, "only there"), (gone, "only in the network")) if names
        ]
        what = f"{len(there)} classes there, {len(known)} classes in the network; {'; '.join(parts)}"
    raise DataError(
        f"{dataset.name} does not fit the network: {what}. Class folders are to have the names that they had in training"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def same_samples(then: LearnedFrom, data: Data, seen: Samples, split: str | None) -> tuple[bool | None, str]:
    """Whether `seen` are the samples that were there in training, None if that cannot be told, and what is to be said of it.

    `data` says where they were read just now; `split` is which split they are, None if only a part of it.
    """
    files = files_there(data)
    how = "" if files is None else then.changed(files)
    if files and how == "":
        return True, ""
    digest = None if split is None else then.digests.get(split)
    if digest is None:
        return None, f"data files changed since it was trained: {how}" if how else ""
    if seen.digest() == digest:
        return True, ""
    return False, "samples differ from those it was trained with" + (f": {how}" if how else "")
