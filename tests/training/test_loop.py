"""The loop: what it reports, that resumed equals uninterrupted, that compression happens when it should."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, tiny_tna_t_snn
from tnacli.errors import DataError, DivergedError, Interrupted, RunBusyError, Stopped
from tnacli.experiment import Experiment, Outcome
from tnacli.quant.weights import compression_mode
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.objective import Distill
from tnacli.recipe.schema.recipe import Settings, Train
from tnacli.runs.store import RunFolder
from tnacli.training.checkpoint import load_checkpoint, restore_network
from tnacli.training.events import Compressed, EpochDone, Event, Finished, Saved, Started, Warned
from tnacli.training.stop import StopRequest


class StopAfter(StopRequest):
    """Asks to stop after so many looks: one look a step."""

    def __init__(self, steps: int, signal: int | None = None) -> None:
        super().__init__()
        self.left, self._signal_then = steps, signal

    @property
    def asked(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self._signal = self._signal_then
            return True
        return False


def run_of(settings: Settings, seed: int = 0) -> Run:
    return Run("tiny", "run", seed, settings)


def tensors(outcome: Outcome) -> dict[str, torch.Tensor]:
    return load_checkpoint(outcome.checkpoint).tensors


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_it_learns_and_reports(out: Path) -> None:
    events: list[Event] = []
    run = run_of(tiny_tna_t_snn())
    outcome = Experiment(out, emit=lambda run, event: events.append(event)).execute(run)
    assert [type(event) for event in events if isinstance(event, Started | Finished)] == [Started, Finished]
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.epoch for event in epochs] == [1, 2, 3, 4]
    assert [event.compressed for event in epochs] == [None, None, "ternary", "ternary"]
    (compressed,) = [event for event in events if isinstance(event, Compressed)]
    assert compressed.epoch == 2
    assert set(compressed.shares) == {"conv2", "fc1"}
    assert set(epochs[0].train_parts) == {"cross_entropy", "sibling_cross_entropy", "matching"}
    assert epochs[1].train_loss < epochs[0].train_loss
    assert [event.epoch for event in events if isinstance(event, Saved)] == [2, 4], "before compression and at the end"
    assert set(outcome.result.accuracy) == {"base", "sibling1"}
    assert [row["epoch"] for row in outcome.folder.metrics()] == [1, 2, 3, 4]
    assert compression_mode(restore_network(load_checkpoint(outcome.checkpoint))) == "ternary"
    assert compression_mode(restore_network(load_checkpoint(outcome.checkpoint), "sibling1")) is None


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(out: Path, trained: Outcome) -> None:
    again = Experiment(out).execute(run_of(tiny_tna_t_snn()))
    other = Experiment(out).execute(run_of(tiny_tna_t_snn(), seed=1))
    assert same(tensors(again), tensors(trained))
    assert not same(tensors(again), tensors(other))


@pytest.mark.parametrize("steps", [0, 3, 5, 9, 13])
def test_resumed_equals_uninterrupted(out: Path, trained: Outcome, steps: int) -> None:
    """Four steps an epoch, compression after eight: stops within, at the border of and after every phase."""
    run = run_of(tiny_tna_t_snn())
    with pytest.raises(Stopped, match="The same command goes on"):
        Experiment(out, stop=StopAfter(steps)).execute(run)
    assert RunFolder.of(out, run).status == "interrupted"
    events: list[Event] = []
    resumed = Experiment(out, emit=lambda run, event: events.append(event)).execute(run)
    started = next(event for event in events if isinstance(event, Started))
    assert started.resumed_epoch * 4 + started.resumed_step == steps + 1
    assert same(tensors(resumed), tensors(trained))
    ignored = {"seconds", "samples_per_second"}
    ours, theirs = ([{k: v for k, v in row.items() if k not in ignored} for row in outcome.folder.metrics()]
                    for outcome in (resumed, trained))  # fmt: skip
    assert ours == theirs


class SignalInEvaluation(StopRequest):
    """A SIGTERM that comes while an epoch is evaluated, after so many of its batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    @property
    def signalled(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self._signal = 15
        return self._signal is not None


@pytest.mark.parametrize("batches", [0, 1, 4])
def test_a_stop_within_an_evaluation_keeps_the_whole_epoch(out: Path, trained: Outcome, batches: int) -> None:
    """Two batches an evaluation: 4 are those of two epochs, so the next one stands just after compression."""
    run = run_of(tiny_tna_t_snn())
    with pytest.raises(Stopped, match=r"SIGTERM received; saved .*step 4"):
        Experiment(out, stop=SignalInEvaluation(batches)).execute(run)
    resumed = Experiment(out).execute(run)
    assert same(tensors(resumed), tensors(trained))
    assert [row["epoch"] for row in resumed.folder.metrics()] == [1, 2, 3, 4]


def test_stopping_again_and_again_changes_nothing(out: Path, trained: Outcome) -> None:
    run, stops = run_of(tiny_tna_t_snn()), 0
    while True:
        try:
            outcome = Experiment(out, stop=StopAfter(2)).execute(run)
            break
        except Stopped:
            stops += 1
    assert stops >= 5
    assert same(tensors(outcome), tensors(trained))


def test_ctrl_c_is_told_from_other_stops(out: Path) -> None:
    with pytest.raises(Interrupted, match="interrupted; saved"):
        Experiment(out, stop=StopAfter(1, signal=2)).execute(run_of(TINY))
    with pytest.raises(Stopped, match="time limit reached"):
        Experiment(out, stop=StopRequest(limit_seconds=0)).execute(run_of(TINY))


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_used(out: Path, trained: Outcome) -> None:
    run = run_of(tiny_tna_t_snn())
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(9)).execute(run)
    folder = RunFolder.of(out, run)
    assert folder.previous.exists()
    folder.last.write_bytes(folder.last.read_bytes()[:-1000])
    events: list[Event] = []
    resumed = Experiment(out, emit=lambda run, event: events.append(event)).execute(run)
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "using the one before it. The damaged file is kept as last.damaged" in warning.message
    assert (folder.path / "last.damaged").exists()
    assert same(tensors(resumed), tensors(trained))


def test_finished_runs_are_not_trained_again_and_fresh_ones_move_the_old_aside(out: Path) -> None:
    run = run_of(TINY)
    first = Experiment(out).execute(run)
    again = Experiment(out).execute(run)
    assert first.trained
    assert not again.trained
    assert again.result == first.result
    fresh = Experiment(out).execute(run, fresh=True)
    assert fresh.trained
    assert fresh.folder.path == first.folder.path
    assert [path.name for path in out.glob("*/*.old1")] == [first.folder.path.name + ".old1"]


def test_another_recipe_finds_the_same_run(out: Path) -> None:
    Experiment(out).execute(Run("table1", "baseline", 0, TINY))
    assert not Experiment(out).execute(Run("table2", "fp_snn", 0, TINY)).trained


def test_a_run_that_another_process_holds_is_refused(out: Path) -> None:
    run = run_of(TINY)
    with RunFolder.of(out, run).locked(), pytest.raises(RunBusyError, match="another process"):
        Experiment(out).execute(run)


def test_a_diverging_run_keeps_its_last_good_checkpoint(out: Path) -> None:
    hopeless = TINY.model_copy(update={"train": Train(epochs=3, batch_size=32, learning_rate=1e30)})
    run = run_of(hopeless)
    with pytest.raises(DivergedError, match=r"train.learning_rate"):
        Experiment(out).execute(run)
    assert RunFolder.of(out, run).status in ("new", "interrupted")


def test_a_layer_that_comes_out_all_zero_ends_the_run(out: Path) -> None:
    run = run_of(TINY.model_copy(update={"compression": Ternary(start=1, delta=5.0)}))
    with pytest.raises(DivergedError, match="every weight of these layers becomes zero: conv2"):
        Experiment(out).execute(run)
    assert RunFolder.of(out, run).status == "interrupted"


def test_changed_data_is_noticed_before_training_goes_on(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is known of the files, and where only the checkpoint tells."""
    from tnacli.training import run_data

    run = run_of(TINY)
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(2)).execute(run)
    load = run_data.load
    monkeypatch.setattr(run_data, "load", lambda *a, **k: replace(load(*a, **k), fingerprint="other"))
    with pytest.raises(DataError, match="not the one that this run began with"):
        Experiment(out).execute(run)
    folder = RunFolder.of(out, run)
    begun = folder.require_begun()
    data = begun.data.model_copy(update={"files": None})
    folder.begin(begun.model_copy(update={"data": data}), 0)
    with pytest.raises(DataError, match=r"1 run learned from other data than is there now:\n.*: other samples\n"):
        Experiment(out).execute(run)


def test_the_best_epoch_on_held_out_samples_is_kept(out: Path) -> None:
    data = TINY.data.model_copy(update={"validation_samples": 40})
    train = TINY.train.model_copy(update={"select": "val", "epochs": 6, "learning_rate": 0.05})
    settings = TINY.model_copy(update={"data": data, "train": train})
    outcome = Experiment(out).execute(run_of(settings))
    rows = outcome.folder.metrics()
    best = max(range(6), key=lambda i: (rows[i]["accuracy"]["base"], -i))
    assert {row["measured_on"] for row in rows} == {"validation"}
    assert outcome.result.selected_epoch == best + 1
    assert outcome.result.select == "val"


def test_a_teacher_is_trained_once_and_reused(out: Path) -> None:
    seen: list[str] = []

    def emit(run: Run, event: Event) -> None:
        if isinstance(event, Finished):
            seen.append(run.name)

    experiment = Experiment(out, emit=emit)
    for alpha in (1e-3, 1e-4):
        settings = TINY.model_copy(update={"objective": Distill(alpha=alpha)})
        experiment.execute(Run("kd", f"kd_{alpha}", 0, settings))
    assert seen == ["teacher", "kd_0.001", "kd_0.0001"]


def test_no_epochs_at_all_is_compression_alone(out: Path, trained_full: Outcome) -> None:
    from tnacli.training.fine_tune import compression_run

    checkpoint = load_checkpoint(trained_full.checkpoint)
    run = compression_run(checkpoint, Ternary(start=0, delta=0.05), source="x", epochs=0)
    outcome = Experiment(out, initial={checkpoint.digest: checkpoint}).execute(run)
    compressed = restore_network(load_checkpoint(outcome.checkpoint))
    latent = restore_network(checkpoint).hidden["fc1"].synapse.weight
    assert torch.equal(compressed.hidden["fc1"].synapse.weight, (latent > 0.05).float() - (latent < -0.05).float())


def test_dead_layers_are_named_together_and_only_when_they_change(out: Path) -> None:
    """No input reaches the threshold without batch norm: every layer is silent, in every epoch, and said once."""
    neuron = TINY.model.neuron.model_copy(update={"threshold": 1e6})
    model = TINY.model.model_copy(update={"norm": "none", "neuron": neuron})
    events: list[Event] = []
    Experiment(out, emit=lambda run, event: events.append(event)).execute(
        run_of(TINY.model_copy(update={"model": model}))
    )
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert warning.message.startswith("epoch 2: never spikes: conv1, conv2, fc1. ")
    for advice in ("smaller train.learning_rate", "model.norm: batch", "lower model.neuron.threshold"):
        assert advice in warning.message


def test_what_is_set_already_is_not_advised(out: Path) -> None:
    """Batch norm is there, and no threshold is so high that the neurons of the first epoch could all be alive."""
    neuron = TINY.model.neuron.model_copy(update={"threshold": 1e6})
    model = TINY.model.model_copy(update={"neuron": neuron})
    events: list[Event] = []
    experiment = Experiment(out, emit=lambda run, event: events.append(event))
    experiment.execute(run_of(TINY.model_copy(update={"model": model})))
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert warning.startswith("epoch 2: never spikes: conv1, conv2, fc1. ")
    assert "model.norm" not in warning


def test_a_layer_that_always_spikes_is_told_from_a_silent_one(out: Path) -> None:
    neuron = TINY.model.neuron.model_copy(update={"threshold": 1e-6, "decay": 1.0})
    model = TINY.model.model_copy(update={"norm": "none", "neuron": neuron, "layout": "4C3-AP2-6C3-AP2-12FC"})
    events: list[Event] = []
    experiment = Experiment(out, emit=lambda run, event: events.append(event))
    train = TINY.train.model_copy(update={"epochs": 2, "learning_rate": 1e-9})
    outcome = experiment.execute(run_of(TINY.model_copy(update={"model": model, "train": train})))
    rates = outcome.folder.metrics()[1]["firing_rate"]
    dead = [name for name, rate in rates.items() if rate == 0 or rate > 0.95]
    said = " ".join(event.message for event in events if isinstance(event, Warned))
    assert [name for name in rates if f" {name}" in said] == dead
    assert ("raise" in said) == any(rate > 0.95 for rate in rates.values())


@pytest.mark.parametrize("finished", [True, False])
def test_what_a_killed_process_was_writing_is_removed_by_the_next(out: Path, finished: bool) -> None:
    run = run_of(TINY)
    if finished:
        Experiment(out).execute(run)
    else:
        with pytest.raises(Stopped):
            Experiment(out, stop=StopAfter(5)).execute(run)
    folder = RunFolder.of(out, run).path
    for name in ("new.pt", ".new.pt.01234567.part", ".result.json.89abcdef.part"):
        (folder / name).write_bytes(b"half")
    (folder / "notes.txt").write_text("not ours")
    Experiment(out).execute(run)
    assert sorted(path.name for path in folder.iterdir()) == [
        "last.pt", "lock", "metrics.jsonl", "notes.txt", "result.json", "run.json"
    ]  # fmt: skip


def test_a_stopped_fresh_run_says_that_fresh_begins_anew(out: Path) -> None:
    with pytest.raises(Stopped, match="Leave out --fresh then"):
        Experiment(out, stop=StopAfter(1)).execute(run_of(TINY), fresh=True)


def test_a_finished_pupil_needs_no_teacher(out: Path) -> None:
    taught = run_of(TINY.model_copy(update={"objective": Distill(alpha=1.0)}))
    assert taught.teacher is not None
    first = Experiment(out).execute(taught)
    shutil.rmtree(RunFolder.of(out, taught.teacher).path)
    again = Experiment(out).execute(taught)
    assert (again.trained, again.result) == (False, first.result)
    assert RunFolder.of(out, taught.teacher).status == "new"


def test_a_finished_run_is_compared_with_data_that_is_loaded_already(out: Path) -> None:
    Experiment(out).execute(run_of(TINY))
    experiment = Experiment(out)
    experiment.dataset(run_of(TINY))
    assert not experiment.execute(run_of(TINY)).trained
    (folder,) = out.glob("tiny/*")
    result = json.loads((folder / "result.json").read_text())
    result["data"]["fingerprint"] = "another"
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(DataError, match="other samples"):
        experiment.execute(run_of(TINY))
    assert experiment.execute(run_of(TINY), fresh=True).trained
