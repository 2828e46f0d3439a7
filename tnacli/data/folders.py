"""Class folders, {train,test}/<class>/<file> and other layouts: the files, and the class of each. Importing it loads no torch."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tnacli.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tnacli.data.cache import SourceFile

SPLITS = ("train", "test")
VALIDATION = ("val", "valid", "validation")
"""What a folder of samples to measure on is called, too; taken for the test set of one's own data where there is no test."""

ONE_TEST_IN = 5
"""Of one's own data without a test set, one file in so many of each class is taken for it."""


@dataclass(frozen=True)
class Listing:
    """The files of one split, class after class and by name, and the class of each."""

    files: tuple[SourceFile, ...]
    labels: tuple[int, ...]

    def take(self, indices: NDArray[np.int64]) -> tuple[SourceFile, ...]:
        return tuple(self.files[index] for index in indices.tolist())


@dataclass(frozen=True)
class ClassFolders:
    """Both splits of a set of class folders, and the files in them that are no samples."""

    classes: tuple[str, ...]
    splits: dict[str, Listing]
    passed_over: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

    def notes(self, what: str) -> tuple[str, ...]:
        """What to say of the splits that were made, and of files that are not `what` ("images", "recordings")."""
        return (*self.made, *passed_over_note(self.passed_over, what))


def passed_over_note(paths: Sequence[str], what: str) -> tuple[str, ...]:
    """What to say of files that are not `what`, if there are any."""
    if not paths:
        return ()
    others = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    return (f"passed over, not {what}: {readable(paths[0])}{others}",)


def split_folders(place: Path, *, own: bool = False) -> dict[str, Path]:
    """The folders of `place` called train and test, in any case; both or nothing.

    Of one's `own` data a folder of `VALIDATION` stands in for test; without either there is "train" alone, which is `place`
    itself where that holds at least two folders of files: one a class.
    """
    if not place.is_dir():
        return {}
    found: dict[str, Path] = {}
    folders = [Path(entry.path) for entry in entries(place) if entry.is_dir()]
    for folder in folders:
        split = folder.name.lower()
        if split in (*SPLITS, *VALIDATION):
            if split in found:
                raise DataError(f"{place} holds both {found[split].name} and {folder.name}; keep one {split} folder.")
            found[split] = folder
    stand_in = next((found[name] for name in VALIDATION if name in found), None)
    known = {split: folder for split, folder in found.items() if split in SPLITS}
    if len(known) == len(SPLITS) or not own:
        return known if len(known) == len(SPLITS) else {}
    if "train" in known:
        return known if stand_in is None else {**known, "test": stand_in}
    classes = [folder for folder in folders if any(entry.is_file() for entry in entries(folder))]
    return {"train": place} if not found and len(classes) > 1 else {}


def class_folders(place: Path, suffixes: frozenset[str], *, own: bool = False) -> ClassFolders:
    """List `place`/{train,test}/<class>/<file>; sorted, the class folders have the labels 0, 1, 2, ...

    Classes are the names of their folders in Unicode's form NFC, so that one that macOS spells in another form is
    the same class in either split. Files whose suffix is not among `suffixes` and folders inside class folders are
    passed over; what systems leave behind (SYSTEM_FILES, and hidden names) is not even mentioned. One's `own` data may
    be laid out in the other ways of `split_folders`, too. Raises DataError if both splits do not have the same classes,
    a class has no files, or a name is not UTF-8.
    """
    folders = split_folders(place, own=own)
    if not folders:
        raise DataError(f"{place} does not hold the two folders train and test.")
    found = {split: _named_folders(folder) for split, folder in folders.items()}
    for split, other in (("train", "test"), ("test", "train")) if "test" in found else ():
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
    made: tuple[str, ...] = ()
    if "test" not in splits:
        splits = _held_out(splits["train"], [found["train"][name] for name in classes])
        made = (
            f"{folders['train']} has no test folder beside it: one file in {ONE_TEST_IN} of each class is its test set, by "
            f"name: {len(splits['test'].files):,} of {sum(len(part.files) for part in splits.values()):,} files",
        )
    else:
        if folders["test"].name.lower() != "test":
            made = (f"{folders['test']} is the test set, as there is no folder called test",)
        if own:
            made += _unused(place, folders)
    return ClassFolders(classes, splits, tuple(passed_over), made)


def _unused(place: Path, folders: dict[str, Path]) -> tuple[str, ...]:
    """What to say of folders of validation samples that are none of `folders`."""
    others = [Path(entry.path) for entry in entries(place) if entry.is_dir() and entry.name.lower() in VALIDATION]
    return tuple(
        f"{other} is not used: data.validation_samples holds samples of {folders['train'].name} out"
        for other in others
        if other not in folders.values()
    )


def _held_out(files: Listing, folders: list[Path]) -> dict[str, Listing]:
    """`files` as training and test files; a file's name decides, so one that is added moves few others, if any."""
    chosen: set[int] = set()
    of_class: list[list[int]] = [[] for _ in folders]
    for index, label in enumerate(files.labels):
        of_class[label].append(index)
    for mine, folder in zip(of_class, folders, strict=True):
        if len(mine) < 2:
            raise DataError(
                f"{folder} has a single file, and one of each class is needed to train on and one to test on. Add some."
            )
        by_name = sorted(
            mine, key=lambda index: hashlib.sha256(os.fsencode(os.path.basename(files.files[index].path))).digest()
        )
        chosen |= set(by_name[: max(1, round(len(mine) / ONE_TEST_IN))])
    parts = {
        "train": [index for index in range(len(files.files)) if index not in chosen],
        "test": sorted(chosen),
    }
    return {
        split: Listing(tuple(files.files[index] for index in indices), tuple(files.labels[index] for index in indices))
        for split, indices in parts.items()
    }


def list_classes(folders: list[Path], suffixes: frozenset[str], passed_over: list[str]) -> Listing:
    """The files with `suffixes` in `folders`, one folder a class; others are added to `passed_over`.

    Raises DataError if a folder has none.
    """
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
    return Listing(tuple(files), tuple(labels))


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
