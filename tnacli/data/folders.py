"""Class folders, {train,test}/<class>/<file>: which files there are, and the class of each. Importing it loads no torch."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tnacli.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from tnacli.data.cache import SourceFile

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Listing:
    """The files of one split, class after class and by name, and the class of each (int64, [n])."""

    files: tuple[SourceFile, ...]
    labels: Tensor

    def take(self, indices: Tensor) -> tuple[SourceFile, ...]:
        return tuple(self.files[index] for index in indices.tolist())


@dataclass(frozen=True)
class ClassFolders:
    """Both splits of a set of class folders, and the files in them that are no samples."""

    classes: tuple[str, ...]
    splits: dict[str, Listing]
    passed_over: tuple[str, ...] = ()

    def notes(self, what: str) -> tuple[str, ...]:
        """What to tell about files that are not `what` ("images", "recordings")."""
        if not self.passed_over:
            return ()
        others = f" and {len(self.passed_over) - 1} more" if len(self.passed_over) > 1 else ""
        return (f"passed over, not {what}: {readable(self.passed_over[0])}{others}",)


def split_folders(place: Path) -> dict[str, Path]:
    """The folders of `place` called train and test, in any case; both or nothing."""
    if not place.is_dir():
        return {}
    found: dict[str, Path] = {}
    for entry in entries(place):
        split = entry.name.lower()
        if split in SPLITS and entry.is_dir():
            if split in found:
                raise DataError(f"{place} holds both {found[split].name} and {entry.name}; keep one {split} folder.")
            found[split] = Path(entry.path)
    return found if len(found) == len(SPLITS) else {}


def class_folders(place: Path, suffixes: frozenset[str]) -> ClassFolders:
    """List `place`/{train,test}/<class>/<file>; sorted, the class folders have the labels 0, 1, 2, ...

    Classes are the names of their folders in Unicode's form NFC, so that one that macOS spells in another form is
    the same class in either split. Files whose suffix is not among `suffixes` and folders inside class folders are
    passed over; what systems leave behind (SYSTEM_FILES, and hidden names) is not even mentioned. Raises DataError
    if both splits do not have the same classes, a class has no files, or a name is not UTF-8.
    """
    folders = split_folders(place)
    if not folders:
        raise DataError(f"{place} does not hold the two folders train and test.")
    found = {split: _named_folders(folder) for split, folder in folders.items()}
    for split, other in (("train", "test"), ("test", "train")):
        if missing := [name for name in found[other] if name not in found[split]]:
            raise DataError(
                f"{folders[split]} has no folder for {_some(missing)}, which {folders[other]} has. Both "
                "splits need the same classes: add the missing folders, or remove the others."
            )
    classes = tuple(sorted(found["train"]))
    if len(classes) < 2:
        raise DataError(f"{folders['train']} holds {len(classes)} class folders; there must be at least 2.")
    passed_over: list[str] = []
    splits = {
        split: list_classes([named[name] for name in classes], suffixes, passed_over) for split, named in found.items()
    }
    return ClassFolders(classes, splits, tuple(passed_over))


def list_classes(folders: list[Path], suffixes: frozenset[str], passed_over: list[str]) -> Listing:
    """The files with `suffixes` in `folders`, one folder a class; others are added to `passed_over`.

    Raises DataError if a folder has none.
    """
    import torch

    from tnacli.data.cache import SourceFile

    files: list[SourceFile] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        before = len(files)
        for entry in entries(folder):
            if not entry.is_file() or os.path.splitext(entry.name)[1].lower() not in suffixes:
                passed_over.append(entry.path)
                continue
            status = entry.stat()
            files.append(SourceFile(entry.path, status.st_size, status.st_mtime_ns))
        if len(files) == before:
            raise DataError(
                f"{folder} has no files to learn from; files read are {', '.join(sorted(suffixes))}. Add "
                "some, or remove the class from both train and test."
            )
        labels += [label] * (len(files) - before)
    return Listing(tuple(files), torch.tensor(labels, dtype=torch.int64))


def readable(path: str) -> str:
    """`path` for messages: bytes that are not UTF-8 as \\x and two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _named_folders(folder: Path) -> dict[str, Path]:
    """The folders in `folder` by their names in form NFC."""
    found: dict[str, Path] = {}
    for entry in entries(folder):
        if not entry.is_dir():
            continue
        if readable(entry.name) != entry.name:
            raise DataError(
                f"{folder} holds a folder whose name is not UTF-8: {readable(entry.name)}. Classes are called as their "
                "folders: rename it."
            )
        name = unicodedata.normalize("NFC", entry.name)
        if name in found:
            raise DataError(
                f"{folder} holds two folders called {name}, which differ only in how Unicode spells the name (NFC and "
                "NFD). Put their files into one."
            )
        found[name] = Path(entry.path)
    return found


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What `folder` holds, by name, without what systems leave behind in every folder."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not _system_files(entry.name)]
    except OSError as error:
        raise DataError(f"{folder} cannot be looked into: {error.strerror or error}.") from error
    return sorted(found, key=lambda entry: entry.name)


SYSTEM_FILES = frozenset(
    {"__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
    | {"@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "lost+found", "__pycache__"}
)
"""What macOS, Windows, Linux, Python and the storage boxes of Synology and QNAP leave in folders, in lower case."""


def _system_files(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more classes"
