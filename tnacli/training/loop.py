"""The training loop: one for every objective, with compression as a step of its schedule.

Every random choice is a function of the run's seed and of the epoch and step it is made in, so the position of a
checkpoint is all the random state there is, and a resumed run makes the choices that an uninterrupted one would have.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tnacli.data.batches import Batch, Batches
from tnacli.errors import DivergedError, FileFormatError
from tnacli.evaluation.accuracy import evaluate_network
from tnacli.evaluation.scores import Evaluation
from tnacli.objectives.objective import Losses, Objective
from tnacli.quant.weights import (
    compress,
    compressed_layers,
    compression_mode,
    latent_state,
    load_latent_state,
    weight_shares,
)
from tnacli.recipe.schema.model import Model
from tnacli.runs.metadata import BegunRun, CheckpointMetadata, TrainingState
from tnacli.seeds import derive
from tnacli.snn.network import Network, SpikingLayer
from tnacli.training.adam import Adam
from tnacli.training.batch_norm import synchronise_batch_norm
from tnacli.training.checkpoint import Checkpoint
from tnacli.training.dead_layers import dead_layers, remedies_for
from tnacli.training.device import peak_memory_mb
from tnacli.training.distributed import dropout_by_sample, lost_processes_explained, wrapped
from tnacli.training.epoch_sums import EpochSums
from tnacli.training.events import Compressed, EpochDone, Event, Finished, Progress, Started, Warned
from tnacli.training.execution import Execution
from tnacli.training.precision import arithmetic, autocast, loss_scaler
from tnacli.training.schedule import compression_epoch, compression_epochs, learning_rate
from tnacli.training.stop import StopRequest
from tnacli.training.trained import (
    add_new_parameters,
    arrival,
    copied_to_cpu,
    first_not_finite,
    kept_scale,
    kept_tensors,
    load_scale,
    load_training_state,
    trained_parameters,
)
from tnacli.training.writer import CheckpointWriter

PROGRESS_SECONDS = 0.25
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Splits:
    """The batches of a run: to train on, to watch between epochs, and to report on."""

    train: Batches
    test: Batches
    validation: Batches | None = None

    @property
    def watched(self) -> tuple[str, Batches]:
        return ("validation", self.validation) if self.validation is not None else ("test", self.test)


@dataclass
class _State:
    """Where training stands, as `TrainingState` says of a checkpoint."""

    epoch: int = 0
    step: int = 0
    compressed: bool = False
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)
    best_epoch: int | None = None
    best_accuracy: float = -1.0
    partly: tuple[str, ...] = ()
    learning_rate: float = 0.0


class Trainer:
    """Trains the networks of one objective from a fresh start or a checkpoint to the end, or until asked to stop.

    `begun` is the run with its settings and data; it is stored in every checkpoint. `save` makes a checkpoint durable and
    returns where; it is called in a thread beside training, and for the end of each of `kept_epochs` whatever the settings say.
    Everything that happens is reported to `emit`. With several processes, each has a trainer, whose batches are its share;
    all reach the same weights, and only the first one's `save` is called.
    """

    def __init__(
        self,
        objective: Objective,
        begun: BegunRun,
        splits: Splits,
        *,
        execution: Execution,
        save: Callable[[Checkpoint], str],
        kept_epochs: Iterable[int] = (),
        emit: Callable[[Event], None],
        stop: StopRequest,
    ) -> None:
        self.begun, self.splits = begun, splits
        self.device, self.precision, self._ranks = execution.device, execution.precision, execution.ranks
        self.settings = settings = begun.settings
        self.seed = begun.seed
        self._emit, self._stop = emit, stop
        # Channels-last convolutions and pooling are faster on CPUs and CUDA alike; weights keep their values.
        self.objective = objective.to(self.device).to(memory_format=torch.channels_last)
        self._expect: Callable[[int], None] = lambda samples: None
        if not self._ranks.alone:
            if settings.runtime.sync_batch_norm:
                synchronise_batch_norm(self.objective)
            self._expect = dropout_by_sample(self.objective, self._ranks)
        self._compressed_at = compression_epoch(settings)
        compressions = compression_epochs(settings, list(self.base.hidden)).values()
        always = {*kept_epochs, *compressions, settings.train.epochs}
        every = settings.runtime.checkpoint_every
        self._writer = CheckpointWriter(save, emit, self._ranks, every=every, always=always)
        self._adam = Adam(
            trained_parameters(self.objective).values(),
            lr=settings.train.learning_rate,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self._scaler = loss_scaler(self.device, self.precision)
        self._state = _State()
        self._best: dict[str, Tensor] = {}
        self._dead: dict[str, str] = {}
        self._wrapped: nn.Module = self.objective
        self._dropping = {
            name: layer for name, layer in objective.networks.named_modules()
            if isinstance(layer, SpikingLayer) and self.device.type == "cuda"
        }  # fmt: skip
        self.notes: tuple[str, ...] = ()  # on how the run is executed, for whoever watches

    @property
    def base(self) -> Network:
        base = self.objective.base
        assert isinstance(base, Network)
        return base

    def run(self) -> Finished:
        """Train to the end. Raises Stopped after saving when asked to stop, DivergedError when nothing can be learned."""
        with lost_processes_explained(self._ranks):
            exact = arithmetic(self.precision, deterministic=self.settings.runtime.deterministic)
            with self._stop.deferred(), exact, self._writer.finished():
                self._train()
            self._wrapped = self.objective  # what adds gradients up has done its work
            # All that remains is on disk: a signal may now end the process at once.
            finished = self._finish()
        self._emit(finished)
        return finished

    def _train(self) -> None:
        state, epochs = self._state, self.settings.train.epochs
        self._emit(
            Started(
                epochs, len(self.splits.train), self.splits.train.sample_count,
                sum(p.numel() for p in self.objective.parameters()), str(self.device), self.precision,
                state.epoch, state.step, self.notes,
            )
        )  # fmt: skip
        self._wrapped = wrapped(self.objective, self._ranks, self.device)
        while state.epoch < epochs:
            self._compress_what_is_due()
            self._train_epoch()
            self._end_epoch()
            if self._writer.due(state.epoch):
                self._save_checkpoint()
        if self._compress_what_is_due():  # no epochs at all: compression alone
            self._save_checkpoint()

    # One epoch

    def _train_epoch(self) -> None:
        state, batches = self._state, self.splits.train
        self.objective.train()
        sums = self._resumed_sums()
        began = shown = time.perf_counter()
        before, already = state.epoch_seconds, sums.samples
        for batch in batches.epoch(state.epoch, state.step):
            sums.add(self._step(batch), batch.labels, batch.total)
            state.step += 1
            now = time.perf_counter()
            show, stop, written = self._ranks.any(now - shown >= PROGRESS_SECONDS, self._stop.asked, self._writer.ended)
            if written:
                self._writer.wait()
            if show:
                shown = now
                seen = EpochSums(_CPU, self._ranks.sum(sums.totals()))
                rate = (sums.samples - already) / (now - began)
                self._require_finite(seen.loss)
                self._emit(Progress(state.epoch, state.step, seen.loss, seen.parts, seen.accuracy["base"], rate))
            if stop:
                state.totals, state.epoch_seconds = self._ranks.sum(sums.totals()), before + now - began
                raise self._stop.as_error(self._save_before_stopping())
        state.totals, state.epoch_seconds = self._ranks.sum(sums.totals()), before + time.perf_counter() - began

    def _resumed_sums(self) -> EpochSums:
        """What was summed up in this epoch so far; the first process stands for all that did it."""
        totals = self._state.totals
        mine = totals if self._ranks.first else {name: n if name == "samples" else 0.0 for name, n in totals.items()}
        return EpochSums(self.device, mine)

    def _step(self, batch: Batch) -> Losses:
        state, train = self._state, self.settings.train
        # Dropout is the only user of torch's global generator within a step. What that draws differs between GPUs.
        # A CPU's is asked by itself: `torch.manual_seed` looks for all devices first, a tenth of a millisecond.
        seeded = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seeded(derive(self.seed, "dropout", state.epoch, state.step))
        for name, layer in self._dropping.items():
            layer.dropout_key = derive(self.seed, "dropout", state.epoch, state.step, name)
        progress = state.epoch + state.step / len(self.splits.train)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate(train, progress, self._compressed_at)
        self._expect(batch.total)
        share = len(batch.labels) / batch.total
        self._adam.zero_grad(set_to_none=True)  # now, so that the forward pass has their memory
        with autocast(self.device, self.precision):
            losses: Losses = self._wrapped(batch.inputs, batch.labels, share, progress)
        # The gradients of several processes are averaged, and their losses add up.
        self._scaler.scale(losses.total if self._ranks.alone else losses.total * self._ranks.world).backward()
        self._scaler.step(self._adam)
        self._scaler.update()
        if state.step == 0:
            state.learning_rate = self._adam.param_groups[0]["lr"]
        return losses

    def _end_epoch(self) -> None:
        """Measure the base on the watched samples if it is time to, report the epoch, and begin the next."""
        state = self._state
        sums = EpochSums(_CPU, state.totals)
        self._require_finite(sums.loss)
        measured = self._evaluated() if self._is_evaluated(state.epoch + 1) else None
        if measured is not None:
            self._warn_of_dead_layers(measured.firing_rate)
        done = EpochDone(
            epoch=state.epoch + 1,
            learning_rate=state.learning_rate,
            train_loss=sums.loss,
            train_parts=sums.parts,
            train_accuracy=sums.accuracy,
            measured_on=self.splits.watched[0],
            loss={} if measured is None else {"base": measured.loss},
            accuracy={} if measured is None else {"base": measured.accuracy},
            firing_rate={} if measured is None else measured.firing_rate,
            compressed=self.settings.compression.mode if state.compressed and self.settings.compression else None,
            shares=weight_shares(self.base),
            seconds=state.epoch_seconds,
            samples_per_second=sums.samples / max(state.epoch_seconds, 1e-9),
        )
        state.seconds += state.epoch_seconds
        state.epoch, state.step, state.totals, state.epoch_seconds = state.epoch + 1, 0, {}, 0.0
        selecting = self.settings.train.select != "last"
        if selecting and measured is not None and measured.accuracy > state.best_accuracy:
            state.best_epoch, state.best_accuracy = state.epoch, measured.accuracy
            self._best = {name: value.detach().clone() for name, value in latent_state(self.base).items()}
        self._emit(done)

    def _is_evaluated(self, epoch: int) -> bool:
        """Whether the base is measured at the end of `epoch` (from 1)."""
        return epoch % self.settings.train.evaluate_every == 0 or epoch == self.settings.train.epochs

    def _evaluated(self) -> Evaluation:
        """The base on the watched samples."""
        _, batches = self.splits.watched
        return self._ranks.merged(evaluate_network(self.base, self._until_stopped(batches.epoch(0))))

    def _until_stopped(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of an evaluation that hold any of this process's samples. Raises Stopped, after saving, on a signal.

        Nothing of the evaluation is kept: training goes on from before it, at the end of the epoch. A time limit waits for
        the next step, so that one shorter than an evaluation cannot stop the same run at the same place for ever.
        """
        for batch in batches:
            if self._ranks.any(self._stop.signalled)[0]:
                raise self._stop.as_error(self._save_before_stopping())
            if len(batch.labels):
                yield batch

    def _compress_what_is_due(self) -> bool:
        """Compress the layers that are trained compressed from this epoch on, and are not yet; whether there were any."""
        state, compression, done = self._state, self.settings.compression, compressed_layers(self.base)
        epochs = compression_epochs(self.settings, list(self.base.hidden))
        due = [name for name, epoch in epochs.items() if epoch <= state.epoch and name not in done]
        if not due:
            return False
        assert compression is not None
        shares = compress(self.base, compression, due, refuse_silent=True)
        state.compressed = compression_mode(self.base) is not None
        state.partly = () if state.compressed else tuple(compressed_layers(self.base))
        add_new_parameters(self._adam, trained_parameters(self.objective))
        # The hooks by which gradients are added up go when a weight is put behind a parametrization.
        self._wrapped = wrapped(self.objective, self._ranks, self.device)
        # Only compressed weights can be the result: what was best before no longer counts.
        state.best_epoch, state.best_accuracy, self._best = None, -1.0, {}
        self._emit(Compressed(state.epoch, compression.mode, shares))
        return True

    # Checks

    def _require_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            remedies = ["a smaller train.learning_rate", *self.objective.remedies]
            if self.precision != "fp32":
                remedies.append("or train.precision: fp32")
            raise DivergedError(
                f"the loss became {loss} in epoch {self._state.epoch + 1}; the last checkpoint is kept. "
                f"Try {', '.join(remedies)}."
            )

    def _warn_of_dead_layers(self, rates: dict[str, float]) -> None:
        """One warning that names every layer that passes on nothing, given again only when they change.

        Not after the first epoch, in which layers that have hardly learned may yet wake up.
        """
        if not self.settings.model.spiking or self._state.epoch == 0:
            return
        dead = dead_layers(rates)
        if dead and dead != self._dead:
            self._emit(Warned(f"epoch {self._state.epoch + 1}: {remedies_for(dead, rates, self.settings.model)}"))
        self._dead = dead

    # Checkpoints

    def checkpoint(self) -> Checkpoint:
        """Everything that a run of the same settings needs to go on from here, bit for bit; on CUDA once it has arrived."""
        metadata = CheckpointMetadata(
            **dict(self.begun),
            networks={name: _model(network) for name, network in self.objective.networks.items()},
            state=TrainingState(**dataclasses.asdict(self._state)),
            compressed=self._state.compressed,
            precision=self.precision,
        )
        kept = copied_to_cpu(kept_tensors(self.objective, self._adam, self._best))
        return Checkpoint(metadata, kept | kept_scale(self._scaler))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`, which must be of a run with the same settings and seed."""
        self._state = _State(**checkpoint.metadata.state.model_dump())
        try:
            self._restore(checkpoint)
        except (RuntimeError, KeyError) as error:
            raise FileFormatError(f"the checkpoint does not fit the run that it belongs to: {error}") from None

    def _restore(self, checkpoint: Checkpoint) -> None:
        if self.settings.compression is not None:
            done = None if self._state.compressed else self._state.partly
            compress(self.base, self.settings.compression, done)
        add_new_parameters(self._adam, trained_parameters(self.objective))
        load_training_state(self.objective, self._adam, checkpoint)
        load_scale(self._scaler, checkpoint)
        self._best = {key: value.to(self.device) for key, value in checkpoint.under("best").items()}

    def _save_checkpoint(self) -> None:
        broken = first_not_finite(kept_tensors(self.objective, self._adam, self._best))
        if broken is not None:
            raise DivergedError(
                f"{broken} holds NaN or infinite values after epoch {self._state.epoch}; the checkpoint before is kept. "
                f"Try a smaller train.learning_rate."
            )
        self._writer.begin(self.checkpoint, lambda: arrival(self.device))

    def _save_before_stopping(self) -> str:
        self._save_checkpoint()
        saved = self._writer.wait()
        assert saved is not None
        return f"saved {saved.path} at epoch {saved.epoch + 1}, step {saved.step}. The same command goes on from there."

    # The end

    def _finish(self) -> Finished:
        state = self._state
        if self._best:
            load_latent_state(self.base, self._best)
        measured: dict[str, Evaluation] = {}
        for name, network in self.objective.networks.items():
            assert isinstance(network, Network)
            measured[name] = self._measured(network, self.splits.test)
        held_out = self.splits.validation
        return Finished(
            accuracy={name: result.accuracy for name, result in measured.items()},
            loss={name: result.loss for name, result in measured.items()},
            selected_epoch=state.best_epoch or state.epoch,
            select=self.settings.train.select,
            compressed=self.settings.compression.mode if state.compressed and self.settings.compression else None,
            seconds=state.seconds,
            peak_memory_mb=peak_memory_mb(self.device),
            firing_rate=measured["base"].firing_rate,
            validation={} if held_out is None else {"base": self._measured(self.base, held_out).accuracy},
        )

    def _measured(self, network: Network, batches: Batches) -> Evaluation:
        shares = (batch for batch in batches.epoch(0) if len(batch.labels))
        return self._ranks.merged(evaluate_network(network, shares))


def _model(network: nn.Module) -> Model:
    assert isinstance(network, Network)
    return network.described
