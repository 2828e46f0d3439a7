"""Event recordings as a source: N-MNIST, CIFAR10-DVS and recordings of one's own, as frames."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np

from tnacli.data.cache import Bytes, SourceFile, cached, entry_name
from tnacli.data.folders import Listing, class_folders, list_classes, readable
from tnacli.data.frames import to_frames
from tnacli.data.locate import DVS_CLASSES, Place
from tnacli.data.recordings import DECODING, RECORDING_SUFFIXES, frame_size, needs_tonic, read_recording
from tnacli.data.samples import DataOrigin, Labels
from tnacli.data.source import OnProgress, Source
from tnacli.data.workers import for_each
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS, OWN
from tnacli.recipe.schema.data import Data

FIRST_DVS_TEST = 900
"""CIFAR10-DVS numbers its recordings 0 to 999 in each class; those from here on are the test set."""


def event_source(data: Data, place: Place, timesteps: int, *, cache: Path | None, on_progress: OnProgress) -> Source:
    """The recordings at `place` as uint8 frames [n, timesteps, 2, *size], made when asked for, and cached.

    N-MNIST and CIFAR10-DVS count as "official" if all their recordings are there, else as "folder", with a
    note. Raises DataError if data.format asks for official files and some are missing, or if a recording
    cannot be read.
    """
    spec = DATASETS[data.name]
    if place.layout == "classes":
        classes, listings, notes = cifar10dvs_split(place.path)
    else:
        found = class_folders(place.path, RECORDING_SUFFIXES, own=data.name in OWN)
        classes, listings, notes = found.classes, found.splits, found.notes("recordings")
    if spec.classes is not None and len(classes) != spec.classes:
        raise DataError(f"{place.path} holds {len(classes)} classes, {spec.title} has {spec.classes}.")
    origin: DataOrigin = "folder"
    if place.layout == "classes" or data.name == "nmnist":
        origin, shortfall = _completeness(data, place.path, listings)
        notes += shortfall
    sensor, size = frame_size(data, listings["train"].files[0].path)

    def frames_of(path: str) -> tuple[Bytes, int]:
        events, _, outside = read_recording(path, sensor, on_its_side=spec.on_its_side)
        return to_frames(events, sensor=sensor, timesteps=timesteps, size=size, binning=data.binning), outside

    def read(split: str, indices: Labels) -> Bytes:
        files = listings[split].take(indices)
        settings = f"{DECODING} {timesteps} {data.binning} {size} {sensor}"
        shape = (len(files), timesteps, 2, *size)

        def decode(remarks: list[str]) -> Bytes:
            frames, outside = np.empty(shape, np.uint8), np.zeros(len(files), np.int64)

            def one(index: int) -> None:
                frames[index], outside[index] = frames_of(files[index].path)

            _import_readers(files)
            for_each(len(files), one, f"reading {data.name} {split}", on_progress)
            if outside.any():
                remarks.append(
                    f"{data.name} {split}: {outside.sum():,} events outside the camera's {sensor[0]}x{sensor[1]} pixels "
                    f"are left out, in {np.count_nonzero(outside):,} of {len(files):,} recordings; most, "
                    f"{outside.max():,}, in {readable(files[outside.argmax()].path)}"
                )
            return frames

        return cached(cache, entry_name(f"{data.name}-{split}", files, settings), decode)

    labels = {split: np.array(listing.labels, np.int64) for split, listing in listings.items()}
    return Source(origin, classes, labels, read, notes)


def cifar10dvs_split(place: Path) -> tuple[tuple[str, ...], dict[str, Listing], tuple[str, ...]]:
    """Classes, both splits, and notes, of CIFAR10-DVS as published, `place`/<class>/<name>_<number>.

    It comes without a split. Here the recordings numbered 900 to 999 of each class are the test set and those
    from 0 to 899 the training set, also where recordings are missing, so that no recording ever changes
    sides. Raises DataError if a class is missing or a file has no number or another's.
    """
    folders = [place / label for label in DVS_CLASSES]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is missing. To get it: {DATASETS['cifar10dvs'].how_to_get}.")
    passed_over: list[str] = []
    everything = list_classes(folders, RECORDING_SUFFIXES, passed_over)
    recordings: dict[tuple[int, int], SourceFile] = {}
    for label, file in zip(everything.labels, everything.files, strict=True):
        key = (label, _number(file))
        if key in recordings:
            raise DataError(f"{recordings[key].path} and {file.path} have the same number; keep one of them.")
        recordings[key] = file
    in_order = sorted(recordings)
    listings = {
        split: Listing(
            tuple(recordings[key] for key in keys),
            tuple(label for label, _ in keys),
        )
        for split, keys in (
            ("train", [key for key in in_order if key[1] < FIRST_DVS_TEST]),
            ("test", [key for key in in_order if key[1] >= FIRST_DVS_TEST]),
        )
    }
    for split, listing in listings.items():
        for label, folder in enumerate(folders):
            if label not in listing.labels:
                raise DataError(
                    f"{folder} has no {split} recordings: those numbered 0 to 899 are for training, 900 to "
                    "999 for testing."
                )
    notes: tuple[str, ...] = ("test set: recordings 900 to 999 of each class, training set: 0 to 899",)
    if passed_over:
        notes += (f"passed over, not recordings: {passed_over[0]} ({len(passed_over)} in all)",)
    return DVS_CLASSES, listings, notes


def _number(file: SourceFile) -> int:
    found = re.search(r"(\d+)$", Path(file.path).stem)
    if found is None or int(found[1]) > 999:
        raise DataError(
            f"{file.path}: recordings of CIFAR10-DVS end in a number from 0 to 999, as in cifar10_ship_7.aedat."
        )
    return int(found[1])


def _completeness(data: Data, place: Path, listings: dict[str, Listing]) -> tuple[DataOrigin, tuple[str, ...]]:
    """Whether all recordings are there, each class its share in CIFAR10-DVS."""
    spec = DATASETS[data.name]
    there = {split: len(listing.files) for split, listing in listings.items()}
    whole = {"train": spec.train, "test": spec.test}
    shares = Counter(listings["train"].labels).values()
    if there == whole and (data.name != "cifar10dvs" or set(shares) == {900}):
        return "official", ()
    shortfall = (
        f"{place} holds {there['train']:,} training and {there['test']:,} test recordings; {spec.title} has "
        f"{spec.train:,} and {spec.test:,}"
    )
    if data.format == "official":
        raise DataError(f"{shortfall}. Use what is there with data.format: auto, or get the rest: {spec.how_to_get}.")
    return "folder", (shortfall,)


def _import_readers(files: tuple[SourceFile, ...]) -> None:
    """Import tonic where it is needed in the calling thread: it takes seconds, and others would wait for each other."""
    if any(needs_tonic(file.path) for file in files):
        import_module("tonic.io")
