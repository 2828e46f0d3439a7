"""Runs trained one after the other, shown, logged and stopped alike by every command that trains."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tnacli.cli.console import Output
from tnacli.errors import DivergedError

if TYPE_CHECKING:
    from tnacli.cli.documents import base as documents
    from tnacli.deploy.from_checkpoint import Exported
    from tnacli.experiment import Outcome
    from tnacli.recipe.identity import Run
    from tnacli.training.checkpoint import Checkpoint
    from tnacli.training.events import Event


@dataclass(frozen=True)
class Diverged:
    """A run that came to no result: its own training diverged, or that of its teacher (`taught`). `message` says why."""

    run: Run
    message: str
    taught: bool = False

    @property
    def note(self) -> str:
        """What a table says of it."""
        return f"seed {self.run.seed}: {self.message}" if self.taught else f"seed {self.run.seed} diverged"


class Start(NamedTuple):
    """The checkpoint that runs start from, and whether they may go on with other data than it learned from."""

    checkpoint: Checkpoint
    other_data: bool = False


@dataclass
class Trained:
    """What runs came to, in their order; `packed` are the packed files of compressed ones by identity.

    `ended` is what ended the training before the last run, if anything did.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    packed: dict[str, Exported] = field(default_factory=dict)
    diverged: list[Diverged] = field(default_factory=list)
    ended: Exception | None = None

    def document(self) -> list[documents.Diverged]:
        """Those that diverged, as documents list them."""
        from tnacli.cli.documents.base import Diverged

        return [
            Diverged(recipe=d.run.recipe, run=d.run.name, seed=d.run.seed, identity=d.run.identity, message=d.message)
            for d in self.diverged
        ]

    def refuse_unfinished(self) -> None:
        """Raise what ended the training early, or DivergedError if a run diverged; when the results there are have been shown."""
        if self.ended is not None:
            raise self.ended
        if self.diverged:
            names = ", ".join(f"{one.run.name} seed {one.run.seed}" for one in self.diverged)
            count = len(self.diverged) + len(self.outcomes)
            raise DivergedError(f"{len(self.diverged)} of {count} runs diverged: {names}; the warnings above say why")


def train_all(
    output: Output,
    runs: Sequence[Run],
    out: Path,
    *,
    fresh: bool = False,
    time_limit: float | None = None,
    tensorboard: Path | None = None,
    start: Start | None = None,
    export: bool = False,
) -> Trained:
    """What `runs` come to below `out`, with `export` packed as well where they are compressed.

    One that diverges does not keep the next from being trained; whatever else `Experiment.execute` raises does, and so does
    UsageError if TensorBoard is asked for and not installed: `refuse_unfinished` raises it. `time_limit` is in minutes.
    `tensorboard` is a folder to log into.
    """
    from tnacli.cli.loading import load_torch

    load_torch()
    from tnacli.cli.progress import TrainingView
    from tnacli.experiment import Experiment
    from tnacli.training.distributed import ranks
    from tnacli.training.stop import StopRequest, stop_on_signals
    from tnacli.training.tensorboard import TensorBoardLog

    trained = Trained()
    failed: dict[str, Diverged] = {}
    try:
        with contextlib.ExitStack() as open_now:
            log = None if tensorboard is None else open_now.enter_context(TensorBoardLog(tensorboard, out))
            view = TrainingView(output, runs)
            stop = StopRequest(None if time_limit is None else 60 * time_limit, heard=view.show_stopping)
            open_now.enter_context(stop_on_signals(stop))
            open_now.enter_context(view)

            def emit(run: Run, event: Event) -> None:
                view.emit(run, event)
                if log is not None:
                    log.emit(run, event)

            initial = {} if start is None else {start.checkpoint.digest: start.checkpoint}
            experiment = Experiment(
                out, emit=emit, stop=stop, on_data=view.show_data, initial=initial,
                other_data=start is not None and start.other_data, coming=runs,
            )  # fmt: skip
            for note in experiment.require_same_data(runs, fresh=fresh):
                output.say(note)

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

            for number, run in enumerate(runs, 1):
                output.detail(f"run {number} of {len(runs)}: {run.name}, seed {run.seed}")
                outcome = execute(run, fresh)
                if outcome is None:
                    trained.diverged.append(failed[run.identity])
                    view.show_diverged(run, failed[run.identity].message)
                    continue
                if not outcome.trained:
                    output.say(f"{run.name} seed {run.seed}: finished before, taken from {outcome.folder.path}")
                    view.skip(run, outcome.result)
                    if log is not None and ranks().first:
                        log.copy(run, outcome.folder, outcome.result)
                trained.outcomes.append(outcome)
                # A file of a finished run was verified when it was written; without the data it could not be again.
                if export and outcome.result.compressed and (outcome.trained or experiment.has_data(run)):
                    trained.packed[run.identity] = experiment.pack(outcome)
    except Exception as error:
        trained.ended = error
    return trained
