"""From the data section of a recipe to a data set in memory."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np

from tnacli.data.choose import Indices, balanced, rest
from tnacli.data.locate import Search, locate, missing, missing_parts
from tnacli.data.samples import Bytes, Dataset, Samples, empty_like, fingerprint
from tnacli.data.source import OnProgress, Source, no_progress
from tnacli.errors import DataError
from tnacli.pixels import histogram
from tnacli.places import cache_folder
from tnacli.recipe.datasets import DATASETS, OWN
from tnacli.recipe.schema.data import Augmentation, Data

logger = logging.getLogger(__name__)

ALL_SPLITS = ("train", "validation", "test")


def load(
    data: Data,
    timesteps: int,
    *,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
    splits: Collection[str] = ALL_SPLITS,
) -> Dataset:
    """The samples that `data` describes; event recordings become `timesteps` frames.

    The same description gives the same samples, whatever the seed of a run: `train_samples` and
    `test_samples` take fixed subsets, balanced over classes, and `validation_samples` are then held out of
    the training samples, balanced too (the rule stands in `tnacli.data.choose`). Only `splits` are loaded;
    the others come back empty.

    Decoded files are kept in the folder `cache` (default: $TNA_CACHE, else the user's cache folder).
    `on_progress` is called with what is being done, how far it is, and its end. Raises DataError if the data
    set is missing, damaged or smaller than asked for.
    """
    if not splits or not set(splits) <= set(ALL_SPLITS):
        raise ValueError(f"splits must be some of {ALL_SPLITS}, not {tuple(splits)}")
    progress = on_progress or no_progress
    source = open_source(data, timesteps, cache or cache_folder(), progress)
    spec = DATASETS[data.name]
    chosen = {split: _chosen(data, source, split) for split in ("train", "test")}
    measuring = data.normalise == "measure" or (data.normalise == "auto" and spec.mean is None and not spec.is_events)

    loaded: dict[str, Samples] = {}
    mean, std = (None, None) if data.normalise == "none" else (spec.mean, spec.std)
    if measuring or "train" in splits or "validation" in splits:
        whole = _read(source, "train", chosen["train"])
        train, validation = _hold_out(data, whole)
        if measuring:
            mean, std = statistics(train.inputs)
        loaded["train"] = train
        if validation is not None:
            loaded["validation"] = validation
    if "test" in splits:
        loaded["test"] = _read(source, "test", chosen["test"])
    nothing = empty_like(next(iter(loaded.values())))
    loaded = {split: samples for split, samples in loaded.items() if split in splits}
    digests = {split: samples.digest() for split, samples in loaded.items()}
    for note in source.notes:
        logger.info("%s: %s", spec.title, note)
    return Dataset(
        name=data.name,
        kind="events" if spec.is_events else "images",
        classes=source.classes,
        train=loaded.get("train", nothing),
        validation=loaded.get("validation"),
        test=loaded.get("test", nothing),
        mean=mean,
        std=std,
        augmentation=resolved(data),
        source=source.origin,
        fingerprint=fingerprint(source.classes, digests),
        notes=source.notes,
        digests=digests,
    )


def open_source(data: Data, timesteps: int, cache: Path | None, on_progress: OnProgress) -> Source:
    """Find the data set, or fetch it, without decoding samples yet; raises DataError if it is missing.

    What reads one kind of data set is imported where it is wanted.
    """
    spec = DATASETS[data.name]
    size = data.size or spec.size
    if data.format == "generated":
        from tnacli.data.sources.generated import generated

        assert size is not None  # the schema asks for one
        return generated(data.name, size, timesteps, train_samples=data.train_samples, test_samples=data.test_samples)
    from tnacli.data import images

    if data.name == "digits":
        assert size is not None
        return images.digits(size)
    search = _found(data, on_progress)
    place = search.place
    if place is None:
        raise missing(data.name, search)
    if spec.is_events:
        from tnacli.data.sources.events import event_source

        return event_source(data, place, timesteps, cache=cache, on_progress=on_progress)
    if place.layout == "torchvision":
        assert size is not None
        return images.official(data.name, place.path, size)
    from tnacli.data.sources.image_folders import image_folders

    return image_folders(data.name, place.path, data.size, cache=cache, on_progress=on_progress)


def resolved(data: Data) -> Augmentation:
    """The augmentation of `data`, blanks filled in with the data set's own; what does not apply is 0."""
    spec, asked = DATASETS[data.name], data.augmentation
    return Augmentation(
        crop_padding=spec.crop_padding if asked.crop_padding is None else asked.crop_padding,
        flip=spec.flip if asked.flip is None else asked.flip,
        rotation=spec.rotation if asked.rotation is None else asked.rotation,
        shear=spec.shear if asked.shear is None else asked.shear,
    )


def statistics(pixels: Bytes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 [n, C, H, W], as of pixels scaled to [0, 1].

    From exact counts of each of the 256 values. Raises DataError if a channel is the same everywhere.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(pixels.shape[1]):
        counts = histogram(pixels[:, channel])
        share = counts / counts.sum()
        mean = (share * values).sum()
        deviation = np.sqrt((share * np.square(values - mean)).sum())
        if deviation == 0:
            raise DataError(
                f"channel {channel} has the same value in every training pixel and cannot be normalised. "
                "Check the images, or set data.normalise: none in the recipe."
            )
        means.append(float(mean))
        deviations.append(float(deviation))
    return tuple(means), tuple(deviations)


def _found(data: Data, on_progress: OnProgress) -> Search:
    search = locate(data.name, data.format, data.root)
    if not data.download or data.name in OWN:
        return search
    # An interrupted download leaves some of the files: that is no data set yet.
    exactly = data.format == "official"
    if search.place is not None and not missing_parts(data.name, search.place, exactly=exactly):
        return search
    if data.format == "folder":
        raise DataError(
            "data.download fetches the official files, and data.format: folder asks for folders of one's own "
            "making. Leave one of the two out."
        )
    from tnacli.data.published import obtain

    obtain(data.name, search.root, on_progress)
    return locate(data.name, data.format, data.root)


def _chosen(data: Data, source: Source, split: str) -> Indices:
    labels = source.labels[split]
    key = f"{split}_samples"
    count: int | None = getattr(data, key)
    if count is None:
        return np.arange(len(labels), dtype=np.int64)
    if count > len(labels):
        raise DataError(
            f"{count:,} {split} samples are asked for (data.{key}, or --samples); {data.name} has {len(labels):,} here."
        )
    if split == "train" and count < len(source.classes):
        raise DataError(
            f"data.{key} is {count}, fewer than the {len(source.classes)} classes of {data.name}; every "
            "class needs one."
        )
    return balanced(labels, count, data.name, split)


def _hold_out(data: Data, samples: Samples) -> tuple[Samples, Samples | None]:
    count = data.validation_samples
    if not count:
        return samples, None
    classes = int(samples.labels.max()) + 1
    if count > len(samples) - classes:
        raise DataError(
            f"data.validation_samples is {count:,} of {len(samples):,} training samples; at least one of "
            f"each of the {classes} classes must be left to train on."
        )
    taken = balanced(samples.labels, count, data.name, "validation")
    return samples.take(rest(len(samples), taken)), samples.take(taken)


def _read(source: Source, split: str, indices: Indices) -> Samples:
    return Samples(source.read(split, indices), source.labels[split][indices])
