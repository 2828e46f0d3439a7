"""Runs that lie in a ledger, looked up and read as run folders are, with nothing written to disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tnacli.errors import FileFormatError
from tnacli.recipe.identity import Run
from tnacli.runs.ledger import Entry, Line, lines
from tnacli.runs.metadata import BegunRun, RunMetadata
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder


@dataclass(frozen=True)
class RecordedRun(RunFolder):
    """A line of a ledger, read as the folder of its run. There is nothing at `path`, and only what reports read is here."""

    entry: Entry

    @property
    def status(self) -> Literal["new", "interrupted", "finished"]:
        return "finished"

    @property
    def result(self) -> RunResult | None:
        return self.entry.result

    @property
    def begun(self) -> BegunRun | None:
        return self.require_begun()

    def require_begun(self) -> BegunRun:
        result = self.entry.result
        return BegunRun(
            **{name: getattr(result, name) for name in RunMetadata.model_fields}, settings=self.entry.settings
        )

    def metrics(self) -> list[dict[str, Any]]:
        return self.entry.rows()


@dataclass(frozen=True)
class Ledger:
    """The runs of a ledger, or of all ledgers of a folder, at `path`."""

    path: Path
    lines: Sequence[Line]

    @classmethod
    def at(cls, path: Path) -> Ledger:
        """Look it through. Raises DataError and FileFormatError as `tnacli.runs.ledger.lines`.

        A line is read whole when its run is asked for, which raises FileFormatError if it is none.
        """
        return cls(path, lines(path))

    def of(self, run: Run) -> RunFolder:
        """Where `run` is recorded, in whichever recipe; if it is not, a folder that is not there.

        Raises FileFormatError if there are two: with `train.precision: auto`, say, in the arithmetic of two machines.
        """
        found = self._then.get(run.identity) or self._now.get(run.identity)
        if found is None:
            return RunFolder(self.path / run.recipe / run.folder_name)
        line, *others = found
        if others:
            other = others[0]
            if other.key_then[1:] == line.key_then[1:]:
                raise FileFormatError(
                    f"{other.place}: the run of {line.place}, recorded by another version of tna; delete one of the two"
                )
            raise FileFormatError(
                f"{other.place}: the run of {line.place} on other data or in another precision, and reports show one; "
                "keep each in a ledger of its own, outside this folder"
            )
        return self._folder(run, line.entry)

    @property
    def folders(self) -> list[RunFolder]:
        """All runs, by recipe and name."""
        entries = [line.entry for line in self.lines]
        return sorted((self._folder(entry.run, entry) for entry in entries), key=lambda folder: folder.path)

    def _folder(self, run: Run, entry: Entry) -> RecordedRun:
        # Under the identity of today, as a folder that was written today would be.
        result = entry.result.model_copy(update={"identity": run.identity})
        entry = entry.model_copy(update={"result": result})
        return RecordedRun(self.path / entry.result.recipe / run.folder_name, entry)

    @cached_property
    def _then(self) -> dict[str, list[Line]]:
        return _by((line.key_then[0], line) for line in self.lines)

    @cached_property
    def _now(self) -> dict[str, list[Line]]:
        """By the identities of today, which other defaults or names of fields may have changed; they take time to compute."""
        return _by((line.entry.run.identity, line) for line in self.lines)


def _by(named: Iterable[tuple[str, Line]]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for identity, line in named:
        found.setdefault(identity, []).append(line)
    return found


Place = Path | Ledger
"""Where results are: a folder of recipes' folders, or a ledger."""


def folder_of(place: Place, run: Run) -> RunFolder:
    """The folder, or the line of a ledger, that holds `run`, or would."""
    return place.of(run) if isinstance(place, Ledger) else RunFolder.of(place, run)


def results_below(place: Place, recipe: str) -> list[RunResult]:
    """The results of all finished runs of `recipe`, whatever their overlays and overrides."""
    if isinstance(place, Ledger):
        return [line.entry.result for line in place.lines if line.recipe == recipe]
    found = (RunFolder(path.parent).result for path in sorted(place.glob(f"{recipe}/*/result.json")))
    return [result for result in found if result is not None]
