"""Which epochs are evaluated, what that changes and what not, and what is measured at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Tna
from tests.cli.conftest import recipe as recipe
from tests.cli.conftest import tna as tna
from tests.conftest import TINY, tiny_tna_t_snn
from tnacli.data.batches import Batches
from tnacli.data.load import load as load_data
from tnacli.evaluation.accuracy import evaluate_network
from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.identity import Run
from tnacli.recipe.parse.load import load
from tnacli.recipe.schema.recipe import Settings
from tnacli.report.cells import cells_of
from tnacli.report.curves import curve, last_epoch_table
from tnacli.runs.store import RunFolder
from tnacli.training.checkpoint import load_checkpoint, restore_network
from tnacli.training.events import Event, Warned


def run_of(settings: Settings, **train: Any) -> Run:
    return Run("tiny", "run", 0, settings.model_copy(update={"train": settings.train.model_copy(update=train)}))


@pytest.mark.parametrize(("every", "evaluated"), [(2, [2, 4]), (3, [3, 4]), (9, [4])])
def test_only_every_so_many_epochs_are_evaluated_and_the_last(
    out: Path, trained: Outcome, every: int, evaluated: list[int]
) -> None:
    run = run_of(tiny_tna_t_snn(), evaluate_every=every)
    outcome = Experiment(out).execute(run)
    for ours, theirs in zip(outcome.folder.metrics(), trained.folder.metrics(), strict=True):
        for key in ("accuracy", "loss", "firing_rate"):
            assert ours[key] == (theirs[key] if ours["epoch"] in evaluated else {})
        assert ours["train_loss"] == theirs["train_loss"]
    assert outcome.result.accuracy == trained.result.accuracy
    one, two = (load_checkpoint(done.checkpoint).tensors for done in (outcome, trained))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert run.identity == trained.run.identity, "the result is the same"


def test_where_an_epoch_is_selected_only_those_evaluated_count(out: Path) -> None:
    data = TINY.data.model_copy(update={"validation_samples": 40})
    settings = TINY.model_copy(update={"data": data})
    train = {"select": "val", "epochs": 7, "learning_rate": 0.05}
    each, some = (run_of(settings, **train, evaluate_every=every) for every in (1, 2))
    assert each.identity != some.identity
    rows = Experiment(out).execute(each).folder.metrics()
    outcome = Experiment(out).execute(some)
    best = max((2, 4, 6, 7), key=lambda epoch: (rows[epoch - 1]["accuracy"]["base"], -epoch))
    assert outcome.result.selected_epoch == best
    assert outcome.result.validation == rows[best - 1]["accuracy"]


@pytest.mark.parametrize("select", ["last", "test", "val"])
def test_the_result_has_the_accuracy_on_the_samples_held_out(out: Path, select: str) -> None:
    """Of the weights that are the result, whichever samples were watched."""
    data = TINY.data.model_copy(update={"validation_samples": 40})
    outcome = Experiment(out).execute(
        run_of(TINY.model_copy(update={"data": data}), select=select, epochs=5, learning_rate=0.05)
    )
    dataset = load_data(data, TINY.model.timesteps)
    assert dataset.validation is not None
    batches = Batches(dataset.validation, dataset, 32, torch.device("cpu"), seed=0, training=False)
    network = restore_network(load_checkpoint(outcome.checkpoint))
    assert outcome.result.validation == {"base": evaluate_network(network, batches.epoch(0)).accuracy}


def test_without_such_samples_there_is_none(trained: Outcome) -> None:
    assert trained.result.validation == {}


def test_dead_layers_are_looked_for_where_rates_are_known(out: Path) -> None:
    neuron = TINY.model.neuron.model_copy(update={"threshold": 1e6})
    settings = TINY.model_copy(update={"model": TINY.model.model_copy(update={"neuron": neuron})})
    events: list[Event] = []
    Experiment(out, emit=lambda run, event: events.append(event)).execute(run_of(settings, evaluate_every=3))
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert warning.startswith("epoch 3: never spikes")


def test_whoever_shows_epochs_shows_those_not_evaluated(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    """Lines of progress and the document: three epochs, the second and the last measured."""
    changed = ("--set", "train.evaluate_every=2", "--out", tmp_path / "runs")
    done = tna("train", recipe, *changed)
    assert done.code == 0
    # The last line of each epoch: a slow machine has others before it.
    lines = {
        line.partition("/")[0]: line
        for line in done.err.splitlines()
        if "baseline seed 0: epoch" in line and "samples/s" in line
    }
    assert [" test " in line for line in lines.values()] == [False, True, True]
    (found, _) = tna("train", recipe, *changed, "--json").json["runs"]
    assert found["validation"] == {}


def test_a_page_shows_the_activity_of_the_last_epoch_if_it_was_evaluated(
    tna: Tna, recipe: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")  # draws the page's curves
    changed = ("--set", "train.evaluate_every=2", "--out", tmp_path / "runs")
    (found, _) = tna("train", recipe, *changed, "--json").json["runs"]
    folder, page = RunFolder(Path(found["folder"])), tmp_path / "page.html"
    for epochs in (2, 1):  # as if it had been stopped there
        (folder.path / "result.json").unlink(missing_ok=True)
        folder.keep_metrics(epochs)
        done = tna("report", recipe, "--run", "baseline", *changed[2:], "--save", page)
        assert done.code == 0, done.err
        rates = folder.metrics()[-1]["firing_rate"]
        assert len(rates) == (3 if epochs == 2 else 0)
        assert ("Spike activity" in page.read_text("utf-8")) == bool(rates)
        assert all(f"{rate:.3f}" in page.read_text("utf-8") for rate in rates.values())


def test_curves_of_the_epochs_there_are(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    """An unfinished run ends at an epoch that was not evaluated: its table has no accuracy for it."""
    loaded = load(str(recipe), overrides=["train.evaluate_every=2"])
    tna("train", recipe, "--run", "baseline", "--set", "train.evaluate_every=2", "--out", tmp_path)
    (cell, _) = cells_of(loaded, tmp_path)
    found = curve(cell)
    assert found is not None
    assert (found.series["val_accuracy"].epochs, found.series["train_loss"].epochs) == ((2, 3), (1, 2, 3))
    folder = next(iter(cell.folders.values()))
    folder.keep_metrics(1)
    (folder.path / "result.json").unlink()
    row = last_epoch_table(cells_of(loaded, tmp_path)[:1], "x").rows[0]
    assert row[3] == 1
    assert row[4:9].count(None) == 3, "matching, and what was not measured"
