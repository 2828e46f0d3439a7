"""What can be said of a data set before it is read: whether it is there, and of one's own files what networks would be fed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tnacli.data.folders import SPLITS, ClassFolders, class_folders
from tnacli.data.locate import locate, missing_parts
from tnacli.errors import DataError
from tnacli.recipe.costs import Sample
from tnacli.recipe.datasets import DATASETS, OWN
from tnacli.recipe.schema.data import Data


@dataclass(frozen=True)
class Look:
    """Whether the data set `name` is there, and where, in words.

    `sample` is what networks would be fed, where only the files say so: of images and recordings of one's own, which are taken
    for what the first of them is.
    """

    name: str
    there: bool
    text: str
    sample: Sample | None = None


def look(data: Data) -> Look:
    """Look for the data of a recipe; of one's own the folders are listed and the first file is opened."""
    spec = DATASETS[data.name]
    if data.format == "generated":
        return Look(data.name, True, "generated samples, which say nothing of a method")
    if data.name == "digits":
        return Look(data.name, True, "comes with scikit-learn")
    try:
        search = locate(data.name, data.format, data.root)
        if search.place is None:
            return Look(data.name, False, f"not found; looked for {', '.join(search.looked)}{_fetched(data)}")
        place = search.place.path
        if gone := missing_parts(data.name, search.place, exactly=False):
            text = f"found at {place}, but not whole; missing: {', '.join(gone)}{_fetched(data)}"
            return Look(data.name, False, text)
        if data.name not in OWN:
            return Look(data.name, True, f"found at {place}")
        return _own_recordings(data, place) if spec.is_events else _own_images(data, place)
    except DataError as error:
        return Look(data.name, False, str(error))


def _fetched(data: Data) -> str:
    """What training does about files that are not there, if anything."""
    size = DATASETS[data.name].download_mb
    if not data.download or data.format == "folder" or size is None:
        return ""
    return f"; training fetches it first (data.download), {size:,} MB"


def _own_images(data: Data, place: Path) -> Look:
    from tnacli.data import image_files  # loads NumPy

    found = class_folders(place, image_files.IMAGE_SUFFIXES, own=True)
    first = found.splits["train"].files[0].path
    with image_files.opened(first) as image:
        channels = 1 if image.mode in image_files.GRAY_MODES else 3
        size = data.size or image_files.upright_size(first, image)
    seen = _own(data, place, found=found, what="images", sample=Sample(channels, size, len(found.classes)))
    return seen if channels == 3 else replace(seen, text=f"{seen.text}; 3 channels if any of them is in colour")


def _own_recordings(data: Data, place: Path) -> Look:
    from tnacli.data.recordings import RECORDING_SUFFIXES, frame_size  # loads NumPy

    found = class_folders(place, RECORDING_SUFFIXES, own=True)
    _, size = frame_size(data, found.splits["train"].files[0].path)
    sample = Sample(2, size, len(found.classes), frames=True)
    return _own(data, place, found=found, what="recordings", sample=sample)


def _own(data: Data, place: Path, *, found: ClassFolders, what: str, sample: Sample) -> Look:
    counts = ", ".join(f"{len(found.splits[split].files):,} {split}" for split in SPLITS)
    shape = "x".join(map(str, (sample.channels, *sample.size)))
    text = f"found at {place}: {len(found.classes)} classes, {counts} {what}; {shape} by the first of them"
    train, test = (len(found.splits[split].files) for split in ("train", "test"))
    return Look(data.name, True, text, replace(sample, train=train, test=test))
