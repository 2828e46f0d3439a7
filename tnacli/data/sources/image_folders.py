"""Images in class folders as a source: known sets laid out that way, and images of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tnacli.data import image_files, images
from tnacli.data.cache import Bytes, cached, entry_name
from tnacli.data.folders import SPLITS, ClassFolders, Listing, class_folders
from tnacli.data.samples import Labels
from tnacli.data.source import OnProgress, Source
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS, OWN

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def image_folders(
    name: str, place: Path, size: tuple[int, int] | None, *, cache: Path | None, on_progress: OnProgress
) -> Source:
    """The images in `place`/{train,test}/<class>/ or as `class_folders` finds them: resized to `size`, decoded when
    asked for, and cached.

    Without `size` a known set must have images of its own size, and one's own images must all be of one size.
    One's own images have one channel if all of them are gray, else three. Raises DataError where the folders
    do not fit.
    """
    spec = DATASETS[name]
    found = class_folders(place, image_files.IMAGE_SUFFIXES, own=name in OWN)
    classes, listings = found.classes, found.splits
    if spec.classes is not None and len(classes) != spec.classes:
        raise DataError(
            f"{place} holds {len(classes)} classes, {spec.title} has {spec.classes}. Remove what does not "
            "belong to it, or use your own images with data.name: folder."
        )
    if name == "fashion_mnist":
        classes, listings = _official_order(found)
    notes = found.notes("images")
    if spec.channels is None:
        channels, its_size, mixed = _survey(name, listings, size, cache=cache, on_progress=on_progress)
        notes += mixed
    else:
        channels, its_size = spec.channels, spec.size or (1, 1)
    target = size or its_size

    def read(split: str, indices: Labels) -> Bytes:
        files = listings[split].take(indices)
        what = f"reading {name} {split}"

        def decode(remarks: list[str]) -> Bytes:
            return images.decode(
                files,
                channels=channels,
                size=target,
                resize=size is not None,
                what=what,
                on_progress=on_progress,
                remarks=remarks,
            )

        settings = f"{images.DECODING} {channels} {target} {size is not None}"
        return cached(cache, entry_name(f"{name}-{split}", files, settings), decode)

    labels = {split: np.array(listing.labels, np.int64) for split, listing in listings.items()}
    return Source("folder", classes, labels, read, notes)


def _survey(
    name: str,
    listings: dict[str, Listing],
    size: tuple[int, int] | None,
    *,
    cache: Path | None,
    on_progress: OnProgress,
) -> tuple[int, tuple[int, int], tuple[str, ...]]:
    """Channels and size of one's own images, looked up in every file, so that no subset decides them; and what to say of them."""
    files = tuple(file for split in SPLITS for file in listings[split].files)

    def look(remarks: list[str]) -> Bytes:
        return images.survey(files, f"looking through {name}", on_progress).view(np.uint8)

    seen = cached(cache, entry_name(f"{name}-survey", files, images.DECODING), look).view(np.int64)
    if size is None:
        differs = (seen[:, :2] != seen[0, :2]).any(axis=1).nonzero()[0]
        if len(differs):
            other = int(differs[0])
            raise DataError(
                f"the images are of different sizes: {files[0].path} is {seen[0, 0]}x{seen[0, 1]}, "
                f"{files[other].path} is {seen[other, 0]}x{seen[other, 1]}. Say what size to bring them to: "
                "data.size: [height, width] in a recipe, --size of `tna data prepare`."
            )
    gray, its_size = int(seen[:, 2].sum()), (int(seen[0, 0]), int(seen[0, 1]))
    if gray == len(files):
        return 1, its_size, ()
    mixed = f"{gray:,} of {len(files):,} images are gray, the others in colour: all are read as colour"
    return 3, its_size, (mixed,) if gray else ()


def _official_order(found: ClassFolders) -> tuple[tuple[str, ...], dict[str, Listing]]:
    """Fashion-MNIST's folders in the order of its official labels, which is not alphabetical.

    Folders may be called by label (0 to 9) or by class name, whatever the case and punctuation; anything else
    stays in sorted order, as in any other data set.
    """
    plain = {_plain(title): label for label, title in enumerate(FASHION_CLASSES)}
    by_name = [plain.get(_plain(folder), -1) for folder in found.classes]
    by_number = [int(folder) if folder.isdecimal() else -1 for folder in found.classes]
    official = next((order for order in (by_number, by_name) if sorted(order) == list(range(10))), None)
    if official is None:
        return found.classes, found.splits
    return FASHION_CLASSES, {
        split: Listing(listing.files, tuple(official[label] for label in listing.labels))
        for split, listing in found.splits.items()
    }


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
