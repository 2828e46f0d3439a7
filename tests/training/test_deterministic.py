"""The switch that gives determinism up for speed: what it does to cuDNN, and that results are marked with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tnacli import build
from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.recipe import Runtime, Settings
from tnacli.report.marks import marks
from tnacli.snn.network import SpikingNetwork
from tnacli.training.beginning import altered_in
from tnacli.training.checkpoint import Checkpoint, load_checkpoint
from tnacli.training.distributed import Ranks

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


def of(*, deterministic: bool) -> Settings:
    return TINY.model_copy(update={"runtime": Runtime(deterministic=deterministic)})


@pytest.mark.parametrize("deterministic", [True, False])
def test_training_times_algorithms_if_it_may_and_evaluation_never(
    deterministic: bool, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, bool, bool]] = set()

    class Watched(SpikingNetwork):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            cudnn = torch.backends.cudnn
            seen.add((self.training, cudnn.deterministic, cudnn.benchmark))
            return super().forward(inputs)

    monkeypatch.setattr(build, "SpikingNetwork", Watched)
    Experiment(out).execute(Run("tiny", "run", 0, of(deterministic=deterministic)))
    assert seen == {(True, deterministic, not deterministic), (False, True, False)}


def altered(
    trained: Outcome, device: torch.device, *, deterministic: bool, before: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """What makes a run on `device` another, that goes on from a checkpoint which had `before`."""
    checkpoint = load_checkpoint(trained.checkpoint)
    resumed = Checkpoint(checkpoint.metadata.model_copy(update={"altered": before}), checkpoint.tensors)
    run = Run("tiny", "run", 0, of(deterministic=deterministic), ("with laptop",))
    return altered_in(run, None, checkpoint.metadata.data, resumed, device=device, among=Ranks())


def test_results_are_marked_on_cuda_alone(trained: Outcome) -> None:
    assert altered(trained, CUDA, deterministic=False) == ("with laptop", "not deterministic")
    assert altered(trained, CUDA, deterministic=True) == ("with laptop",)
    assert altered(trained, CPU, deterministic=False) == ("with laptop",)


def test_a_run_that_goes_on_keeps_the_marks_of_how_it_was_executed(trained: Outcome) -> None:
    before = ("with other", "set train.epochs=4", "not deterministic")
    assert altered(trained, CUDA, deterministic=True, before=before) == ("with laptop", "not deterministic")
    assert altered(trained, CUDA, deterministic=False, before=before) == ("with laptop", "not deterministic")
    assert altered(trained, CPU, deterministic=True, before=()) == ("with laptop",)


def test_the_mark_is_shown(trained: Outcome) -> None:
    result = trained.result.model_copy(update={"altered": ("with laptop", "not deterministic")})
    assert marks(trained.run.settings, (), [result]) == ("not deterministic",)


def test_it_is_no_part_of_a_run_s_identity() -> None:
    runs = [Run("tiny", "run", 0, of(deterministic=deterministic)) for deterministic in (True, False)]
    assert runs[0].identity == runs[1].identity
    assert dataclasses.replace(runs[0], seed=1).identity != runs[0].identity
