"""Runs trained one after the other, shown, logged and stopped alike by every command that trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.experiment import Outcome
    from tnacli.exporting import Exported
    from tnacli.recipe.identity import Run
    from tnacli.training.checkpoint import Checkpoint
    from tnacli.training.events import Event


def train_all(
    output: Output,
    runs: Sequence[Run],
    out: Path,
    *,
    fresh: bool = False,
    time_limit: float | None = None,
    tensorboard: Path | None = None,
    initial: Mapping[str, Checkpoint] | None = None,
    export: bool = False,
    before_each: Callable[[], None] = lambda: None,
) -> tuple[list[Outcome], dict[str, Exported]]:
    """The outcomes of `runs` below `out`, in their order, and with `export` the packed files of compressed ones by identity.

    `time_limit` is in minutes. `tensorboard` is a folder to log into. Raises what `Experiment.execute` raises, and UsageError
    if TensorBoard is asked for and not installed.
    """
    from tnacli.cli.progress import TrainingView
    from tnacli.experiment import Experiment
    from tnacli.tensorboard import TensorBoardLog
    from tnacli.training.distributed import ranks
    from tnacli.training.stop import StopRequest, stop_on_signals

    outcomes: list[Outcome] = []
    packed: dict[str, Exported] = {}
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

        experiment = Experiment(out, emit=emit, stop=stop, on_data=view.show_data, initial=initial, coming=runs)
        for number, run in enumerate(runs, 1):
            output.detail(f"run {number} of {len(runs)}: {run.name}, seed {run.seed}")
            before_each()
            outcome = experiment.execute(run, fresh=fresh)
            if not outcome.trained:
                output.say(f"{run.name} seed {run.seed}: finished before, taken from {outcome.folder.path}")
                view.skip(run, outcome.result)
                if log is not None and ranks().first:
                    log.copy(run, outcome.folder)
            outcomes.append(outcome)
            if export and outcome.result["compressed"]:
                packed[run.identity] = experiment.export(outcome)
    return outcomes, packed
