"""Finding a data set on disk, and saying where it was looked for if it is not there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tnacli.data.folders import split_folders
from tnacli.errors import DataError
from tnacli.places import data_root
from tnacli.recipe.datasets import DATASETS, OWN

DVS_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Place:
    """Where a data set was found.

    `layout` says how to read `path`: "torchvision" is the `root` of torchvision's class, "folders" holds {train,test}, or
    one's own data in another way of `split_folders`, "classes" holds the ten class folders of CIFAR10-DVS without a split.
    """

    layout: Literal["torchvision", "folders", "classes"]
    path: Path


@dataclass(frozen=True)
class Search:
    """What was found, if anything, and every place that was looked at."""

    root: Path
    root_origin: str
    place: Place | None
    looked: tuple[str, ...]


def locate(name: str, wanted: str, root: str | None) -> Search:
    """Look for the data set `name` in the format `wanted` ("auto", "official" or "folder").

    Below the data root, a set is found in any folder whose name is its own, whatever the case and punctuation
    (fashion_mnist, FashionMNIST, Fashion-MNIST); the root may also be that folder itself. Raises DataError if
    a folder cannot be looked into.
    """
    base, origin = data_root(root)
    try:
        place, looked = _search(name, wanted, base)
    except OSError as error:
        where = error.filename or base
        raise DataError(f"{where} cannot be looked into: {error.strerror or error}.") from error
    return Search(base, origin, place, looked)


def _search(name: str, wanted: str, base: Path) -> tuple[Place | None, tuple[str, ...]]:
    candidates: list[tuple[Place, str]] = []
    if name in OWN:
        ways = ("{train,test}/<class>/", "{train,val}/<class>/", "train/<class>/", "<class>/")
        candidates += [(Place("folders", base), f"{base}{os.sep}{way}") for way in ways]
    else:
        homes = _homes(base, name)
        if wanted in ("auto", "official"):
            candidates += _official(name, base, homes)
        if wanted in ("auto", "folder") or name == "nmnist":
            candidates += [(Place("folders", home), f"{home}{os.sep}{{train,test}}/<class>/") for home in homes]
    place = next((place for place, _ in candidates if _is_there(name, place)), None)
    return place, tuple(dict.fromkeys(text for _, text in candidates))


def files_folder(name: str, place: Place) -> Path:
    """The folder at `place` that holds the files of `name` and nothing else."""
    return place.path / _TORCHVISION_FILES[name] if place.layout == "torchvision" else place.path


def missing_parts(name: str, place: Place, *, exactly: bool) -> tuple[str, ...]:
    """Files and folders of the official set `name` that are not at `place`, where it was found.

    With `exactly`, recordings are counted too, since an archive may have been unpacked in part.
    """
    parts = _PARTS.get(name, ()) if place.layout != "folders" else ()
    folder = files_folder(name, place)
    gone = tuple(str(folder / part) for part in parts if not (folder / part).exists())
    spec = DATASETS[name]
    if gone or not exactly or not spec.is_events:
        return gone
    whole = (spec.train or 0) + (spec.test or 0)
    there = sum(len(files) for path, _, files in os.walk(folder) if path != str(folder))
    return () if there >= whole else (f"{whole - there:,} of {whole:,} recordings",)


def missing(name: str, search: Search) -> DataError:
    """The error for a missing data set: what, where it was looked for, how to get it, how large it is."""
    spec = DATASETS[name]
    lines = [f"{spec.title} {'were' if name in OWN else 'was'} not found. Looked for:"]
    lines += [f"  {text}" for text in search.looked]
    lines.append(f"The folder of data sets is {search.root} ({search.root_origin}).")
    lines.append(f"To get it: {spec.how_to_get}.")
    if spec.download_mb:
        lines.append("To try the program without it: `tna train RECIPE --set data.format=generated`.")
    return DataError("\n".join(lines))


def _homes(base: Path, name: str) -> list[Path]:
    """Folders that may be the set's own: children of `base` called like it, and `base` itself if it is."""
    plain = _plain(name)
    named = []
    if base.is_dir():
        named = sorted(entry for entry in base.iterdir() if _plain(entry.name) == plain and entry.is_dir())
    own = [base] if _plain(base.resolve().name) == plain else []
    return own + named or [base / _USUAL_NAMES.get(name, name)]


def _official(name: str, base: Path, homes: list[Path]) -> list[tuple[Place, str]]:
    if name == "cifar10dvs":
        return [
            (Place("classes", place), f"{place}{os.sep}<class>/cifar10_<class>_<number>.aedat")
            for home in homes
            # SpikingJelly unpacks the archives into a folder of its own.
            for place in (home, home / "extract")
        ]
    if name not in _TORCHVISION_FILES:
        return []
    # Where the root is the set's own folder, torchvision's root is either that or the folder around it.
    around = [home.absolute().parent for home in homes if home == base]
    return [
        (Place("torchvision", place), str(place / _TORCHVISION_FILES[name]))
        for place in dict.fromkeys([base, *around, *homes])
    ]


_USUAL_NAMES = {"nmnist": "NMNIST", "cifar10dvs": "CIFAR10DVS"}  # what the archives are unpacked into
_TORCHVISION_FILES = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "fashion_mnist": os.path.join("FashionMNIST", "raw"),
}
_PARTS = {
    "cifar10": (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
    "cifar100": ("train", "test", "meta"),
    "fashion_mnist": tuple(
        f"{split}-{what}-ubyte" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
    ),
    "cifar10dvs": DVS_CLASSES,
}


def _is_there(name: str, place: Place) -> bool:
    if place.layout == "torchvision":
        return (place.path / _TORCHVISION_FILES[name]).is_dir()
    if place.layout == "classes":
        return any((place.path / label).is_dir() for label in DVS_CLASSES)
    return bool(split_folders(place.path, own=name in OWN))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
