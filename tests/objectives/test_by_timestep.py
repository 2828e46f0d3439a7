"""Cross-entropy at each timestep (TET): its value, whom it trains, that shares add up, and where it means nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.recipe.conftest import folder as folder
from tests.recipe.conftest import load_text as load_text
from tnacli.build import build_network, build_objective
from tnacli.errors import RecipeError
from tnacli.objectives.losses import cross_entropy, matching_loss
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Matching, Sibling, Solo, Twin
from tnacli.recipe.schema.recipe import Settings, Train

MODEL = Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=3, dropout=0.0)
INPUTS, LABELS = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])
BY_TIMESTEP = Train(cross_entropy="per_timestep")


def test_it_is_the_mean_over_timesteps_and_samples() -> None:
    """Two timesteps, two samples of other labels, two classes: the loss of each is log(1 + exp(wrong - right))."""
    logits = torch.tensor([[[1.0, 0.0], [0.0, 0.5]], [[-1.0, 1.0], [0.0, 3.0]]])  # [T, N, classes]
    each = [math.log(1 + math.exp(margin)) for margin in (-1.0, -0.5, 2.0, -3.0)]
    assert float(cross_entropy(logits, torch.tensor([0, 1]))) == pytest.approx(sum(each) / 4, rel=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "batch_mean", "mean"])
def test_the_losses_of_uneven_shares_add_up_to_the_batch(reduction: Any) -> None:
    one, two = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    matching = Matching(alpha=1, reduction=reduction, logits="per_timestep")
    shares = [(slice(0, 1), 1 / 6), (slice(1, 6), 5 / 6)]
    ours = sum(cross_entropy(one[:, rows], LABELS[rows], share) for rows, share in shares)
    theirs = sum(matching_loss(one[:, rows], two[:, rows], matching, share) for rows, share in shares)
    torch.testing.assert_close(ours, cross_entropy(one, LABELS))
    torch.testing.assert_close(theirs, matching_loss(one, two, matching))


OBJECTIVES = {
    "solo": Solo(),
    "twin": Twin(alpha=0.1),
    "both by timestep": Twin(alpha=0.1, logits="per_timestep"),
    "another T": Twin(alpha=0.1, siblings=(Sibling(timesteps=5),)),
    "distill": Distill(alpha=0.1),
}


@pytest.mark.parametrize("kind", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_network_learns_from_each_of_its_timesteps(kind: Solo | Twin | Distill) -> None:
    teacher = {"teacher": build_network(MODEL, channels=3, size=(8, 8), classes=5, seed=9)}
    made = build_objective(
        Settings(model=MODEL, objective=kind, train=BY_TIMESTEP), channels=3, size=(8, 8), classes=5, seed=3,
        **(teacher if isinstance(kind, Distill) else {}),
    ).train()  # fmt: skip
    losses = made(INPUTS, LABELS)
    found = {name: network.potentials(INPUTS) for name, network in made.networks.items()}  # type: ignore[operator]
    own = {name: torch.stack([F.cross_entropy(u, LABELS) for u in steps]).mean() for name, steps in found.items()}
    torch.testing.assert_close(losses.parts["cross_entropy"], own["base"])
    if "sibling1" in own:
        torch.testing.assert_close(losses.parts["sibling_cross_entropy"], own["sibling1"])
    if not isinstance(kind, Twin) or kind.logits == "summed":
        other = found.get("sibling1")
        target = teacher["teacher"].eval()(INPUTS) if other is None else other.sum(0)
        match = (found["base"].sum(0) - target).square().sum(1).mean()
        if not isinstance(kind, Solo):
            torch.testing.assert_close(losses.parts["matching"], match)
    for name, steps in found.items():
        torch.testing.assert_close(losses.logits[name], steps.sum(0))
    matched = 0.1 * losses.parts["matching"] if "matching" in losses.parts else 0.0
    torch.testing.assert_close(losses.total, sum(own.values()) + matched)


def test_a_teacher_learns_as_its_pupil() -> None:
    run = Run("x", "kd", 0, Settings(model=MODEL, objective=Distill(alpha=1.0), train=BY_TIMESTEP))
    assert run.teacher is not None
    assert run.teacher.settings.train.cross_entropy == "per_timestep"


REFUSED = {
    "model: {timesteps: 1}": r"with model\.timesteps 1 the sum over time is the same",
    "model: {spiking: false}": "an artificial network has no timesteps",
    "model: {build: 'a:b'}": r"a network of model\.build gives one set of logits",
    "objective: {kind: twin, alpha: 1, siblings: [{spiking: false}]}": "an artificial network has no timesteps",
}


@pytest.mark.parametrize("written", REFUSED)
def test_where_there_are_no_timesteps_it_is_refused(written: str, load_text: Any) -> None:
    with pytest.raises(RecipeError, match=REFUSED[written]) as caught:
        load_text(f"train: {{cross_entropy: per_timestep}}\n{written}\nruns: {{a: }}\n")
    assert "train.cross_entropy" in str(caught.value)
