"""Run folders: where the settings, metrics, checkpoints and result of each run lie, and who may write there.

    OUT/RECIPE/RUN-seedN-IDENTITY/
        run.json        what is computed, and by which versions
        metrics.jsonl   one line an epoch
        last.pt         the newest checkpoint;  previous.pt  the one before it;  new.pt  one being written
        epoch-N.pt      a checkpoint kept for runs that branch off after epoch N (tnacli/training/branches.py)
        last.damaged    a checkpoint that failed its checksum, kept for whoever wants to know why
        result.json     written last: the run is finished

A run is looked up by its identity in all recipes' folders, so that one shared by several recipes is trained once.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pydantic import ValidationError

from tnacli.data.learned_from import LearnedFrom
from tnacli.errors import DataError, FileFormatError, RunBusyError, StorageError
from tnacli.recipe.identity import Run
from tnacli.runs.metadata import BegunRun, Stored, first_complaint
from tnacli.runs.result import RunResult
from tnacli.storage import sync_folder, write_atomically

if os.name == "posix":
    import fcntl

_Stored = TypeVar("_Stored", bound=Stored)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, which need not exist yet."""

    path: Path

    @classmethod
    def of(cls, out: Path, run: Run) -> RunFolder:
        """The folder that holds `run` below `out`: an existing one of the same identity, or the one it would get."""
        own = out / run.recipe / run.folder_name
        if own.exists():
            return cls(own)
        same = sorted(out.glob(f"*/*-seed{run.seed}-{run.identity}"))
        # A finished one is worth more than one that has only begun.
        same.sort(key=lambda path: not (path / "result.json").exists())
        return cls(same[0] if same else own)

    @property
    def last(self) -> Path:
        return self.path / "last.pt"

    @property
    def previous(self) -> Path:
        return self.path / "previous.pt"

    @property
    def new(self) -> Path:
        """Where the next checkpoint is written before it becomes the newest."""
        return self.path / "new.pt"

    def kept(self, epoch: int) -> Path:
        """Where the checkpoint of the end of `epoch` is kept for runs that branch off there."""
        return self.path / f"epoch-{epoch}.pt"

    @property
    def status(self) -> Literal["new", "interrupted", "finished"]:
        """ "finished", "interrupted" (a checkpoint to go on from), or "new"."""
        if (self.path / "result.json").exists():
            return "finished"
        return "interrupted" if self.last.exists() or self.previous.exists() else "new"

    def set_aside(self) -> Path | None:
        """Move what is there out of the way, to a name that no lookup finds; where it went, or None."""
        if not self.path.exists():
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run while inside. Raises RunBusyError if another process does, StorageError if it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot be written: {error.strerror}; choose another place with --out"
            ) from None
        with lock:
            if os.name == "posix":
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise RunBusyError(
                        f"{self.path}: another process is training this run; wait for it to end, then run the same "
                        f"command: finished runs are taken from disk"
                    ) from None
            if not self._is_ours(lock):
                raise RunBusyError(
                    f"{self.path}: another process has just moved this run aside to train it afresh; wait for it to end, "
                    f"then run the same command: finished runs are taken from disk"
                )
            yield

    def _is_ours(self, lock: IO[str]) -> bool:
        """Whether `lock` still is the lock of this folder: it may have been moved between opening and locking."""
        try:
            return os.path.samestat(os.fstat(lock.fileno()), os.stat(self.path / "lock"))
        except OSError:
            return False

    def remove_leftovers(self) -> None:
        """Delete what a killed process was writing: new.pt and files of `write_atomically`. Only while `locked`."""
        for path in (self.new, *self.path.glob(".*.part")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def set_damaged_aside(self, path: Path) -> Path:
        """Rename a damaged checkpoint, so that it is never taken for a good one again; its new path."""
        aside = path.with_suffix(".damaged")
        try:
            os.replace(path, aside)
        except OSError as error:
            raise StorageError(f"{path}: a damaged checkpoint cannot be renamed: {error.strerror}") from None
        return aside

    def begin(self, begun: BegunRun, epochs: int) -> None:
        """Make ready for training to start, or to go on after `epochs` whole epochs."""
        self.keep_metrics(epochs)
        self._write("run.json", begun)

    def finish(self, result: RunResult) -> None:
        """Store the result: from here on the run is finished."""
        self._write("result.json", result)
        with contextlib.suppress(OSError):
            self.previous.unlink(missing_ok=True)

    def _write(self, name: str, value: Stored) -> None:
        write_atomically(self.path / name, (json.dumps(value.model_dump(mode="json"), indent=2) + "\n").encode())

    def _read(self, name: str, model: type[_Stored]) -> _Stored | None:
        """What the file `name` says; None if it is not there, or no whole JSON object. Raises ValidationError."""
        try:
            return model.model_validate_json((self.path / name).read_bytes())
        except OSError:
            return None
        except ValidationError as error:
            if error.errors()[0]["type"] in ("json_invalid", "model_type"):
                return None
            raise

    @property
    def result(self) -> RunResult | None:
        """What the run came to; None if it is not finished. Raises FileFormatError for what no training has stored."""
        try:
            return self._read("result.json", RunResult)
        except ValidationError as error:
            raise FileFormatError(
                f"{self.path / 'result.json'}: not the result of a run: {first_complaint(error)}. Delete it, and the same "
                f"`tna train` writes it anew from the run's checkpoint."
            ) from None

    @property
    def begun(self) -> BegunRun | None:
        """What its `run.json` says; None if it has none, or one that cannot be used."""
        with contextlib.suppress(ValidationError):
            return self._read("run.json", BegunRun)
        return None

    def require_begun(self) -> BegunRun:
        """What its `run.json` says. Raises DataError if it has none, or one that cannot be used."""
        try:
            begun, why = self._read("run.json", BegunRun), "not whole"
        except ValidationError as error:
            begun, why = None, first_complaint(error)
        if begun is None:
            raise DataError(
                f"{self.path / 'run.json'}: is damaged or of another version of tnacli ({why}); name the recipe instead, or "
                f"train again with --fresh"
            )
        return begun

    @property
    def learned_from(self) -> LearnedFrom | None:
        """The data of a finished or interrupted run; None of a new one, and where that is not known."""
        status = self.status
        found = self.result if status == "finished" else self.begun if status == "interrupted" else None
        return None if found is None else found.data

    def found_same(self, files: dict[str, str] | None) -> None:
        """Store the `files` whose samples were found to be those that this finished run learned from, so as not to look again."""
        result = self.result
        if result is not None and result.data.files != files:
            data = result.data.model_copy(update={"files": files})
            # A place that is only read, or another process at it, costs no more than another look.
            with contextlib.suppress(RunBusyError, StorageError), self.locked():
                self._write("result.json", result.model_copy(update={"data": data}))

    def append_metrics(self, row: dict[str, Any]) -> None:
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise StorageError(f"{self.path / 'metrics.jsonl'}: cannot be written: {error.strerror}") from None

    def metrics(self) -> list[dict[str, Any]]:
        """The epochs written so far; a last line cut short by a crash is left out."""
        rows = []
        with contextlib.suppress(OSError):
            for line in (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict) and type(row.get("epoch")) is int:
                        rows.append(row)
        return rows

    def keep_metrics(self, epochs: int) -> None:
        """Drop what was written past the first `epochs` epochs: they are about to be trained again."""
        kept = [row for row in self.metrics() if row["epoch"] <= epochs]
        write_atomically(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept).encode())

    def take_metrics(self, other: RunFolder) -> None:
        """Begin with the metrics of `other`, of which this run is a branch."""
        write_atomically(self.path / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in other.metrics()).encode())

    def keep(self, epoch: int) -> None:
        """Keep the newest checkpoint, of the end of `epoch`. Best effort: without it those epochs are trained again."""
        with contextlib.suppress(OSError, StorageError):
            self.kept(epoch).unlink(missing_ok=True)
            try:
                # The same file under a second name: a newer checkpoint replaces last.pt, and never writes into it.
                os.link(self.last, self.kept(epoch))
            except OSError:
                write_atomically(self.kept(epoch), self.last.read_bytes())

    def promote(self, new: Path) -> None:
        """Make `new`, whole and on disk, the newest checkpoint; the newest so far stays as previous.pt.

        Between the two renames the newest is previous.pt, from which the run goes on if it is killed just then.
        """
        try:
            if self.last.exists():
                os.replace(self.last, self.previous)
            os.replace(new, self.last)
        except OSError as error:
            raise StorageError(
                f"{self.last}: the new checkpoint cannot take its place: {error.strerror}; the one before it is kept"
            ) from None
        sync_folder(self.path)
