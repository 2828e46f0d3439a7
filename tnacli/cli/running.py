"""Runs trained one after the other, shown, logged and stopped alike by every command that trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tnacli.cli.console import Output
from tnacli.cli.trained import Busy, Diverged, Done, Ending, Trained
from tnacli.errors import DivergedError, RunBusyError

if TYPE_CHECKING:
    from tnacli.cli.progress import TrainingView
    from tnacli.cli.wanted import Wanted
    from tnacli.experiment import Experiment, Outcome
    from tnacli.recipe.identity import Run
    from tnacli.training.checkpoint import Checkpoint
    from tnacli.training.events import Event
    from tnacli.training.stop import StopRequest
    from tnacli.training.tensorboard import TensorBoardLog


class Start(NamedTuple):
    """The checkpoint that runs start from, and whether they may go on with other data than it learned from."""

    checkpoint: Checkpoint
    other_data: bool = False


@dataclass
class Watch:
    """What shows and logs the training of runs, and hears that it should stop."""

    output: Output
    wanted: Wanted
    view: TrainingView
    log: TensorBoardLog | None
    stop: StopRequest
    trained: Trained
    stopping: Callable[[], None] = lambda: None  # called when a signal is heard, within its handler
    _in_training: set[str] = field(default_factory=set)  # identities of runs, and of teachers

    def emit(self, run: Run, event: Event) -> None:
        """Show and log one event of one run."""
        self._in_training.add(run.identity)
        self.view.emit(run, event)
        if self.log is not None:
            self.log.emit(run, event)

    def end(self, ending: Ending) -> None:
        """Show and keep how one run ended."""
        from tnacli.training.distributed import ranks

        run = ending.run
        self._in_training.discard(run.identity)
        match ending:
            case Done(outcome):
                if not outcome.trained:
                    self.output.say(f"{run.name} seed {run.seed}: finished before, taken from {outcome.folder.path}")
                    self.view.skip(run, outcome.result)
                    if self.log is not None and ranks().first:
                        self.log.copy(run, outcome.folder, outcome.result)
            case Diverged():
                self.view.show_diverged(run, ending.message)
            case Busy():
                self.view.show_left(run, "busy", ending.message)
            case _:
                self.view.show_left(run, "ended early", ending.message)
        self.trained.add(ending)

    def end_if_stored(self, run: Run) -> bool:
        """End `run` as done if its training, ended early, got as far as storing the result; whether it did.

        One that is to be packed, too, is not done before that: the same command goes on with it.
        """
        from tnacli.experiment import Outcome
        from tnacli.runs.store import RunFolder

        folder = RunFolder.of(self.wanted.out, run)
        # What was there before is moved aside, if it is not to be taken as it is, before training tells anything.
        result = folder.result if run.identity in self._in_training else None
        if result is None or (self.wanted.export and result.compressed):
            return False
        self.end(Done(Outcome(run, folder, result, trained=True)))
        return True


@contextlib.contextmanager
def watched(trained: Trained, output: Output, wanted: Wanted) -> Iterator[Watch]:
    """Show, log and stop, by signals and after the time limit, what is trained inside."""
    from tnacli.cli.loading import load_torch
    from tnacli.cli.progress import TrainingView

    with contextlib.ExitStack() as open_now:
        view = open_now.enter_context(TrainingView(output, wanted.runs, () if wanted.fresh else _finished(wanted)))
        view.show_activity("loading PyTorch ...")
        load_torch()
        view.show_activity("")
        from tnacli.training.stop import StopRequest, stop_on_signals
        from tnacli.training.tensorboard import TensorBoardLog

        def hear() -> None:
            view.show_stopping()
            watch.stopping()

        logs = wanted.tensorboard
        log = None if logs is None else open_now.enter_context(TensorBoardLog(logs, wanted.out))
        stop = StopRequest(wanted.seconds, heard=hear)
        watch = Watch(output, wanted, view, log, stop, trained)
        open_now.enter_context(stop_on_signals(stop))
        yield watch


def _finished(wanted: Wanted) -> set[str]:
    """The identities of the runs that are wanted, and of their teachers, whose results are there."""
    from tnacli.runs.store import RunFolder

    runs = {run.identity: run for one in wanted.runs for run in (one, one.teacher) if run is not None}
    return {identity for identity, run in runs.items() if RunFolder.of(wanted.out, run).status == "finished"}


@contextlib.contextmanager
def kept(trained: Trained, runs: Sequence[Run]) -> Iterator[None]:
    """Keep an error that ends what is done inside in `trained`, for `refuse_unfinished` to raise when results have been shown."""
    try:
        yield
    except Exception as error:
        trained.ended = error
    trained.sort(runs)


def train_all(output: Output, wanted: Wanted, *, start: Start | None = None) -> Trained:
    """What the runs that are wanted come to, one after the other.

    One that diverges, or that another process is training, does not keep the next from being trained; whatever else
    `Experiment.execute` raises does: `refuse_unfinished` raises it.
    """
    trained = Trained()
    with kept(trained, wanted.runs), watched(trained, output, wanted) as watch:
        train_here(watch, start=start)
    return trained


def train_here(watch: Watch, *, start: Start | None = None) -> None:
    """Train the runs that are wanted one after the other in this process."""
    from tnacli.experiment import Experiment

    output, wanted = watch.output, watch.wanted
    runs, fresh = wanted.runs, wanted.fresh
    initial = {} if start is None else {start.checkpoint.digest: start.checkpoint}
    experiment = Experiment(
        wanted.out, emit=watch.emit, stop=watch.stop, on_data=watch.view.show_data, initial=initial,
        other_data=start is not None and start.other_data, coming=wanted.known,
    )  # fmt: skip
    for note in experiment.require_same_data(runs, fresh=fresh):
        output.say(note)
    number = {run.identity: n for n, run in enumerate(runs, 1)}

    def begin(run: Run) -> None:
        output.detail(f"run {number[run.identity]} of {len(runs)}: {run.name}, seed {run.seed}")

    try:
        train_in_turn(experiment, runs, fresh=fresh, export=wanted.export, begin=begin, end=watch.end)
    except Exception:
        for run in runs:
            watch.end_if_stored(run)
        raise


def train_in_turn(
    experiment: Experiment,
    runs: Sequence[Run],
    *,
    fresh: bool,
    export: bool,
    begin: Callable[[Run], None],
    end: Callable[[Ending], None],
) -> None:
    """Train `runs` one after the other; `begin` hears of each before, and `end` how it ended.

    Those that another process is training are asked for again after the others, as long as that brings anything; not with
    `fresh`, which would train anew what the other process has just finished.
    """
    from tnacli.training.distributed import ranks

    failed: dict[str, Diverged] = {}

    def execute(run: Run, fresh: bool) -> Outcome | None:
        """None, with the reason in `failed`, if it diverges; one whose teacher does is not tried."""
        if run.identity in failed:
            return None
        # A run that is finished needs no teacher any more.
        teacher = None if experiment.finished(run) and not fresh else run.teacher
        try:
            if teacher is not None and execute(teacher, fresh and experiment.differs(teacher)) is None:
                why = f"its teacher diverged ({teacher.name} seed {teacher.seed})"
                failed[run.identity] = Diverged(run, why, taught=True)
                return None
            return experiment.execute(run, fresh=fresh)
        except DivergedError as error:
            failed[run.identity] = Diverged(run, str(error))
            return None

    waiting = list(runs)
    while waiting:
        busy: list[Busy] = []
        for run in waiting:
            begin(run)
            try:
                outcome = execute(run, fresh)
                if outcome is None:
                    end(failed[run.identity])
                    continue
                # A file of a finished run was verified when it was written; without the data it could not be again.
                packing = export and outcome.result.compressed and (outcome.trained or experiment.has_data(run))
                end(Done(outcome, experiment.pack(outcome) if packing else None))
            except RunBusyError as error:
                if not ranks().alone:  # the other processes have ended
                    raise
                busy.append(Busy(run, str(error)))
        if fresh or len(busy) == len(waiting):
            for one in busy:
                end(one)
            return
        waiting = [one.run for one in busy]
