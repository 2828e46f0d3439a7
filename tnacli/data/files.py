"""Which files a data set consists of, at a glance: their names, sizes and times of change. None is opened, and no torch needed.

Where these are what they were, so are the samples; where they are not, only the samples tell (`Dataset.fingerprint`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tnacli.data.folders import entries, split_folders
from tnacli.data.locate import DVS_CLASSES, files_folder, locate
from tnacli.errors import DataError
from tnacli.recipe.datasets import OWN
from tnacli.recipe.schema.data import Data

GLANCE = r"^[0-9]{1,12}:[0-9a-f]{16}$"
"""What is kept of a folder: how many files, and a digest."""


def files_there(data: Data) -> dict[str, str] | None:
    """By folder, seen from that of the data set, its number of files and a digest of their names, sizes and times.

    Empty for samples that come from no files; None where the data set is not there, or cannot be looked into.
    """
    if data.format == "generated" or data.name == "digits":
        return {}
    try:
        place = locate(data.name, data.format, data.root).place
        if place is None:
            return None
        if place.layout == "torchvision":
            folder = files_folder(data.name, place)
            folders = [folder]
        elif place.layout == "classes":
            folder = place.path
            folders = [folder / label for label in DVS_CLASSES]
        else:
            folder = place.path
            folders = [
                Path(entry.path)
                for split in split_folders(folder, own=data.name in OWN).values()
                for entry in entries(split)
                if entry.is_dir()
            ]
        return {
            each.relative_to(folder.parent if each == folder else folder).as_posix(): _glance(each) for each in folders
        }
    except (DataError, OSError):
        return None


def _glance(folder: Path) -> str:
    digest, count = hashlib.sha256(), 0
    for entry in entries(folder):
        if entry.is_file():
            status = entry.stat()
            digest.update(f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
            count += 1
    return f"{count}:{digest.hexdigest()[:16]}"


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which folders are not what they were: `train/cat (100 files then, 103 now), test/dog (gone)`; empty if none is."""
    kinds: dict[str, list[str]] = {}
    for folder in sorted({*then, *now}):
        before, after = then.get(folder), now.get(folder)
        if before == after:
            continue
        if before is None or after is None:
            what = "new" if before is None else "gone"
        else:
            old, new = (int(text.partition(":")[0]) for text in (before, after))
            what = f"{old:,} files then, {new:,} now" if old != new else "files of other names, sizes or times"
        kinds.setdefault(what, []).append(folder)
    said = []
    for what, folders in kinds.items():
        more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
        said.append(f"{', '.join(folders[:3])}{more} ({what})")
    others = sum(len(folders) for folders in list(kinds.values())[3:])
    return ", ".join(said[:3]) + (f", and {others} more" if others else "")
