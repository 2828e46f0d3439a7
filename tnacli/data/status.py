"""What there is of a data set on this machine, without decoding it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from tnacli.data.folders import class_folders
from tnacli.data.locate import files_folder, locate, missing_parts
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.schema.data import Data


@dataclass(frozen=True)
class Status:
    """What `tna data` tells about one data set.

    `found` is how it would be read ("official", "folder", "embedded"), or None if it is not there. `train`
    and `test` are numbers of samples, `size_bytes` is what its files take on disk. `problem` says why a set
    that is there cannot be used. `looked` lists every place that was looked at.
    """

    name: str
    title: str
    found: str | None
    path: Path | None
    train: int | None
    test: int | None
    size_bytes: int | None
    looked: tuple[str, ...]
    how_to_get: str
    problem: str | None = None


def status(name: str, root: str | None = None) -> Status:
    """Look for the data set `name` below `root` (default: $TNA_DATA, else ./data). Decodes no samples.

    Trouble with its files is told in `problem`, not raised.
    """
    spec = DATASETS[name]
    blank = Status(name, spec.title, None, None, None, None, None, (), spec.how_to_get)
    if name == "digits":
        return replace(blank, found="embedded", train=spec.train, test=spec.test)
    try:
        search = locate(name, "auto", root)
    except DataError as error:
        return replace(blank, problem=str(error))
    place = search.place
    blank = replace(blank, looked=search.looked)
    if place is None:
        return blank
    there = replace(blank, found="folder", path=place.path, size_bytes=_size_bytes(files_folder(name, place)))
    try:
        if gone := missing_parts(name, place, exactly=False):
            return replace(there, problem=f"missing: {', '.join(gone)}")
        if place.layout == "torchvision":
            return replace(there, found="official", train=spec.train, test=spec.test)
        if spec.is_events:
            from tnacli.data.source import no_progress
            from tnacli.data.sources.events import event_source

            source = event_source(Data(name=name, root=root), place, 1, cache=None, on_progress=no_progress)
            counts = {split: len(labels) for split, labels in source.labels.items()}
            return replace(there, found=source.origin, train=counts["train"], test=counts["test"])
        from tnacli.data.image_files import IMAGE_SUFFIXES

        splits = class_folders(place.path, IMAGE_SUFFIXES).splits
        return replace(there, train=len(splits["train"].files), test=len(splits["test"].files))
    except DataError as error:
        return replace(there, problem=str(error))


def _size_bytes(folder: str | Path) -> int:
    """Of all files below `folder`; folders that cannot be looked into, and those that links lead to, count as empty."""
    try:
        with os.scandir(folder) as found:
            return sum(_size_bytes(one.path) if one.is_dir(follow_symlinks=False) else _size(one) for one in found)
    except OSError:
        return 0


def _size(entry: os.DirEntry[str]) -> int:
    return entry.stat().st_size if entry.is_file() else 0
