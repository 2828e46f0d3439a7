"""Runs with other siblings and with artificial networks, from training to what can be done with the result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tests.training.test_loop import StopAfter, run_of, same, tensors
from tnacli.deploy.from_checkpoint import checkpoint_batches
from tnacli.deploy.library import load_model
from tnacli.errors import Stopped, UsageError
from tnacli.evaluation.accuracy import evaluate_network
from tnacli.evaluation.activity import measure_activity
from tnacli.experiment import Experiment, Outcome
from tnacli.exporting import export_checkpoint
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.objective import Features, Sibling, Twin
from tnacli.recipe.schema.recipe import Settings
from tnacli.snn.network import SpikingNetwork
from tnacli.training.checkpoint import load_checkpoint, restore_network
from tnacli.training.events import Event, Warned
from tnacli.training.fine_tune import compression_run

SIBLINGS = (Sibling(width="200%", timesteps=5), Sibling(spiking=False), Sibling(layout="4C3-AP2-8C3-AP4"))
MIXED = TINY.model_copy(
    update={
        "objective": Twin(alpha=1e-3, siblings=SIBLINGS, features=Features(alpha=0.5, rates="map")),
        "compression": Ternary(start=2, delta=0.05),
    }
)
ANN = TINY.model_copy(
    update={
        "model": TINY.model.model_copy(update={"spiking": False}),
        "objective": Twin(alpha=1e-3),
        "compression": Ternary(start=2, threshold="mean"),
    }
)
ALL = {"mixed": MIXED, "ann": ANN}


@pytest.fixture(scope="module", params=ALL)
def settings(request: pytest.FixtureRequest) -> Settings:
    return ALL[request.param]


@pytest.fixture(scope="module")
def whole(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, list[Event]]:
    events: list[Event] = []
    out = tmp_path_factory.mktemp("whole")
    return Experiment(out, emit=lambda run, event: events.append(event)).execute(run_of(settings)), events


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """An artificial network with a twin, in full precision."""
    settings = ANN.model_copy(update={"compression": None})
    return Experiment(tmp_path_factory.mktemp("ann")).execute(run_of(settings))


@pytest.mark.parametrize("steps", [3, 9])
def test_resumed_equals_uninterrupted(
    settings: Settings, whole: tuple[Outcome, list[Event]], steps: int, tmp_path: Path
) -> None:
    run = run_of(settings)
    with pytest.raises(Stopped):
        Experiment(tmp_path, stop=StopAfter(steps)).execute(run)
    assert same(tensors(Experiment(tmp_path).execute(run)), tensors(whole[0]))


def test_every_network_is_measured_and_learns(settings: Settings, whole: tuple[Outcome, list[Event]]) -> None:
    outcome, events = whole
    siblings = settings.objective.siblings if isinstance(settings.objective, Twin) else ()
    names = {"base", *(f"sibling{number}" for number in range(1, len(siblings) + 1))}
    assert set(outcome.result.accuracy) == names
    rows = outcome.folder.metrics()
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    if not settings.model.spiking:
        assert not [event for event in events if isinstance(event, Warned)]  # nothing about silent neurons
    checkpoint = load_checkpoint(outcome.checkpoint)
    for name in names:
        batches = checkpoint_batches(checkpoint)
        again = evaluate_network(restore_network(checkpoint, name), batches.epoch(0))
        assert again.accuracy == outcome.result.accuracy[name]


def test_maps_between_features_are_in_the_checkpoint_and_nowhere_else(tmp_path: Path) -> None:
    outcome = Experiment(tmp_path / "runs").execute(run_of(MIXED))
    checkpoint = load_checkpoint(outcome.checkpoint)
    helpers = checkpoint.under("auxiliary")
    assert set(helpers) == {
        *(f"features.projections.sibling1.{layer}.weight" for layer in ("conv1", "conv2", "fc1")),
        *(f"features.projections.sibling2.{layer}.weight" for layer in ("conv1", "conv2", "fc1")),
        "features.projections.sibling3.conv2.weight",
    }
    assert {f"adam/exp_avg/auxiliary.{name}" for name in helpers} <= set(checkpoint.tensors)
    assert not [name for name in restore_network(checkpoint).state_dict() if "projection" in name]
    exported = export_checkpoint(outcome.checkpoint, tmp_path / "packed.safetensors")
    assert exported.accuracy == outcome.result.accuracy["base"]


def test_fine_tuning_goes_on_with_siblings_and_maps(tmp_path: Path) -> None:
    before = Experiment(tmp_path).execute(run_of(MIXED.model_copy(update={"compression": None})))
    checkpoint = load_checkpoint(before.checkpoint)
    run = compression_run(checkpoint, Ternary(start=0, delta=0.05), source="x", epochs=1, learning_rate=1e-30)
    after = load_checkpoint(
        Experiment(tmp_path, initial={checkpoint.digest: checkpoint}).execute(run).checkpoint
    ).tensors
    kept = [name for name in checkpoint.tensors if name.startswith("auxiliary/") or name.endswith("synapse.weight")]
    kept = [name for name in kept if not name.startswith("adam/")]
    assert len(kept) == 11 + 7  # hidden weights of four networks, and maps
    assert all(torch.equal(checkpoint.tensors[name], after[name]) for name in kept)


def test_an_artificial_network_can_be_used_and_fine_tuned(ann: Outcome, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(ann.checkpoint)
    run = compression_run(checkpoint, Ternary(start=0, threshold="mean"), source="x", epochs=1)
    assert not run.settings.model.spiking
    tuned = Experiment(tmp_path, initial={checkpoint.digest: checkpoint}).execute(run)
    model = load_model(tuned.checkpoint)
    assert model.weights == "ternary"
    batch = next(iter(checkpoint_batches(checkpoint).epoch(0)))
    network = restore_network(load_checkpoint(tuned.checkpoint))
    with torch.inference_mode():
        assert torch.equal(model(batch.inputs, normalised=True), network(batch.inputs))


def test_what_needs_spikes_refuses_an_artificial_network(ann: Outcome, tmp_path: Path) -> None:
    path = ann.checkpoint
    with pytest.raises(UsageError, match=r"cannot be exported: it is an artificial network \(model\.spiking: false\)"):
        export_checkpoint(path, tmp_path / "packed.safetensors")
    assert not list(tmp_path.iterdir())
    checkpoint = load_checkpoint(path)
    network = restore_network(checkpoint)
    assert isinstance(network, SpikingNetwork)
    with pytest.raises(UsageError, match="no spikes to count"):
        measure_activity(network, checkpoint_batches(checkpoint).epoch(0))
