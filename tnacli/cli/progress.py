"""Shows the events of training: in a live view on a terminal (`tnacli.cli.live`), as a line an epoch elsewhere."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.live import Live

from tnacli.cli.console import Output
from tnacli.cli.live import SHORT, Board, Row
from tnacli.recipe.identity import Run
from tnacli.runs.result import RunResult
from tnacli.training import events as ev

if TYPE_CHECKING:
    from tnacli.quant.weights import Shares

_STOPPING = "stopping after this step; saving ..."


class TrainingView:
    """A context within which `emit` shows what happens to `runs`."""

    def __init__(self, output: Output, runs: Sequence[Run], finished: Iterable[str] = ()) -> None:
        """`finished` are the identities of those, and of their teachers, that need no training any more."""
        self._output = output
        self._board = Board(runs, finished)
        self._said = 0.0
        self._noted: set[str] = set()
        self._live: Live | None = None
        if output.live:
            self._live = Live(
                self._board, console=output.stderr, refresh_per_second=4, transient=True, redirect_stdout=False
            )

    def __enter__(self) -> TrainingView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def skip(self, run: Run, result: RunResult) -> None:
        """Show a run that was finished before."""
        row = self._board.row(run)
        row.status, row.accuracy = "done before", {"test": result.accuracy["base"]}

    def show_diverged(self, run: Run, message: str) -> None:
        """Show a run that came to nothing, and why."""
        self.show_left(run, "diverged", message)

    def show_left(self, run: Run, status: str, message: str) -> None:
        """Show a run that has no result, and why."""
        row = self._board.row(run)
        row.status = status
        self._output.warn(f"{row.label}: {message}")

    def show_activity(self, text: str) -> None:
        """Show what is done before runs are trained; only in a live view, "" for nothing."""
        self._board.activity = text

    def show_data(self, what: str, done: int, total: int) -> None:
        """Show how far the reading of the data is."""
        self.show_activity(f"{what}: {done} of {total}" if done < total else "")
        if not self._live and done == 0:
            self._output.say(f"{what} ...")

    def show_stopping(self) -> None:
        """Say that a signal was heard. Safe in its handler, which may have interrupted someone who holds a stream's lock."""
        self._board.stopping = _STOPPING  # the live view draws it within a quarter of a second
        if not self._live and not self._output.quiet:
            with contextlib.suppress(OSError):  # whoever read it has gone: no reason not to save
                os.write(self._output.stderr.file.fileno(), f"{_STOPPING}\n".encode())

    def emit(self, run: Run, event: ev.Event) -> None:
        """Show one event of one run."""
        row = self._board.row(run)
        label = row.label
        match event:
            case ev.Started():
                steps = event.steps_per_epoch
                row.begin(event.epochs, steps, event.resumed_epoch + event.resumed_step / steps)
                self.show_activity("")
                resumed = (
                    f", going on from epoch {event.resumed_epoch + 1}, step {event.resumed_step}"
                    if event.resumed_epoch or event.resumed_step
                    else ""
                )
                self._output.say(
                    f"{label}: {event.samples} samples, {event.parameters:,} parameters, {event.epochs} epochs of "
                    f"{event.steps_per_epoch} steps on {event.device} in {event.precision}{resumed}"
                )
                for note in event.notes:
                    self._output.detail(f"{label}: {note}")
            case ev.Branched():
                self._output.say(
                    f"{label}: its first {event.epochs} epochs are those of {event.stem}, taken from there"
                )
            case ev.Progress():
                self._show_progress(row, event)
            case ev.Compressed():
                self._output.say(
                    f"{label}: {event.mode} weights from epoch {event.epoch + 1} on; -1/0/+1 in %: "
                    + shares_text(event.shares)
                )
            case ev.EpochDone():
                self._show_epoch(row, event)
            case ev.Saved():
                self._output.detail(f"{label}: saved {event.path}")
            case ev.Noted():
                if event.message not in self._noted:
                    self._noted.add(event.message)
                    self._output.say(event.message)
            case ev.Warned():
                self._output.warn(f"{label}: {event.message}")
            case ev.Finished():
                row.status, row.seconds = "done", event.seconds
                row.accuracy["test"] = event.accuracy["base"]
                self._output.detail(f"{label}: finished, test accuracy {event.accuracy['base']:.2f} %")

    def _show_progress(self, row: Row, event: ev.Progress) -> None:
        row.epoch, row.step = event.epoch + event.step / row.steps, event.step
        row.loss, row.parts, row.samples_per_second = event.loss, event.parts, event.samples_per_second
        # Elsewhere than on a terminal a long epoch still gives a sign of life now and then.
        if not self._live and time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            parts = " ".join(f"{SHORT.get(name, name)} {value:.4g}" for name, value in event.parts.items())
            self._output.say(
                f"{row.label}: epoch {event.epoch + 1}/{row.epochs}, step {event.step}/{row.steps}, loss {event.loss:.4g}  "
                f"{parts}  {event.accuracy:.1f} %  {event.samples_per_second:.0f} samples/s"
            )

    def _show_epoch(self, row: Row, event: ev.EpochDone) -> None:
        row.epoch, row.step, row.loss, row.parts = event.epoch, row.steps, event.train_loss, event.train_parts
        accuracy = event.accuracy.get("base")  # not after every epoch
        if accuracy is not None:
            row.accuracy[event.measured_on] = accuracy
        if self._live and not self._output.verbose:
            return
        self._said = time.monotonic()
        parts = ", ".join(f"{SHORT.get(name, name)} {value:.4g}" for name, value in event.train_parts.items())
        measured = "" if accuracy is None else f"{event.measured_on} {accuracy:.2f} %, "
        self._output.say(
            f"{row.label}: epoch {event.epoch}/{row.epochs}, loss {event.train_loss:.4g} ({parts}), training "
            f"{event.train_accuracy['base']:.2f} %, {measured}"
            f"lr {event.learning_rate:.3g}, {event.samples_per_second:.0f} samples/s"
        )


def shares_text(shares: dict[str, Shares]) -> str:
    """`conv2 20/61/19, fc1 ...`: the shares of -1, 0 and +1 by layer."""
    return ", ".join(
        f"{name} {100 * s.negative:.0f}/{100 * s.zero:.0f}/{100 * s.positive:.0f}" for name, s in shares.items()
    )
