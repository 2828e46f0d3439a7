"""What can be said of a data set before it is read: whether it is there, and of one's own images what networks would be fed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tnacli.data.folders import SPLITS, class_folders
from tnacli.data.locate import locate, missing_parts
from tnacli.errors import DataError
from tnacli.recipe.costs import Sample
from tnacli.recipe.datasets import DATASETS, OWN
from tnacli.recipe.schema.data import Data


@dataclass(frozen=True)
class Look:
    """Whether the data set `name` is there, and where, in words.

    `sample` is what networks would be fed and `train` the number of training samples, where only the files say so: of images of
    one's own, which are taken for what the first of them is.
    """

    name: str
    there: bool
    text: str
    sample: Sample | None = None
    train: int | None = None


def look(data: Data) -> Look:
    """Look for the data of a recipe; of one's own images the folders are listed and the first image is opened."""
    spec = DATASETS[data.name]
    if data.format == "generated":
        return Look(data.name, True, "generated samples, which say nothing of a method")
    if data.name == "digits":
        return Look(data.name, True, "comes with scikit-learn")
    try:
        search = locate(data.name, data.format, data.root)
        if search.place is None:
            return Look(data.name, False, f"not found; looked for {', '.join(search.looked)}")
        place = search.place.path
        if gone := missing_parts(data.name, search.place, exactly=False):
            return Look(data.name, False, f"found at {place}, but not whole; missing: {', '.join(gone)}")
        if data.name not in OWN or spec.is_events:
            return Look(data.name, True, f"found at {place}")
        return _own_images(data, place)
    except DataError as error:
        return Look(data.name, False, str(error))


def _own_images(data: Data, place: Path) -> Look:
    from tnacli.data import image_files  # loads NumPy

    found = class_folders(place, image_files.IMAGE_SUFFIXES, own=True)
    files = found.splits["train"].files
    with image_files.opened(files[0].path) as image:
        channels = 1 if image.mode in image_files.GRAY_MODES else 3
        height, width = data.size or image_files.upright_size(files[0].path, image)
    counts = ", ".join(f"{len(found.splits[split].files):,} {split}" for split in SPLITS)
    text = f"found at {place}: {len(found.classes)} classes, {counts} images; {channels}x{height}x{width} by the first of them"
    return Look(data.name, True, text, Sample(channels, (height, width), len(found.classes)), len(files))
