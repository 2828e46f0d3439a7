"""The samples to evaluate a trained network on, as that network takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from tnacli.data.batches import Batches
from tnacli.data.choose import balanced
from tnacli.data.load import load
from tnacli.data.samples import Dataset
from tnacli.errors import DataError
from tnacli.recipe.data_section import Data


def evaluation_batches(
    data: Data,
    timesteps: int,
    *,
    classes: Sequence[str],
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    split: str = "test",
    samples: int | None = None,
    data_root: str | None = None,
    dataset: Dataset | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Batches:
    """The samples of `split`, unaugmented, normalised by the statistics that the network was trained with.

    `data` and `timesteps` are what it was trained on; `data_root` says where the data lies now, `samples` asks for fewer,
    balanced over classes. `dataset` saves loading it. Raises DataError if it is missing, has other classes or channels, or
    fewer samples than asked for.
    """
    if dataset is None:
        update: dict[str, object] = {}
        if data_root is not None and data.name != "digits":
            update["root"] = data_root
        if samples is not None and split == "test":
            _require(samples, data.test_samples, split)
            update["test_samples"] = samples  # no others are read
        dataset = load(data.model_copy(update=update), timesteps, splits=(split,))
    chosen = getattr(dataset, split)
    if chosen is None:
        raise DataError("no validation samples were held out when this was trained; use --split test or train")
    if tuple(dataset.classes) != tuple(classes) or dataset.channels != channels:
        raise DataError(
            f"{dataset.name} does not fit the network: {len(dataset.classes)} classes and {dataset.channels} channels there, "
            f"{len(classes)} classes and {channels} channels in the network (or classes of other names)"
        )
    if samples is not None and samples != len(chosen):
        _require(samples, len(chosen), split)
        chosen = chosen.take(balanced(chosen.labels, samples, data.name, split))
    fitting = dataclasses.replace(
        dataset, mean=None if mean is None else tuple(mean), std=None if std is None else tuple(std)
    )
    return Batches(chosen, fitting, batch_size, device, training=False)


def _require(samples: int, there: int | None, split: str) -> None:
    if there is not None and samples > there:
        raise DataError(
            f"{samples:,} samples are asked for, and the {split} split has {there:,} (data.{split}_samples, or all)"
        )
