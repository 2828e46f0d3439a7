"""Temporal self-distillation: its value and gradient, whom it teaches, and where it means nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.objectives.test_by_timestep import INPUTS, LABELS, MODEL
from tests.recipe.conftest import folder as folder
from tests.recipe.conftest import load_text as load_text
from tnacli.build import build_network, build_objective
from tnacli.errors import RecipeError
from tnacli.objectives.losses import temporal_loss
from tnacli.recipe.schema.objective import Distill, Solo, Temporal, Twin
from tnacli.recipe.schema.recipe import Settings


def test_it_is_the_divergence_from_the_mean_over_time() -> None:
    """Two timesteps, one sample, two classes: margins 1 and 3, whose teacher has 2."""
    logits = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]], requires_grad=True)
    temperature = 2.0

    def share(margin: float) -> float:
        return 1 / (1 + math.exp(-margin / temperature))

    teacher = share(2.0)
    each = [
        teacher * math.log(teacher / share(m)) + (1 - teacher) * math.log((1 - teacher) / (1 - share(m)))
        for m in (1.0, 3.0)
    ]
    loss = temporal_loss(logits, Temporal(alpha=1, temperature=temperature))
    assert loss.item() == pytest.approx(temperature**2 * sum(each) / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    # Of a divergence whose teacher is a constant: the difference of probabilities; both timesteps move towards the teacher.
    expected = [temperature * (share(m) - teacher) / 2 for m in (1.0, 3.0)]
    assert gradient[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-4)
    assert temporal_loss(logits[:1].expand(3, -1, -1), Temporal(alpha=1)).item() == pytest.approx(0, abs=1e-6)


def test_shares_add_up_to_the_batch() -> None:
    logits, temporal = torch.randn(4, 6, 5, dtype=torch.float64), Temporal(alpha=1)
    parts = [
        temporal_loss(logits[:, rows], temporal, share) for rows, share in ((slice(0, 1), 1 / 6), (slice(1, 6), 5 / 6))
    ]
    torch.testing.assert_close(sum(parts), temporal_loss(logits, temporal))


@pytest.mark.parametrize(
    "kind", [Solo(), Twin(alpha=0.1), Distill(alpha=0.1), Distill(alpha=0.1, cross_entropy=False)], ids=str
)
def test_every_trained_network_is_taught_beside_its_other_losses(kind: Solo | Twin | Distill) -> None:
    def made(objective: Solo | Twin | Distill) -> Any:
        given = (
            {"teacher": build_network(MODEL, channels=3, size=(8, 8), classes=5, seed=9)}
            if kind.kind == "distill"
            else {}
        )
        settings = Settings(model=MODEL, objective=objective)
        return build_objective(settings, channels=3, size=(8, 8), classes=5, seed=3, **given).train()

    temporal = Temporal(alpha=0.3)
    plain, objective = made(kind), made(kind.model_copy(update={"temporal": temporal}))
    before, losses = plain(INPUTS, LABELS), objective(INPUTS, LABELS)
    taught = sum(temporal_loss(network.potentials(INPUTS), temporal) for network in objective.networks.values())
    torch.testing.assert_close(losses.parts["temporal"], taught)
    assert taught.item() > 0
    torch.testing.assert_close(losses.total, before.total + 0.3 * taught)
    assert {name: part.item() for name, part in losses.parts.items() if name != "temporal"} == pytest.approx(
        {name: part.item() for name, part in before.parts.items()}
    )
    assert "temporal" not in before.parts


REFUSED = {
    "model: {timesteps: 1}": r"with model\.timesteps 1 the sum over time is the same",
    "model: {spiking: false}": "an artificial network has no timesteps",
    "model: {build: 'a:b'}": r"a network of model\.build gives one set of logits",
}


@pytest.mark.parametrize("written", REFUSED)
def test_where_there_are_no_timesteps_it_is_refused(written: str, load_text: Any) -> None:
    with pytest.raises(RecipeError, match=REFUSED[written]) as caught:
        load_text(f"objective: {{kind: solo, temporal: {{alpha: 1}}}}\n{written}\nruns: {{a: }}\n")
    assert "objective.temporal" in str(caught.value)
