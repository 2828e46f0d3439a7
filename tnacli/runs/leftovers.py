"""What lies below a folder of runs and that no run needs any more."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tnacli.errors import StorageError
from tnacli.runs.store import RunFolder

_FOLDER = re.compile(r".+-seed\d+-[0-9a-f]{10}")
_ASIDE = re.compile(_FOLDER.pattern + r"\.old\d+")
_EMPTY_HANDED = {"lock", "run.json", "metrics.jsonl", "new.pt"}


@dataclass(frozen=True)
class Leftover:
    """A file, or a folder with all that is in it, and why it may go."""

    path: Path
    why: str
    size_bytes: int


def run_folders(out: Path) -> Iterator[RunFolder]:
    """The folders of runs below `out`, with those that were set aside."""
    for path in sorted(out.glob("*/*")):
        if path.is_dir() and not path.is_symlink() and (_FOLDER.fullmatch(path.name) or _ASIDE.fullmatch(path.name)):
            yield RunFolder(path)


def leftovers(folder: RunFolder) -> list[Leftover]:
    """What may go of a folder: all of one set aside or without any checkpoint; of a finished one, all but its last checkpoint.

    Nothing of an unfinished run that has a checkpoint, whole or damaged. Raises RunBusyError if a process is at the run.
    """
    if not (folder.path / "lock").exists():  # never looked into, by a version of old: nobody is at it
        return _found(folder)
    with folder.locked():
        return _found(folder)


def remove(folder: RunFolder) -> list[Leftover]:
    """Delete what `leftovers` finds now, and return it. Raises RunBusyError like that, StorageError if it cannot be deleted."""
    with folder.locked():
        found = _found(folder)
        for one in found:
            try:
                shutil.rmtree(one.path) if one.path.is_dir() else one.path.unlink()
            except OSError as error:
                raise StorageError(f"{error.filename or one.path}: cannot be deleted: {error.strerror}") from None
        return found


def _found(folder: RunFolder) -> list[Leftover]:
    if _ASIDE.fullmatch(folder.path.name):
        return [_leftover(folder.path, "set aside by --fresh")]
    if folder.status == "finished":
        kept = sorted(folder.path.glob("epoch-*.pt"))
        files = [
            *((path, "for runs that begin from it; those not trained yet would train its epochs again") for path in kept),
            *((path, "an earlier checkpoint of a finished run") for path in (folder.previous,) if path.exists()),
            *((path, "a damaged checkpoint of a run that is finished") for path in sorted(folder.path.glob("*.damaged"))),
            *((path, "left by a process that was killed") for path in (folder.new, *folder.path.glob(".*.part"))),
        ]  # fmt: skip
        return [_leftover(path, why) for path, why in files if path.exists()] if folder.last.exists() else []
    with contextlib.suppress(OSError):
        there = {path.name for path in folder.path.iterdir()}
        if all(name in _EMPTY_HANDED or (name.startswith(".") and name.endswith(".part")) for name in there):
            return [_leftover(folder.path, "begun, and never came to a checkpoint")]
    return []


def _leftover(path: Path, why: str) -> Leftover:
    files = path.rglob("*") if path.is_dir() else [path]
    return Leftover(path, why, sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink()))
