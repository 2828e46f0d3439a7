"""Runs with other readings of the matching loss, from training to what goes on from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.training.test_loop import StopAfter, run_of, same, tensors
from tnacli.errors import Stopped
from tnacli.experiment import Experiment
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.objective import Twin
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.fine_tune import compression_run

READ = TINY.model_copy(update={"objective": Twin(alpha=0.05, logits="per_timestep", start=1, ramp="50%")})


@pytest.mark.parametrize("steps", [2, 5, 9])
def test_resumed_before_its_start_within_its_ramp_and_after_equals_uninterrupted(out: Path, steps: int) -> None:
    """Four steps an epoch: matching begins after four, and has all of its weight after twelve."""
    run = run_of(READ)
    with pytest.raises(Stopped):
        Experiment(out / "stopped", stop=StopAfter(steps)).execute(run)
    resumed, whole = (Experiment(out / name).execute(run) for name in ("stopped", "whole"))
    assert same(tensors(resumed), tensors(whole))


def test_until_its_start_the_base_is_trained_as_if_alone(out: Path) -> None:
    """The networks share neither weights nor random numbers: without dropout, matching is all that there is between them."""
    plain = TINY.model_copy(update={"model": TINY.model.model_copy(update={"dropout": 0.0})})
    late, alone = plain.model_copy(update={"objective": Twin(alpha=5.0, start=3)}), plain
    rows = [Experiment(out).execute(run_of(one)).folder.metrics() for one in (late, alone)]
    losses = [[row["train_parts"]["cross_entropy"] for row in one] for one in rows]
    assert losses[0][:3] == losses[1][:3]
    assert losses[0][3] != losses[1][3]


def test_fine_tuning_matches_from_its_first_step_on(out: Path) -> None:
    checkpoint = load_checkpoint(Experiment(out).execute(run_of(READ)).checkpoint)
    run = compression_run(checkpoint, Ternary(start=0, delta=0.05), source="x", epochs=1)
    objective = run.settings.objective
    assert isinstance(objective, Twin)
    assert (objective.start, objective.ramp, objective.logits) == (0, 0, "per_timestep")
    tuned = Experiment(out, initial={checkpoint.digest: checkpoint}).execute(run)
    parts = tuned.folder.metrics()[0]
    own = sum(value for name, value in parts["train_parts"].items() if name != "matching")
    assert parts["train_loss"] == pytest.approx(own + 0.05 * parts["train_parts"]["matching"])
