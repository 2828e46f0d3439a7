"""Runs as TensorBoard logs, fed from the events of training. Needs the extra `tensorboard`.

A log says what the run's metrics.jsonl says, under the same names (`train_parts/matching`, `firing_rate/conv1`,
`shares/conv2/zero`), one point an epoch. When a run goes on, its log is written anew from there, so that no epoch is in it
twice and none is missing, whichever command first asked for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tnacli.errors import StorageError, UsageError
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.recipe import as_json
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder
from tnacli.training.events import EpochDone, Event, Finished, Started

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

RESULT = "test_accuracy/base"
"""The tag of a finished run's accuracy in %, which TensorBoard sets beside the hyperparameters."""


class TensorBoardLog:
    """Logs of runs below `folder`, one folder a run, as `Experiment` names them; `runs` is where the runs themselves lie.

    A context, within which `emit` takes every event of every run. Raises UsageError if TensorBoard is not installed,
    StorageError if a log cannot be written.
    """

    def __init__(self, folder: Path, runs: Path) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise UsageError(
                "--tensorboard needs the package tensorboard; install it with `pip install 'tnacli[tensorboard]'`"
            ) from None
        self.folder, self._runs = folder, runs
        self._writers: dict[str, SummaryWriter] = {}  # by identity of the run
        self._epochs: dict[str, int] = {}  # the last one in the log

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for identity in list(self._writers):
            self._close(identity)

    def emit(self, run: Run, event: Event) -> None:
        """Add one event of one run; those that metrics.jsonl has no line for are left out."""
        with self._explained():
            match event:
                case Started():
                    self._begin(run, RunFolder.of(self._runs, run))
                case EpochDone():
                    # Of a run in another process, the epoch may have been in its metrics already when its log was begun.
                    if event.epoch > self._epochs[run.identity]:
                        self._add(run, dataclasses.asdict(event), time.time())
                case Finished():
                    self._end(run, event.accuracy, event.selected_epoch)

    def copy(self, run: Run, folder: RunFolder, result: RunResult) -> None:
        """The log of a run that was finished before, with that result."""
        with self._explained():
            self._begin(run, folder)
            self._end(run, result.accuracy, result.selected_epoch)

    def _begin(self, run: Run, folder: RunFolder) -> None:
        """A new log with the hyperparameters and every epoch so far, in place of the one that was there."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self._close(run.identity)
        place = self.folder / run.recipe / run.folder_name
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        # Told to drop what came before, a TensorBoard that is looking at the folder forgets the old file, too.
        writer = self._writers[run.identity] = SummaryWriter(str(place), purge_step=0)
        self._epochs[run.identity] = 0
        begun, settings, _ = hparams(_hyperparameters(run), {RESULT: 0.0})
        for summary in (begun, settings):
            writer._get_file_writer().add_summary(summary)
        rows = folder.metrics()
        # The clock of the log is that of training: pauses between two commands are left out.
        clock = time.time() - sum(row["seconds"] for row in rows)
        for row in rows:
            clock += row["seconds"]
            self._add(run, row, clock)

    def _add(self, run: Run, row: Mapping[str, Any], clock: float) -> None:
        writer, self._epochs[run.identity] = self._writers[run.identity], row["epoch"]
        for tag, value in _numbers(row):
            if tag != "epoch":
                writer.add_scalar(tag, value, row["epoch"], walltime=clock)
        writer.flush()

    def _end(self, run: Run, accuracy: Mapping[str, float], epoch: int) -> None:
        for network, value in accuracy.items():
            self._writers[run.identity].add_scalar(f"{RESULT.partition('/')[0]}/{network}", value, epoch)
        self._close(run.identity)

    def _close(self, identity: str) -> None:
        if (writer := self._writers.pop(identity, None)) is not None:
            writer.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writers.clear()
            raise StorageError(
                f"{self.folder}: the TensorBoard log cannot be written: {error.strerror or error}; give another folder with "
                f"--tensorboard, or leave it out"
            ) from None


def _hyperparameters(run: Run) -> dict[str, bool | float | str]:
    """Settings by dotted key, with the names of recipe and run, and the seed."""
    return {
        "recipe": run.recipe, "run": run.name, "seed": run.seed, "altered": "; ".join(run.altered) or "no",
        **dict(_flat(as_json(run.settings))),
    }  # fmt: skip


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, bool | float | str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value if isinstance(value, bool | int | float | str) else str(value)


def _numbers(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested mappings, by their path."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float):
            yield above + key, value
