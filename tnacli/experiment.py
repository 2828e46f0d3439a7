"""Runs from plan to result: find or make the folder, load the data, build, train, go on where it was left, store.

The command line and scripts go through here; nothing is drawn and nothing printed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tnacli.build import build_objective
from tnacli.data.samples import Dataset
from tnacli.errors import DataError, FileFormatError, RunBusyError, Stopped, StorageError, TnaError
from tnacli.evaluation.data import require_fitting
from tnacli.exporting import Exported, export_checkpoint
from tnacli.machine import commit, processor
from tnacli.recipe.identity import Run
from tnacli.runs.metadata import BegunRun, RunMetadata, Versions
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder
from tnacli.snn.native import switched_off
from tnacli.training.beginning import altered_in, precision_of, splits_of
from tnacli.training.branches import stem_of, wanted_epochs
from tnacli.training.checkpoint import Checkpoint, load_checkpoint, restore_network, save_checkpoint
from tnacli.training.device import peak_beyond_mb, resolve_device, settled_memory_mb
from tnacli.training.distributed import ranks
from tnacli.training.events import Branched, EpochDone, Event, Noted, Warned
from tnacli.training.execution import Execution, compile_regions, kernels, prepare, threads
from tnacli.training.loop import Trainer
from tnacli.training.out_of_memory import memory_explained
from tnacli.training.precision import resolve_precision
from tnacli.training.run_data import RunData
from tnacli.training.stop import StopRequest
from tnacli.training.warm_start import initial_checkpoint, start_from, started_text
from tnacli.version import __version__

Emit = Callable[[Run, Event], None]
_SOURCES = {
    "official": "official files", "folder": "class folders", "generated": "generated samples", "embedded": "embedded samples",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, its stored result, and whether it was found finished or trained just now."""

    run: Run
    folder: RunFolder
    result: RunResult
    trained: bool

    @property
    def checkpoint(self) -> Path:
        return self.folder.last


class Experiment:
    """Executes runs below the folder `out`, loading each data set once.

    Under torchrun every process makes one; the first alone looks at folders, writes, and tells the others. `emit` hears every
    event of every run, in the first process. `initial` maps digests of checkpoints to start from to the checkpoints, which
    must have learned from the data that is there now, unless `other_data` is welcome; those that `train.initial` names are
    loaded from there, and may have learned from other data, which is then said of the results. `coming` are the runs that are
    to be executed, now or another time: a full-precision one keeps the checkpoints that they branch off from. Processes that
    share `data_lock` load data in turn.
    """

    def __init__(
        self,
        out: Path,
        *,
        emit: Emit = lambda run, event: None,
        stop: StopRequest | None = None,
        on_data: Callable[[str, int, int], None] | None = None,
        initial: Mapping[str, Checkpoint] | None = None,
        other_data: bool = False,
        coming: Iterable[Run] = (),
        data_lock: Path | None = None,
    ) -> None:
        self.out = out
        self._wanted = wanted_epochs(coming)
        self._stop = stop or StopRequest()
        self._given = frozenset(initial or ())
        self._same_data = frozenset() if other_data else self._given
        self._initial = dict(initial or {})
        self._warned_of_slow_path = False
        self._ranks = ranks()
        self._data = RunData(self._ranks, on_data, data_lock)
        self._emit = emit if self._ranks.first else lambda run, event: None

    def execute(self, run: Run, *, fresh: bool = False) -> Outcome:
        """The result of `run`: taken from its folder if finished, else trained, going on from its last checkpoint.

        A finished run that is asked for `fresh` is trained again; what was there is moved aside, not overwritten.
        Raises DataError if what is there was learned from other data than is there now, and `fresh` is not asked for.
        """
        self.require_same_data([run], fresh=fresh)
        with contextlib.ExitStack() as held:
            folder, result = self._ranks.broadcast(lambda: self._found(run, held, fresh))
            if result is not None:
                return Outcome(run, folder, result, trained=False)
            try:
                with memory_explained(run.settings, self._ranks, lambda: self._data.sample(run)):
                    return Outcome(run, folder, self._train(run, folder, fresh), trained=True)
            except Stopped as error:
                if fresh:
                    error.args = (f"{error} Leave out --fresh then, which begins anew.",)
                raise

    def finished(self, run: Run) -> bool:
        """Whether the result of `run` is there already."""
        return self._ranks.broadcast(lambda: RunFolder.of(self.out, run).status == "finished")

    def _found(self, run: Run, held: contextlib.ExitStack, fresh: bool) -> tuple[RunFolder, RunResult | None]:
        """The folder of a run with its result if it is finished; of one to be trained it is locked until `held` is closed."""
        folder = RunFolder.of(self.out, run)
        if fresh:
            with folder.locked():
                folder.set_aside()
        if (result := folder.result) is not None:
            # Left by a killed export. Another process at it, or a place that is only read, is no reason to fail.
            with contextlib.suppress(RunBusyError, StorageError), folder.locked():
                folder.remove_leftovers()
            return folder, result
        held.enter_context(folder.locked())
        if (result := folder.result) is not None:  # finished by another process, just now
            return folder, result
        folder.remove_leftovers()
        return folder, None

    def require_same_data(self, runs: Iterable[Run], *, fresh: bool = False) -> tuple[str, ...]:
        """Compare what is to be reused for `runs` with the data there now, all of it before anything is trained.

        That is what finished and interrupted runs and teachers learned from, unless asked for `fresh`, and checkpoints to
        start from. Returns what is to be told. Raises DataError that names every run which learned from other data.
        """
        other: list[tuple[Run, str]] = []
        absent: dict[str, None] = {}
        for run in runs:
            start = None if self.finished(run) and not fresh else self._start(run)
            if start is not None and run.initial in self._same_data:
                now = self._data.compare(run, start.metadata.data)
                if now.changed:
                    raise DataError(
                        f"the checkpoint has learned from other data than is there now: {now.changed}. Restore it, or go on "
                        f"with what is there: --other-data."
                    )
            for one in self._reused(run, fresh):
                there, changed = self._compared(one)
                if changed:
                    other.append((one, changed))
                elif not there:
                    absent[one.settings.data.name] = None
        if other:
            raise DataError(
                self._ranks.broadcast(lambda: _explained([(run, self._folder(run), how) for run, how in other]))
            )
        return tuple(
            f"the data set {name} is not there now: finished runs are taken without comparing their data"
            for name in absent
        )

    def _start(self, run: Run) -> Checkpoint | None:
        """The checkpoint that `run` starts from, if any. Raises RecipeError if its weights do not fit."""
        if run.initial is not None and run.initial not in self._initial:
            self._initial[run.initial] = initial_checkpoint(run)
        return None if run.initial is None else self._initial[run.initial]

    def has_data(self, run: Run) -> bool:
        """Whether the data of `run` is there now."""
        return self._data.there(run)

    def differs(self, run: Run) -> bool:
        """Whether what is stored of `run` was learned from other data than is there now."""
        return bool(self._compared(run)[1])

    def _reused(self, run: Run, fresh: bool) -> Iterator[Run]:
        if not fresh:
            yield run
            # A teacher that has learned from other data is trained anew with the run, and not needed for a finished one.
            if run.teacher is not None and not self.finished(run):
                yield run.teacher

    def _compared(self, run: Run) -> tuple[bool, str]:
        """Whether the data of `run` is there, and how it is other than what was learned from, if anything was."""
        then = self._ranks.broadcast(lambda: self._folder(run).learned_from)
        if then is None:
            return True, ""
        now = self._data.compare(run, then)
        if now.there and not now.changed and self.finished(run):
            self._ranks.broadcast(lambda: self._folder(run).found_same(now.files))
        return now.there, now.changed

    def _folder(self, run: Run) -> RunFolder:
        return RunFolder.of(self.out, run)

    def _teacher(self, run: Run, fresh: bool) -> Checkpoint | None:
        """The checkpoint of the network that teaches `run`, trained if need be; None for a run that has no teacher."""
        if run.teacher is None:
            return None
        # A teacher is shared by many runs; asking for them afresh does not train it again, but on other data.
        taught = self.execute(run.teacher, fresh=fresh and self.differs(run.teacher))
        return self._ranks.broadcast(lambda: load_checkpoint(taught.checkpoint))

    def _train(self, run: Run, folder: RunFolder, fresh: bool) -> RunResult:
        settings = run.settings
        taught_by = self._teacher(run, fresh)
        device = resolve_device(self._ranks.device(settings.runtime.device))
        resolve_precision(settings.train.precision, device)  # refused before anything is read
        dataset = self.dataset(run)
        held_mb = settled_memory_mb(device)
        teacher = None if taught_by is None else restore_network(taught_by, trusted=settings.model.build)
        objective = build_objective(
            settings,
            channels=dataset.channels,
            size=dataset.size,
            classes=len(dataset.classes),
            seed=run.seed,
            teacher=None if teacher is None else teacher.to(device),
        )
        start, fresh_ones = self._start(run), tuple[str, ...]()
        if start is not None:
            require_fitting(dataset, start.metadata.classes, start.metadata.channels)
            fresh_ones = start_from(objective, start)
        prepare(objective, settings)

        def emit(event: Event) -> None:
            if isinstance(event, EpochDone) and self._ranks.first:
                folder.append_metrics(dataclasses.asdict(event))
            self._emit(run, event)

        kept_epochs = self._wanted.get(run.identity, frozenset())

        def save(checkpoint: Checkpoint) -> str:
            save_checkpoint(folder.new, checkpoint)
            folder.promote(folder.new)
            state = checkpoint.metadata.state
            if state.step == 0 and state.epoch in kept_epochs:
                folder.keep(state.epoch)
            return str(folder.last)

        for note in dataset.notes:
            emit(Noted(f"{dataset.name}: {note}"))
        resumed = self._ranks.broadcast(lambda: self._newest(run, folder) or self._branched(run, folder, dataset))
        if run.settings.train.initial is not None and run.initial not in self._given and resumed is None:
            emit(Noted(started_text(run.settings.train.initial, fresh_ones)))
        precision, kept = precision_of(settings, device, resumed)
        path, slow = kernels(objective, device, None if resumed is None else resumed.metadata.kernels)
        learned_from = self._data.learned_from(run)
        metadata = RunMetadata(
            recipe=run.recipe,
            run=run.name,
            identity=run.identity,
            altered=altered_in(run, start, learned_from, resumed, device=device, among=self._ranks),
            initial=run.initial,
            data=learned_from,
            kind=dataset.kind,
            classes=dataset.classes,
            channels=dataset.channels,
            size=dataset.size,
            mean=dataset.mean,
            std=dataset.std,
            versions=Versions(
                tnacli=__version__,
                torch=torch.__version__,
                python=platform.python_version(),
                commit=commit(),
                processor=processor(),
            ),
            kernels=path,
            seed=run.seed,
        )
        begun = BegunRun(**dict(metadata), settings=settings)
        splits = splits_of(dataset, run, device, self._ranks)
        execution = Execution(device, precision, self._ranks)
        trainer = Trainer(
            objective,
            begun,
            splits,
            execution=execution,
            save=save,
            kept_epochs=kept_epochs,
            emit=emit,
            stop=self._stop,
        )
        if resumed is not None:
            if resumed.metadata.data.fingerprint != dataset.fingerprint:
                raise DataError(
                    f"{folder.path}: the data set is not the one that this run began with ({dataset.name} from "
                    f"{resumed.metadata.data.source} then, from {dataset.source} now, or files changed). Restore it, "
                    f"or train again with --fresh."
                )
            trainer.restore(resumed)
        self._ranks.broadcast(lambda: folder.begin(begun, 0 if resumed is None else resumed.metadata.state.epoch))
        regions, compiled = compile_regions(
            objective, settings, device, splits.train, tell=lambda message: emit(Warned(message))
        )
        with threads(objective, settings, execution) as reason:
            notes = (f"{dataset.name} from {_SOURCES[dataset.source]}", kept, reason, compiled,
                     None if regions is not None else self._slow_path(run, slow))  # fmt: skip
            trainer.notes = tuple(note for note in notes if note is not None)
            taught_by = resumed = None  # what is on the networks by now
            settled_memory_mb(device)
            finished = trainer.run()
            peak_mb = peak_beyond_mb(device, held_mb)
        result = RunResult(
            **dict(metadata),
            **dataclasses.asdict(finished),
            epochs=settings.train.epochs,
            device=str(device),
            precision=precision,
            peak_beyond_start_mb=peak_mb,
            compiled_regions=regions is not None and not regions.failure,
        )
        self._ranks.broadcast(lambda: folder.finish(result))
        return result

    def _slow_path(self, run: Run, slow: str | None) -> str | None:
        """A note for whoever watches closely; the first time a warning instead, unless the user wants it so."""
        if slow is None or self._warned_of_slow_path or switched_off():
            return slow
        self._warned_of_slow_path = True
        self._emit(run, Warned(f"{slow}; results differ a little from those with them. `tna doctor` says what helps"))
        return None

    def pack(self, outcome: Outcome) -> Exported:
        """A packed file beside the checkpoint of a compressed run, verified on its test samples."""
        dataset = self.dataset(outcome.run)
        packed = outcome.folder.path / "packed.safetensors"
        trusted = outcome.run.settings.model.build

        def write() -> Exported:
            with outcome.folder.locked():
                return export_checkpoint(outcome.checkpoint, packed, dataset=dataset, trusted=trusted)

        return self._ranks.broadcast(write)

    def dataset(self, run: Run) -> Dataset:
        """The data of a run, from memory if an earlier run had the same."""
        return self._data.load(run)

    def _newest(self, run: Run, folder: RunFolder) -> Checkpoint | None:
        """The newest whole checkpoint; a damaged one is reported, and the one before it used."""
        for path in (folder.last, folder.previous):
            if path.exists():
                try:
                    return load_checkpoint(path)
                except FileFormatError as error:
                    before = "using the one before it" if path == folder.last else "starting again"
                    if path == folder.last and not folder.previous.exists():
                        before = "there is none before it, starting again"
                    # Aside, or it would soon take the place of the good one before it.
                    aside = folder.set_damaged_aside(path)
                    self._emit(run, Warned(f"{error}; {before}. The damaged file is kept as {aside.name}"))
        return None

    def _branched(self, run: Run, folder: RunFolder, dataset: Dataset) -> Checkpoint | None:
        """The checkpoint that the run's stem kept where they part, with the stem's metrics up to there; None if it has none."""
        found = stem_of(run)
        if found is None:
            return None
        stem, epoch = RunFolder.of(self.out, found[0]), found[1]
        try:
            checkpoint = load_checkpoint(stem.kept(epoch))
        except TnaError:
            return None
        if checkpoint.metadata.data.fingerprint != dataset.fingerprint:
            return None
        folder.take_metrics(stem)
        self._emit(run, Branched(epoch, str(stem.path)))
        return checkpoint


def _explained(other: Sequence[tuple[Run, RunFolder, str]]) -> str:
    """The error for runs that learned from other data, with what can be done about it."""
    lines = [f"{len(other)} run{'s' if len(other) > 1 else ''} learned from other data than is there now:"]
    lines += [f"  {folder.path}: {how}" for _, folder, how in other[:8]]
    if len(other) > 8:
        lines.append(f"  and {len(other) - 8} more")
    lines.append(
        "Results of different data are not mixed. Restore the data, train again with --fresh (what is there is moved aside), or "
        "keep both: another --out."
    )
    return "\n".join(lines)
