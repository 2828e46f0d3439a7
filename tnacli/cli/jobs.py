"""Runs trained several at once, in processes of their own (`--jobs`): shown, stopped and ended as if by one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from rich.markup import escape

from tnacli.cli.console import Output
from tnacli.cli.running import Watch, kept, train_here, train_in_turn, watched
from tnacli.cli.shards import pieces
from tnacli.cli.streams import lines_text
from tnacli.cli.trained import Busy, Diverged, Done, Killed, Trained
from tnacli.cli.wanted import Wanted
from tnacli.cli.worker import Begun, DataRead, Failed, Heard, Idle, Work
from tnacli.cli.workers import Said, Worker, why_gone
from tnacli.errors import Stopped, UsageError

if TYPE_CHECKING:
    from tnacli.recipe.identity import Run


def train_at_once(output: Output, wanted: Wanted, *, jobs: str) -> Trained:
    """What `train_all` gives, with `jobs` processes ("auto": as many as there are GPUs, else cores) training at once.

    Runs that share a teacher or epochs are a piece of work for one process. After an error that is not a run's own no more
    are begun; those in training go on to their end. `refuse_unfinished` raises UsageError under torchrun.
    """
    runs, fresh, export = wanted.runs, wanted.fresh, wanted.export
    trained = Trained()
    with kept(trained, runs), watched(trained, output, wanted) as watch:
        from tnacli.cli.sharing import share_out
        from tnacli.experiment import Experiment
        from tnacli.training.distributed import ranks

        if not ranks().alone:
            raise UsageError("--jobs starts processes of its own; leave it out under torchrun")
        sharing = share_out(jobs, runs)
        output.say(sharing.text)
        if len(sharing.environments) == 1:
            train_here(watch)
            return trained
        experiment = Experiment(wanted.out, stop=watch.stop, on_data=watch.view.show_data)
        for note in experiment.require_same_data(runs, fresh=fresh):
            output.say(note)
        work: list[list[Run]] = []
        for piece in pieces(runs):
            if fresh or export or not all(map(experiment.finished, piece)):
                work.append(piece)
            else:  # for which no process needs to be started
                train_in_turn(experiment, piece, fresh=False, export=False, begin=lambda run: None, end=watch.end)
        with tempfile.NamedTemporaryFile(prefix="tna-") as lock:
            _Crew(watch, Work(wanted, Path(lock.name)), sharing.environments).train(work)
    return trained


class _Crew:
    """The processes that train, one for each of `environments` as long as there is work."""

    def __init__(self, watch: Watch, work: Work, environments: Sequence[dict[str, str]]) -> None:
        self._watch, self._work, self._environments = watch, work, environments
        self._wanted = work.wanted
        self._workers: list[Worker] = []
        self._pieces: list[list[Run]] = []
        self._busy: list[Busy] = []
        self._error: Exception | None = None
        self._unfinished = False
        self._said: set[str] = set()
        self._answers: SimpleQueue[tuple[Worker | None, object]] = SimpleQueue()
        watch.stopping = lambda: self._answers.put((None, None))

    def train(self, work: Sequence[list[Run]]) -> None:
        """Train the runs of all pieces. Raises what ended it early."""
        stop = self._watch.stop
        with stop.deferred():
            self._pieces = list(work)
            while self._pieces and not self._ended:
                ended_before = len(self._watch.trained.outcomes)
                self._train_pieces()
                if self._busy and len(self._watch.trained.outcomes) > ended_before and not self._wanted.fresh:
                    # What another process was training may be free, or finished, by now.
                    self._pieces, self._busy = pieces([one.run for one in self._busy]), []
            if self._error is not None:
                raise self._error
            if stop.asked and (self._unfinished or self._pieces):
                finished = f"{len(self._watch.trained.outcomes)} of {len(self._wanted.runs)} runs are finished"
                hint = " Leave out --fresh then, which begins anew." if self._wanted.fresh else ""
                raise stop.as_error(
                    f"saved what was in training; {finished}. The same command goes on from there.{hint}"
                )
            for one in self._busy:
                self._watch.end(one)

    @property
    def _ended(self) -> bool:
        """Whether no more runs are begun."""
        return self._error is not None or self._watch.stop.asked

    def _train_pieces(self) -> None:
        """Have every piece done, and every process ended."""
        try:
            for environment in self._environments[: len(self._pieces)]:
                self._start(environment)
            while self._workers:
                worker, answer = self._answers.get()
                if worker is None:  # a signal was heard
                    for one in self._workers:
                        one.process.terminate()
                else:
                    self._take(worker, answer)
        finally:
            for one in self._workers:  # an error of this process
                one.process.terminate()
            for one in self._workers:
                one.process.wait()
                one.close()

    def _start(self, environment: dict[str, str]) -> None:
        worker = Worker(environment, self._work, self._answers)
        self._workers.append(worker)
        if self._watch.stop.signalled:  # heard since, when it was not among them
            worker.process.terminate()
        self._hand_over(worker)

    def _hand_over(self, worker: Worker) -> None:
        worker.runs = [] if self._ended or not self._pieces else self._pieces.pop(0)
        worker.order(tuple(worker.runs) or None)

    def _take(self, worker: Worker, answer: object) -> None:
        watch = self._watch
        match answer:
            case Heard(run, event):
                watch.emit(run, event)
            case DataRead(what, done, total):
                if done or self._first(what):
                    watch.view.show_data(what, done, total)
            case Begun(run):
                worker.run = run
                number = next(n for n, one in enumerate(self._wanted.runs, 1) if one.identity == run.identity)
                watch.output.detail(f"run {number} of {len(self._wanted.runs)}: {run.name}, seed {run.seed}")
            case Done() | Diverged() | Busy():
                worker.runs = [run for run in worker.runs if run.identity != answer.run.identity]
                if isinstance(answer, Busy):
                    self._busy.append(answer)
                else:
                    watch.end(answer)
            case Idle():
                self._hand_over(worker)
            case Failed():
                worker.failed = answer
            case Said(line):
                if self._first(line):
                    name = "" if worker.run is None else f"{worker.run.name} seed {worker.run.seed}: "
                    watch.output.stderr.print(escape(lines_text(name + line)))
            case None:
                self._gone(worker)

    def _first(self, text: str) -> bool:
        """Whether no process has said this before."""
        new = text not in self._said
        self._said.add(text)
        return new

    def _gone(self, worker: Worker) -> None:
        """Find out why a process has ended, and have another one do what is left of its piece."""
        self._workers.remove(worker)
        worker.close()
        worker.runs = [run for run in worker.runs if not self._watch.end_if_stored(run)]
        if worker.runs or worker.failed is not None:
            self._explain(worker)
        if self._pieces and not self._ended:
            self._start(worker.environment)

    def _explain(self, worker: Worker) -> None:
        """Keep, or show, why a process has ended early. If it was killed, another gets what is left but for the run it was at."""
        error = why_gone(worker)
        if not isinstance(error, Stopped):
            self._error = self._error or error
            self._watch.output.warn(
                f"{worker.name}: {str(error).splitlines()[0]} No more runs are begun; those in training go on to their end"
            )
        elif not self._watch.stop.asked and worker.runs:
            killed = next((run for run in worker.runs if run is worker.run), worker.runs[0])
            rest = [run for run in worker.runs if run is not killed]
            self._watch.end(Killed(killed, str(error)))
            if rest:
                self._pieces.insert(0, rest)
        else:
            self._unfinished = True
