"""Runs from plan to result: find or make the folder, load the data, build, train, go on where it was left, store.

The command line and scripts go through here; nothing is drawn and nothing printed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tnacli.build import build_objective
from tnacli.data.batches import Batches
from tnacli.data.load import load
from tnacli.data.locate import source_there
from tnacli.data.samples import Dataset, Samples
from tnacli.errors import DataError, FileFormatError, RunBusyError, Stopped, StorageError, TnaError
from tnacli.exporting import Exported, export_checkpoint
from tnacli.objectives.objective import Objective
from tnacli.quant.weights import load_latent_state
from tnacli.recipe.identity import Run
from tnacli.recipe.schema import Settings, as_json
from tnacli.report.store import RunFolder
from tnacli.snn.native import switched_off
from tnacli.stems import stem_of, wanted_epochs
from tnacli.training.checkpoint import Checkpoint, load_checkpoint, restore_network, save_checkpoint
from tnacli.training.device import peak_beyond_mb, resolve_device, resolve_precision, settled_memory_mb
from tnacli.training.distributed import Ranks, ranks, require_shares
from tnacli.training.events import Branched, EpochDone, Event, Warned
from tnacli.training.execution import compile_regions, kernels, prepare, threads
from tnacli.training.loop import Splits, Trainer
from tnacli.training.stop import StopRequest
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
    result: dict[str, Any]
    trained: bool

    @property
    def checkpoint(self) -> Path:
        return self.folder.last


class Experiment:
    """Executes runs below the folder `out`, loading each data set once.

    Under torchrun every process makes one; the first alone looks at folders, writes, and tells the others. `emit` hears every
    event of every run, in the first process. `initial` maps identities of checkpoints to start from to the checkpoints.
    `coming` are the runs that are to be executed: a full-precision one keeps the checkpoints that they branch off from.
    """

    def __init__(
        self,
        out: Path,
        *,
        emit: Emit = lambda run, event: None,
        stop: StopRequest | None = None,
        on_data: Callable[[str, int, int], None] | None = None,
        initial: Mapping[str, Checkpoint] | None = None,
        coming: Iterable[Run] = (),
    ) -> None:
        self.out = out
        self._wanted = wanted_epochs(coming)
        self._emit, self._stop, self._on_data = emit, stop or StopRequest(), on_data
        self._initial = dict(initial or {})
        self._datasets: dict[str, Dataset] = {}
        self._warned_of_slow_path = False
        self._ranks = ranks()
        if not self._ranks.first:
            self._emit = lambda run, event: None

    def execute(self, run: Run, *, fresh: bool = False) -> Outcome:
        """The result of `run`: taken from its folder if finished, else trained, going on from its last checkpoint.

        A finished run that is asked for `fresh` is trained again; what was there is moved aside, not overwritten.
        """
        with contextlib.ExitStack() as held:
            outcome = self._ranks.told(lambda: self._found(run, held, fresh))
            if not outcome.trained:
                return outcome
            try:
                return dataclasses.replace(outcome, result=self._train(run, outcome.folder))
            except Stopped as error:
                if fresh:
                    error.args = (f"{error} Leave out --fresh then, which begins anew.",)
                raise

    def finished(self, run: Run) -> bool:
        """Whether the result of `run` is there already."""
        return self._ranks.told(lambda: RunFolder.of(self.out, run).status == "finished")

    def _found(self, run: Run, held: contextlib.ExitStack, fresh: bool) -> Outcome:
        """A finished run as it was found, or one to be trained, with its folder locked until `held` is closed."""
        folder = RunFolder.of(self.out, run)
        if fresh:
            with folder.locked():
                folder.set_aside()
        if folder.status == "finished" and folder.result is not None:
            # Left by a killed export. Another process at it, or a place that is only read, is no reason to fail.
            with contextlib.suppress(RunBusyError, StorageError), folder.locked():
                folder.remove_leftovers()
            if (said := self._other_data(run, folder.result)) is not None:
                self._emit(run, Warned(said))
            return Outcome(run, folder, folder.result, trained=False)
        held.enter_context(folder.locked())
        if folder.status == "finished" and folder.result is not None:  # by another process, just now
            return Outcome(run, folder, folder.result, trained=False)
        folder.remove_leftovers()
        return Outcome(run, folder, {}, trained=True)

    def _other_data(self, run: Run, result: Mapping[str, Any]) -> str | None:
        """That a finished run learned from other data than it would now, as far as can be told without reading any."""
        then, loaded = result["data"], self._datasets.get(_data_key(run))
        now = source_there(run.settings.data) if loaded is None else loaded.source
        if now is not None and now != then["source"]:
            return f"finished before on {_SOURCES[then['source']]}; now {_SOURCES[now]} are there; --fresh trains anew"
        if loaded is not None and loaded.fingerprint != then["fingerprint"]:
            return f"finished before on other samples than {loaded.name} has now; --fresh trains anew"
        return None

    def _teacher(self, run: Run) -> Checkpoint | None:
        """The checkpoint of the network that teaches `run`, trained if need be; None for a run that has no teacher."""
        if run.teacher is None:
            return None
        # A teacher is shared by many runs; asking for them afresh does not train it again.
        taught = self.execute(run.teacher)
        return self._ranks.told(lambda: load_checkpoint(taught.checkpoint))

    def _train(self, run: Run, folder: RunFolder) -> dict[str, Any]:
        settings = run.settings
        taught_by = self._teacher(run)
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
        if run.initial is not None:
            _start_from(objective, self._initial[run.initial])
        prepare(objective, settings)

        def emit(event: Event) -> None:
            if isinstance(event, EpochDone) and self._ranks.first:
                folder.append_metrics(dataclasses.asdict(event))
            self._emit(run, event)

        def save(checkpoint: Checkpoint) -> str:
            save_checkpoint(folder.new, checkpoint)
            folder.promote(folder.new)
            state = checkpoint.about["state"]
            if state["step"] == 0 and state["epoch"] in self._wanted.get(run.identity, ()):
                folder.keep(state["epoch"])
            return str(folder.last)

        resumed = self._ranks.told(lambda: self._newest(run, folder) or self._branched(run, folder, dataset))
        precision, kept = _precision(settings, device, resumed)
        path, slow = kernels(objective, device, None if resumed is None else resumed.about.get("kernels"))
        about = {**_about(run, dataset, self._ranks), "kernels": path}
        splits = _splits(dataset, run, device, self._ranks)
        trainer = Trainer(
            objective, settings, splits, seed=run.seed, about=about, device=device,
            precision=precision, save=save, emit=emit, stop=self._stop, ranks=self._ranks,
        )  # fmt: skip
        if resumed is not None:
            if resumed.about["data"]["fingerprint"] != dataset.fingerprint:
                raise DataError(
                    f"{folder.path}: the data set is not the one that this run began with ({dataset.name} from "
                    f"{resumed.about['data']['source']} then, from {dataset.source} now, or files changed). Restore it, "
                    f"or train again with --fresh."
                )
            trainer.restore(resumed)
        begun = {**about, "settings": as_json(settings), "seed": run.seed}
        self._ranks.told(lambda: folder.begin(begun, 0 if resumed is None else resumed.about["state"]["epoch"]))
        regions, compiled = compile_regions(
            objective, settings, device, splits.train, lambda message: emit(Warned(message))
        )
        with threads(objective, settings, device) as reason:
            notes = (f"{dataset.name} from {_SOURCES[dataset.source]}", kept, reason, compiled,
                     None if regions is not None else self._slow_path(run, slow))  # fmt: skip
            trainer.notes = tuple(note for note in notes if note is not None)
            taught_by = resumed = None  # what is on the networks by now
            settled_memory_mb(device)
            finished = trainer.run()
            peak_mb = peak_beyond_mb(device, held_mb)
        result = {
            **about,
            "seed": run.seed,
            **dataclasses.asdict(finished),
            "epochs": settings.train.epochs,
            "device": str(device),
            "precision": precision,
            "peak_beyond_start_mb": peak_mb,
            "compiled_regions": regions is not None and not regions.failure,
        }
        self._ranks.told(lambda: folder.finish(result))
        return result

    def _slow_path(self, run: Run, slow: str | None) -> str | None:
        """A note for whoever watches closely; the first time a warning instead, unless the user wants it so."""
        if slow is None or self._warned_of_slow_path or switched_off():
            return slow
        self._warned_of_slow_path = True
        self._emit(run, Warned(f"{slow}; results differ a little from those with them. `tna doctor` says what helps"))
        return None

    def export(self, outcome: Outcome) -> Exported:
        """A packed file beside the checkpoint of a compressed run, verified on its test samples."""
        dataset = self.dataset(outcome.run)
        packed = outcome.folder.path / "packed.safetensors"
        trusted = outcome.run.settings.model.build

        def write() -> Exported:
            with outcome.folder.locked():
                return export_checkpoint(outcome.checkpoint, packed, dataset=dataset, trusted=trusted)

        return self._ranks.told(write)

    def dataset(self, run: Run) -> Dataset:
        """The data of a run, from memory if an earlier run had the same."""
        key = _data_key(run)
        if key not in self._datasets:
            self._datasets.clear()  # one at a time: they can be large
            self._datasets[key] = self._ranks.in_turn(
                lambda: load(run.settings.data, run.settings.model.timesteps, on_progress=self._on_data)
            )
        return self._datasets[key]

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
        if checkpoint.about["data"]["fingerprint"] != dataset.fingerprint:
            return None
        folder.take_metrics(stem)
        self._emit(run, Branched(epoch, str(stem.path)))
        return checkpoint


def _data_key(run: Run) -> str:
    return repr((run.settings.data, run.settings.model.timesteps))


def _precision(settings: Settings, device: torch.device, begun: Checkpoint | None) -> tuple[str, str | None]:
    """The precision that a run trains in, and what is to be said of it: one that goes on keeps that which it began in.

    `auto` means another on another machine, and its name is all that a run's identity has. Raises DeviceError if `device`
    does not have it.
    """
    wanted = settings.train.precision
    found = resolve_precision(wanted, device)
    before = None if begun is None else begun.about.get("precision")  # not in older checkpoints
    if before is None or before == found:
        return found, f"train.precision: auto is {found} here" if wanted == "auto" else None
    resolve_precision(before, device)
    return before, f"in {before}, as it began; train.precision: auto would be {found} here"


def _start_from(objective: Objective, initial: Checkpoint) -> None:
    """Fill the networks with the weights that a checkpoint has for them; a twin that it does not have starts fresh."""
    for name, network in objective.networks.items():
        if name in initial.networks():
            load_latent_state(network, initial.under(f"networks/{name}"))
    helpers = initial.under("auxiliary")
    if helpers.keys() == objective.auxiliary.state_dict().keys():
        objective.auxiliary.load_state_dict(helpers)


def _about(run: Run, dataset: Dataset, among: Ranks) -> dict[str, Any]:
    altered = list(run.altered)
    if not among.alone and not run.settings.runtime.sync_batch_norm:
        altered.append(f"batch norm in each of {among.world} processes by itself")
    return {
        "recipe": run.recipe,
        "run": run.name,
        "identity": run.identity,
        "altered": altered,
        "initial": run.initial,
        "data": {"name": dataset.name, "source": dataset.source, "fingerprint": dataset.fingerprint},
        "kind": dataset.kind,
        "classes": list(dataset.classes),
        "channels": dataset.channels,
        "size": list(dataset.size),
        "mean": None if dataset.mean is None else list(dataset.mean),
        "std": None if dataset.std is None else list(dataset.std),
        "versions": {"tnacli": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def _splits(dataset: Dataset, run: Run, device: torch.device, among: Ranks) -> Splits:
    size = run.settings.train.batch_size
    require_shares(among, size, train=len(dataset.train), test=len(dataset.test))

    def batches(samples: Samples | None, training: bool) -> Batches:
        assert samples is not None
        return Batches(
            samples, dataset, size, device, seed=run.seed, training=training, rank=among.rank, world=among.world
        )

    return Splits(
        batches(dataset.train, True),
        batches(dataset.test, False),
        None if dataset.validation is None else batches(dataset.validation, False),
    )
