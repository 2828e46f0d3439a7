"""What there is of a data set on this machine, without decoding it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tnacli.data.event_source import event_source
from tnacli.data.folders import class_folders
from tnacli.data.images import IMAGE_SUFFIXES
from tnacli.data.locate import locate
from tnacli.data.source import no_progress
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.schema import Data


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
    """Look for the data set `name` below `root` (default: $TNA_DATA, else ./data). Decodes nothing and
    raises nothing.
    """
    facts = DATASETS[name]
    if name == "digits":
        return Status(
            name, facts.title, "embedded", None, facts.train, facts.test, None, (), facts.how_to_get
        )
    search = locate(name, "auto", root)
    place = search.place
    if place is None:
        return Status(name, facts.title, None, None, None, None, None, search.looked, facts.how_to_get)
    found, train, test, problem = "folder", None, None, None
    try:
        if place.layout == "torchvision":
            found, train, test = "official", facts.train, facts.test
        elif facts.is_events:
            source = event_source(Data(name=name, root=root), place, 1, None, no_progress)
            found, train, test = source.origin, len(source.labels["train"]), len(source.labels["test"])
        else:
            splits = class_folders(place.path, IMAGE_SUFFIXES).splits
            train, test = len(splits["train"].files), len(splits["test"].files)
    except DataError as error:
        problem = str(error)
    return Status(
        name,
        facts.title,
        found,
        place.path,
        train,
        test,
        _size_bytes(place.path),
        search.looked,
        facts.how_to_get,
        problem,
    )


def _size_bytes(folder: Path) -> int:
    return sum(
        os.stat(os.path.join(path, name)).st_size
        for path, _, names in os.walk(folder)
        for name in names
        if os.path.isfile(os.path.join(path, name))
    )
