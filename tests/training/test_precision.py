"""Arithmetic of training: fp32 on every machine unless the recipe asks for another, whatever the hardware is good at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tests.training.test_loop import StopAfter
from tnacli.errors import Stopped
from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.find import list_recipes
from tnacli.recipe.identity import Run
from tnacli.recipe.load import load, plan
from tnacli.training import device
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.device import fast_bf16, resolve_precision
from tnacli.training.events import Event, Started

CPU = torch.device("cpu")


def of(precision: str, seed: int = 0) -> Run:
    train = TINY.train.model_copy(update={"precision": precision})
    return Run("tiny", "run", seed, TINY.model_copy(update={"train": train}))


def trained(run: Run, out: Path) -> tuple[Outcome, Started]:
    """What comes of the run, and what was said at its start."""
    events: list[Event] = []
    outcome = Experiment(out, emit=lambda run, event: events.append(event)).execute(run)
    (started,) = [event for event in events if isinstance(event, Started)]
    return outcome, started


@pytest.mark.parametrize("fast", ["0", "1"])
def test_a_run_that_does_not_name_a_precision_is_fp32_on_every_machine(
    fast: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TNA_FAST_BF16", fast)
    outcome, started = trained(Run("tiny", "run", 0, TINY), out)
    assert (outcome.result.precision, started.precision) == ("fp32", "fp32")
    assert load_checkpoint(outcome.checkpoint).metadata.precision == "fp32"
    assert not [note for note in started.notes if "precision" in note]


def test_every_shipped_recipe_is_trained_in_fp32() -> None:
    names = [entry.name for entry in list_recipes()]
    assert {run.settings.train.precision for name in names for run in plan(load(name))} == {"fp32"}


def test_results_of_different_precision_are_different_runs() -> None:
    assert len({of(precision).identity for precision in ("fp32", "bf16", "auto")}) == 3


@pytest.mark.parametrize(("fast", "chosen"), [("0", "fp32"), ("1", "bf16")])
def test_auto_says_what_it_chose(fast: str, chosen: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNA_FAST_BF16", fast)
    outcome, started = trained(of("auto"), out)
    assert (outcome.result.precision, started.precision) == (chosen, chosen)
    assert f"train.precision: auto is {chosen} here" in started.notes


@pytest.mark.parametrize(("began", "goes_on"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_run_goes_on_in_the_precision_that_it_began_in(
    began: str, goes_on: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` means another on a machine where bf16 is fast, under the same identity."""
    monkeypatch.setenv("TNA_FAST_BF16", "1" if began == "bf16" else "0")
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(5)).execute(of("auto"))
    monkeypatch.setenv("TNA_FAST_BF16", "1" if goes_on == "bf16" else "0")
    outcome, started = trained(of("auto"), out)
    assert (outcome.result.precision, started.precision) == (began, began)
    assert f"in {began}, as it began; train.precision: auto would be {goes_on} here" in started.notes
    assert load_checkpoint(outcome.checkpoint).metadata.precision == began
    afresh, _ = trained(of("auto", seed=1), out)
    assert afresh.result.precision == goes_on


@pytest.mark.parametrize(("said", "chosen"), [("0", "fp32"), ("1", "bf16")])
def test_the_environment_says_what_auto_means_in_every_process(said: str, chosen: str) -> None:
    program = "import torch; from tnacli.training.device import resolve_precision as of; print(of('auto', torch.device('cpu')))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TNA_FAST_BF16": said}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == chosen


@pytest.mark.parametrize(("supported", "listed"), [(True, True), (True, False), (False, True)])
def test_without_the_environment_s_word_the_hardware_decides(
    supported: bool, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TNA_FAST_BF16", raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(device, "_cpu_flag", lambda *names: listed)
    assert fast_bf16(CPU) == (supported and listed)
    assert resolve_precision("auto", CPU) == ("bf16" if supported and listed else "fp32")
    assert [resolve_precision(explicit, CPU) for explicit in ("fp32", "bf16")] == ["fp32", "bf16"]
