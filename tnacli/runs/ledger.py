"""A ledger: finished runs as lines of JSON that can be kept in a repository, apart from folders and checkpoints.

Each line has all that reports read: the settings, the result and the curves by epoch (`tnacli.runs.recorded`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tnacli.errors import DataError, FileFormatError, StorageError
from tnacli.recipe.datasets import OWN
from tnacli.recipe.identity import Run, data_set_title
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.metadata import Precision, Stored, first_complaint
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder
from tnacli.storage import write_atomically

DIGITS = 5
"""Significant digits of the values of a curve."""

_LEFT_OUT = ("firing_rate", "shares", "samples_per_second")
"""What an epoch's metrics say of every layer, and how fast it was; the result has the rates of the last epoch."""


class Entry(Stored):
    """A line of a ledger. `curves` has a list for each value of the metrics (`train_parts.matching`), an item an epoch."""

    settings: Settings
    result: RunResult
    curves: dict[str, tuple[float | str | None, ...]]

    @cached_property
    def run(self) -> Run:
        """The run, whose identity is that of today, whatever it was when it was trained."""
        r = self.result
        return Run(r.recipe, r.run, r.seed, self.settings, r.altered, r.initial)

    @property
    def key(self) -> tuple[str, str, Precision]:
        """What two lines for the same result share: what was computed, from which data, in which precision."""
        return self.run.identity, self.result.data.fingerprint, self.result.precision

    def rows(self) -> list[dict[str, Any]]:
        """The curves as the metrics of a run folder, a row an epoch. Of an epoch that was not evaluated, no value."""
        return [{**row, "firing_rate": {}, "shares": {}} for row in _rows(self.curves)]


def entry_of(folder: RunFolder) -> Entry:
    """The line of a finished run. Raises DataError for another, and for a folder that cannot be read."""
    begun, result = folder.require_begun(), folder.result
    if result is None:
        raise DataError(f"{folder.path}: this run is not finished; the same `tna train` goes on with it")
    data = result.data.model_copy(update={"files": None})
    return Entry(
        settings=_anywhere(begun.settings),
        result=result.model_copy(update={"data": data}),
        curves=as_columns([{k: v for k, v in row.items() if k not in _LEFT_OUT} for row in folder.metrics()]),
    )


def _anywhere(settings: Settings) -> Settings:
    """`settings` without the folders of this machine: what lies in them goes by its own name."""
    data, model, train = settings.data, settings.model, settings.train
    root = data_set_title(data) if data.name in OWN else None
    initial = None if train.initial is None else Path(train.initial).name
    return settings.model_copy(
        update={
            "data": data.model_copy(update={"root": root}),
            "model": model.model_copy(update={"build": model.function}),
            "train": train.model_copy(update={"initial": initial}),
        }
    )


class _NamedData(BaseModel):
    fingerprint: str


class _NamedResult(BaseModel):
    recipe: str
    identity: str
    precision: Precision
    data: _NamedData


class _Named(BaseModel):
    """What a line is looked up by, which takes a fifth of the time of reading it whole."""

    result: _NamedResult


@dataclass(frozen=True)
class Line:
    """A line of a ledger that is read when it is asked for; `place` is its file and number."""

    text: str
    place: str
    recipe: str
    key_then: tuple[str, str, Precision]
    """The line's `Entry.key` with the identity of when it was recorded, which need not be computed."""

    @classmethod
    def of(cls, text: str, place: str) -> Line:
        """Raises FileFormatError for what is no line of a ledger, as far as it is looked at."""
        try:
            result = _Named.model_validate_json(text).result
        except ValidationError:
            _entry(text, place)
            raise
        return cls(text, place, result.recipe, (result.identity, result.data.fingerprint, result.precision))

    @cached_property
    def entry(self) -> Entry:
        """All of it. Raises FileFormatError for a line that is no finished run."""
        return _entry(self.text, self.place)

    @property
    def measured(self) -> tuple[dict[str, float], ...]:
        """What the run came to: the same when it is trained again by the same code on the same processor. Raises as `entry`."""
        result = self.entry.result
        return result.accuracy, result.loss, result.validation


def _entry(text: str, place: str) -> Entry:
    try:
        return Entry.model_validate_json(text)
    except ValidationError as error:
        raise FileFormatError(f"{place}: no line of a ledger: {first_complaint(error)}") from None


def lines(path: Path) -> tuple[Line, ...]:
    """The lines of a ledger, or of all ledgers (*.jsonl) of a folder.

    A run that two ledgers of a folder have with the same results, as recipes that share it do, is that of the first ledger.
    Raises DataError if there is none, FileFormatError for what is plainly no line of a ledger, for a run that a ledger has
    twice, and for one that two ledgers have with different results.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no ledger (*.jsonl) in this folder; `tna runs record` writes one")
    found: dict[tuple[str, ...], Line] = {}
    for file in files:
        here: dict[tuple[str, ...], Line] = {}
        try:
            texts = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: cannot be read: {error}") from None
        for number, text in enumerate(texts, 1):
            line = Line.of(text, f"{file}:{number}")
            if (before := here.setdefault(line.key_then, line)) is not line:
                raise FileFormatError(f"{line.place}: the same run as {before.place}; delete one of the two")
            first = found.setdefault(line.key_then, line)
            if first is not line and line.measured != first.measured:
                raise FileFormatError(
                    f"{line.place}: the run of {first.place} with other results; keep the one that you want to report"
                )
    return tuple(found.values())


def read(path: Path) -> tuple[Entry, ...]:
    """All lines of a ledger, or of all ledgers of a folder, whole.

    Raises as `lines`, and FileFormatError for a line that is no finished run.
    """
    return tuple(line.entry for line in lines(path))


def record(folders: Iterable[RunFolder], ledger: Path) -> tuple[int, int]:
    """Add finished runs to a ledger, in order of recipe, run and seed; how many are new, and how many were there.

    A run that the ledger has keeps its line. Nothing is written if a folder cannot be recorded. Raises FileFormatError if the
    ledger has a run twice.
    """
    there = read(ledger) if ledger.exists() else ()
    entries = {entry.key: entry for entry in there}
    if len(entries) < len(there):
        raise FileFormatError(f"{ledger}: has a run twice, under the identities of two versions; delete one of the two")
    before, given = len(entries), 0
    for folder in folders:
        entry = entry_of(folder)
        entries.setdefault(entry.key, entry)
        given += 1
    new = len(entries) - before
    if new:
        ordered = sorted(
            entries.values(), key=lambda one: (one.result.recipe, one.result.run, one.result.seed, one.key)
        )
        text = "".join(json.dumps(one.model_dump(mode="json"), separators=(",", ":")) + "\n" for one in ordered)
        try:
            ledger.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{ledger.parent}: cannot be made: {error.strerror}") from None
        write_atomically(ledger, text.encode())
    return new, given - new


def as_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Rows as columns; values of an inner mapping get its key and a dot before theirs."""
    flat = [dict(_flat(row)) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    return {name: tuple(_rounded(row.get(name)) for row in flat) for name in names}


def _flat(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            yield name, value


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The rows of `as_columns`. An epoch that was not evaluated has inner mappings without values."""
    count = len(next(iter(columns.values()), ()))
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, values in columns.items():
        outer, _, inner = name.partition(".")
        for row, value in zip(rows, values, strict=True):
            if not inner:
                row[outer] = int(value) if outer == "epoch" else value
            elif value is not None:
                row.setdefault(outer, {})[inner] = value
            else:
                row.setdefault(outer, {})
    return rows
