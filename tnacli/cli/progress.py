"""Draws the events of training: bars and a live table on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tnacli.cli.console import Output, duration_text
from tnacli.recipe.identity import Run
from tnacli.runs.result import RunResult
from tnacli.training import events as ev

if TYPE_CHECKING:
    from tnacli.quant.weights import Shares

_STOPPING = "stopping after this step; saving ..."
_SHORT = {
    "cross_entropy": "CE",
    "sibling_cross_entropy": "CE sibling",
    "matching": "match",
    "feature_matching": "features",
}


class TrainingView:
    """A context within which `emit` shows what happens to `runs`."""

    def __init__(self, output: Output, runs: Sequence[Run]) -> None:
        self._output = output
        self._label = {run.identity: f"{run.name} seed {run.seed}" for run in runs}
        self._rows: dict[str, list[str]] = {
            run.identity: [run.name, str(run.seed), "waiting", "", "", "", ""] for run in runs
        }
        self._steps = 1
        self._epochs = 1
        self._said = 0.0
        self._stopping = False
        self._noted: set[str] = set()
        self._epoch_bar = self._bar("epochs")
        self._step_bar = self._bar("steps")
        self._epoch_task = self._epoch_bar.add_task("", total=None, info="")
        self._step_task = self._step_bar.add_task("", total=None, info="")
        self._live: Live | None = None
        if output.live:
            self._live = Live(
                get_renderable=self._draw,
                console=output.stderr,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
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
        self._rows[run.identity][2:6] = ["done before", "", "", f"{result.accuracy['base']:.2f}"]

    def show_diverged(self, run: Run, message: str) -> None:
        """Show a run that came to nothing, and why."""
        self._rows[run.identity][2] = "diverged"
        self._output.warn(f"{self._label[run.identity]}: {message}")

    def show_left(self, run: Run, status: str, message: str) -> None:
        """Show a run that is left without a result for now, and why."""
        self._rows[run.identity][2] = status
        self._output.warn(f"{self._label[run.identity]}: {message}")

    def show_data(self, what: str, done: int, total: int) -> None:
        """Show how far the reading of the data is."""
        if self._live:
            self._step_bar.update(self._step_task, total=total, completed=done, info=what)
        elif done == 0:
            self._output.say(f"{what} ...")

    def show_stopping(self) -> None:
        """Say that a signal was heard. Safe in its handler, which may have interrupted someone who holds a stream's lock."""
        self._stopping = True  # the live view draws it within a quarter of a second
        if not self._live and not self._output.quiet:
            with contextlib.suppress(OSError):  # whoever read it has gone: no reason not to save
                os.write(self._output.stderr.file.fileno(), f"{_STOPPING}\n".encode())

    def emit(self, run: Run, event: ev.Event) -> None:
        """Show one event of one run."""
        label = self._label.setdefault(run.identity, f"{run.name} seed {run.seed}")
        row = self._rows.setdefault(run.identity, [run.name, str(run.seed), "", "", "", "", ""])
        match event:
            case ev.Started():
                self._epochs, self._steps = event.epochs, event.steps_per_epoch
                row[2] = "training"
                self._epoch_bar.reset(self._epoch_task, total=event.epochs, completed=event.resumed_epoch)
                self._epoch_bar.start_task(self._epoch_task)
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
                self._show_progress(label, row, event)
            case ev.Compressed():
                self._output.say(
                    f"{label}: {event.mode} weights from epoch {event.epoch + 1} on; -1/0/+1 in %: "
                    + shares_text(event.shares)
                )
            case ev.EpochDone():
                self._show_epoch(label, row, event)
            case ev.Saved():
                self._output.detail(f"{label}: saved {event.path}")
            case ev.Noted():
                if event.message not in self._noted:
                    self._noted.add(event.message)
                    self._output.say(event.message)
            case ev.Warned():
                self._output.warn(f"{label}: {event.message}")
            case ev.Finished():
                row[2], row[6] = "done", duration_text(event.seconds)
                row[5] = f"{event.accuracy['base']:.2f}"
                self._output.detail(f"{label}: finished, test accuracy {event.accuracy['base']:.2f} %")

    def _show_progress(self, label: str, row: list[str], event: ev.Progress) -> None:
        parts = " ".join(f"{_SHORT.get(name, name)} {value:.4g}" for name, value in event.parts.items())
        info = f"loss {event.loss:.4g}  {parts}  {event.accuracy:.1f} %  {event.samples_per_second:.0f} samples/s"
        row[4] = f"{event.loss:.4g}"
        self._step_bar.update(self._step_task, total=self._steps, completed=event.step, info=info)
        self._epoch_bar.update(self._epoch_task, completed=event.epoch + event.step / self._steps, info=label)
        # Elsewhere than on a terminal a long epoch still gives a sign of life now and then.
        if not self._live and time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            self._output.say(
                f"{label}: epoch {event.epoch + 1}/{self._epochs}, step {event.step}/{self._steps}, {info}"
            )

    def _show_epoch(self, label: str, row: list[str], event: ev.EpochDone) -> None:
        self._epoch_bar.update(self._epoch_task, completed=event.epoch, info=label)
        accuracy = event.accuracy.get("base")  # not after every epoch
        row[3:5], row[6] = [f"{event.epoch}/{self._epochs}", f"{event.train_loss:.4g}"], ""
        if accuracy is not None:
            row[5] = f"{accuracy:.2f}"
        if self._live and not self._output.verbose:
            return
        self._said = time.monotonic()
        parts = ", ".join(f"{_SHORT.get(name, name)} {value:.4g}" for name, value in event.train_parts.items())
        measured = "" if accuracy is None else f"{event.measured_on} {accuracy:.2f} %, "
        self._output.say(
            f"{label}: epoch {event.epoch}/{self._epochs}, loss {event.train_loss:.4g} ({parts}), training "
            f"{event.train_accuracy['base']:.2f} %, {measured}"
            f"lr {event.learning_rate:.3g}, {event.samples_per_second:.0f} samples/s"
        )

    def _bar(self, unit: str) -> Progress:
        return Progress(
            TextColumn(f"{unit:>6}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"), console=self._output.stderr,
        )  # fmt: skip

    def _draw(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("run", "seed", "", "epoch", "loss", "accuracy %", "time"):
            table.add_column(name, justify="left" if name in ("run", "") else "right")
        rows = list(self._rows.values())
        for row in rows[-12:]:
            table.add_row(*row, style="dim" if row[2] == "waiting" else None)
        stopping = [Text(_STOPPING, style="yellow")] if self._stopping else []
        return Group(table, self._epoch_bar, self._step_bar, *stopping)


def shares_text(shares: dict[str, Shares]) -> str:
    """`conv2 20/61/19, fc1 ...`: the shares of -1, 0 and +1 by layer."""
    return ", ".join(
        f"{name} {100 * s.negative:.0f}/{100 * s.zero:.0f}/{100 * s.positive:.0f}" for name, s in shares.items()
    )


class DataView:
    """Shows how the reading of a data set goes: a bar on a terminal, a line at the start of each part elsewhere."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: str | None = None
        self._bar: Progress | None = None
        if output.live:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(),
                console=output.stderr, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> DataView:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """`what` is `done` of `total` far."""
        if self._bar:
            self._bar.update(self._task, description=what, completed=done, total=total, visible=done < total)
        elif what != self._said:
            self._said = what
            self._output.say(f"{what} ...")
