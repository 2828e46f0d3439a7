"""The data of runs: loaded once for all that have the same, and compared with what finished ones learned from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tnacli.data.files import files_there
from tnacli.data.learned_from import UNKNOWN, LearnedFrom
from tnacli.data.load import load
from tnacli.data.samples import Dataset
from tnacli.recipe.costs import Sample, sample_of
from tnacli.recipe.identity import Run
from tnacli.training.distributed import Ranks

if os.name == "posix":
    import fcntl


@dataclass(frozen=True)
class Compared:
    """The data of a run as it is now: whether it is `there`, how its samples are others than those learned from, its files.

    `changed` is empty where the samples are the same, and where none are there to be compared.
    """

    there: bool
    changed: str = ""
    files: dict[str, str] | None = None


class RunData:
    """Data sets as runs ask for them, one in memory at a time: they can be large. Every process of a run has one.

    Processes that train other runs meanwhile may share the file `lock`: what one downloads and decodes, the next ones find.
    """

    def __init__(self, ranks: Ranks, on_data: Callable[[str, int, int], None] | None, lock: Path | None = None) -> None:
        self._ranks, self._on_data, self._lock = ranks, on_data, lock
        self._loaded: dict[str, Dataset] = {}
        self._files: dict[str, dict[str, str] | None] = {}

    def load(self, run: Run) -> Dataset:
        """The samples of `run`, from memory if the run before had the same. Raises DataError if they cannot be had."""
        key, data = _key(run), run.settings.data
        if key not in self._loaded:
            self._loaded.clear()
            # Before a file is read: one that changes meanwhile is another the next time.
            files = self._ranks.broadcast(lambda: files_there(data))
            with self._locked():
                self._loaded[key] = self._ranks.in_turn(
                    lambda: load(data, run.settings.model.timesteps, on_progress=self._on_data)
                )
            # A download has brought them only now.
            self._files[key] = self._ranks.broadcast(lambda: files_there(data)) if files is None else files
        return self._loaded[key]

    def sample(self, run: Run) -> Sample | None:
        """What a sample of `run` is, where that is known: of the data in memory, else of what its settings name."""
        loaded = self._loaded.get(_key(run))
        if loaded is None or run.settings.model.build is not None:
            return sample_of(run.settings)
        held_out = 0 if loaded.validation is None else len(loaded.validation)
        return Sample(
            loaded.channels, loaded.size, len(loaded.classes), loaded.kind == "events",
            train=len(loaded.train) + held_out, test=len(loaded.test),
        )  # fmt: skip

    def learned_from(self, run: Run) -> LearnedFrom:
        """What is stored of the data with the results of `run`."""
        dataset = self.load(run)
        splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
        return LearnedFrom(
            name=dataset.name,
            source=dataset.source,
            fingerprint=dataset.fingerprint,
            samples={name: len(samples) for name, samples in splits.items() if samples is not None},
            digests=dict(dataset.digests),
            files=self._files[_key(run)],
        )

    def compare(self, run: Run, then: LearnedFrom) -> Compared:
        """What `run` would learn from now beside what was learned from `then`.

        Files of the same names, sizes and times are taken to hold the same; else all samples are read. Raises DataError if
        they cannot be.
        """
        key, now = _key(run), self._now(run)
        if now is None:
            return Compared(there=False)
        if then.fingerprint == UNKNOWN:
            return Compared(True, files=now)
        how = then.changed(now)
        if how == "" and key not in self._loaded:
            return Compared(True, files=now)
        if self.load(run).fingerprint == then.fingerprint:
            return Compared(True, files=self._files[key])
        return Compared(True, how or "other samples", self._files[key])

    def there(self, run: Run) -> bool:
        """Whether the data of `run` is there, as far as a look at folders tells."""
        return self._now(run) is not None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self._lock is None or os.name != "posix":
            yield
            return
        with self._lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _now(self, run: Run) -> dict[str, str] | None:
        key = _key(run)
        if key not in self._files:
            self._files[key] = self._ranks.broadcast(lambda: files_there(run.settings.data))
        return self._files[key]


def _key(run: Run) -> str:
    return repr((run.settings.data, run.settings.model.timesteps))
