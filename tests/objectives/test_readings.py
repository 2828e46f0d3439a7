"""The readings of the matching loss that the paper leaves open: what is matched, whom it moves, and from when on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.recipe.conftest import folder as folder
from tests.recipe.conftest import load_text as load_text
from tnacli.build import build_network, build_objective
from tnacli.errors import RecipeError
from tnacli.objectives.losses import matching_loss
from tnacli.objectives.objective import Objective
from tnacli.recipe.schema.matching import matching_weight, weight_in_batch_means
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Matching, Twin
from tnacli.recipe.schema.recipe import Settings, Train

MODEL = Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=3, dropout=0.0)
INPUTS, LABELS = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])
ONE, TWO = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]]), torch.tensor([[[0.0, 2.0]], [[5.0, 1.0]]])  # [T, N, classes]


def objective(kind: Twin | Distill, **extra: Any) -> Objective:
    settings = Settings(model=MODEL, objective=kind, train=Train(epochs=20))
    return build_objective(settings, channels=3, size=(8, 8), classes=5, seed=3, **extra)


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 9.0), ("batch_mean", 9.0), ("mean", 4.5)])
def test_by_timestep_squared_differences_are_summed_over_time(reduction: Any, expected: float) -> None:
    """1 + 0 at the first step, 4 + 4 at the second."""
    matching = Matching(alpha=1, reduction=reduction, logits="per_timestep")
    assert float(matching_loss(ONE, TWO, matching)) == expected


def test_summed_over_time_first_differences_may_cancel() -> None:
    """Logits 4, 1 and 5, 3: 1 + 4."""
    assert float(matching_loss(ONE.sum(0), TWO.sum(0), Matching(alpha=1, reduction="sum"))) == 5.0


def test_the_potentials_of_each_timestep_add_up_to_the_logits() -> None:
    network = build_network(MODEL, channels=3, size=(8, 8), classes=5, seed=1)
    potentials = network.potentials(INPUTS)
    assert potentials.shape == (3, 6, 5)
    assert torch.equal(potentials[0] + potentials[1] + potentials[2], network(INPUTS))
    # u[t] = leak * u[t-1] + I[t], so a step's own current is what is left without the leak of the one before.
    assert not torch.allclose(potentials[1], potentials[0])


@pytest.mark.parametrize("kind", ["twin", "distill"])
def test_both_objectives_match_by_timestep(kind: str) -> None:
    if kind == "twin":
        made = objective(Twin(alpha=0.1, logits="per_timestep")).train()
        other = made.networks["sibling1"]
    else:
        other = build_network(MODEL, channels=3, size=(8, 8), classes=5, seed=9).eval()
        made = objective(Distill(alpha=0.1, logits="per_timestep"), teacher=other).train()
    losses = made(INPUTS, LABELS)
    ours, theirs = made.base.potentials(INPUTS), other.potentials(INPUTS)
    expected = (ours - theirs).square().sum((0, 2)).mean()
    torch.testing.assert_close(losses.parts["matching"], expected)
    torch.testing.assert_close(losses.logits["base"], ours.sum(0))
    own = sum(loss for name, loss in losses.parts.items() if name != "matching")
    torch.testing.assert_close(losses.total, own + 0.1 * expected)
    torch.testing.assert_close(losses.parts["cross_entropy"], F.cross_entropy(ours.sum(0), LABELS))


@pytest.mark.parametrize(
    ("moved", "expected"), [("both", {"base", "sibling1"}), ("base", {"base"}), ("siblings", {"sibling1"})]
)
def test_the_matching_loss_moves_the_side_it_is_to_move(moved: Any, expected: set[str]) -> None:
    twin = objective(Twin(alpha=0.5, gradient=moved)).train()
    twin(INPUTS, LABELS).parts["matching"].backward()
    found = {name for name, network in twin.networks.items() if network.readout.weight.grad is not None}
    assert found == expected


def test_with_three_networks_the_base_is_one_side_and_all_siblings_the_other() -> None:
    twin = objective(Twin.model_validate({"alpha": 0.5, "gradient": "siblings", "siblings": [{}, {}]})).train()
    twin(INPUTS, LABELS).parts["matching"].backward()
    found = {name for name, network in twin.networks.items() if network.readout.weight.grad is not None}
    assert found == {"sibling1", "sibling2"}


@pytest.mark.parametrize(
    ("start", "ramp", "weights"),
    [
        (0, 0, {0.0: 1.0, 19.9: 1.0}),
        (5, 0, {0.0: 0.0, 4.99: 0.0, 5.0: 1.0, 19.0: 1.0}),
        ("25%", 0, {4.99: 0.0, 5.0: 1.0}),
        (0, 10, {0.0: 0.0, 2.5: 0.25, 10.0: 1.0, 15.0: 1.0}),
        ("10%", "20%", {1.9: 0.0, 2.0: 0.0, 3.0: 0.25, 6.0: 1.0}),
    ],
)
def test_when_the_weight_rises(start: Any, ramp: Any, weights: dict[float, float]) -> None:
    matching = Matching(alpha=2.0, start=start, ramp=ramp)
    for progress, share in weights.items():
        assert matching_weight(matching, progress, 20) == pytest.approx(2.0 * share)


@pytest.mark.parametrize("kind", [Twin, Distill])
def test_the_objective_weighs_by_how_far_training_has_come(kind: type[Twin | Distill]) -> None:
    teacher = {"teacher": build_network(MODEL, channels=3, size=(8, 8), classes=5, seed=9)} if kind is Distill else {}
    made = objective(kind(alpha=0.5, start=2, ramp=4), **teacher).train()
    for progress, weight in ((0.0, 0.0), (4.0, 0.25), (6.0, 0.5), (19.0, 0.5)):
        losses = made(INPUTS, LABELS, 1.0, progress)
        own = sum(loss for name, loss in losses.parts.items() if name != "matching")
        torch.testing.assert_close(losses.total, own + weight * losses.parts["matching"])


@pytest.mark.parametrize("kind", [Twin, Distill])
def test_before_its_start_not_even_an_infinite_matching_loss_counts(kind: type[Twin | Distill]) -> None:
    other = build_network(MODEL, channels=3, size=(8, 8), classes=5, seed=9)
    made = objective(kind(alpha=0.5, start=2), **({"teacher": other} if kind is Distill else {})).train()
    with torch.no_grad():
        (other if kind is Distill else made.networks["sibling1"]).readout.bias.add_(1e20)
    early, late = (made(INPUTS, LABELS, 1.0, progress) for progress in (1.9, 2.0))
    assert torch.isinf(early.parts["matching"])
    assert torch.isfinite(early.total)
    assert torch.isinf(late.total)


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 0.256), ("batch_mean", 0.001), ("mean", 0.0001)])
def test_the_weight_in_batch_means(reduction: Any, expected: float) -> None:
    """1e-3 at the paper's batch of 256 and 10 classes."""
    assert weight_in_batch_means(Matching(alpha=1e-3, reduction=reduction), 256, 10) == pytest.approx(expected)


def test_no_factor_leads_from_another_loss_to_batch_means() -> None:
    for other in ({"logits": "per_timestep"}, {"match": "kl"}):
        found = weight_in_batch_means(Matching(alpha=1e-3, **other), 256, 10)  # type: ignore[arg-type]
        assert str(found).startswith("another loss: ")
    assert "how many classes" in str(weight_in_batch_means(Matching(alpha=1, reduction="mean"), 256, None))
    assert weight_in_batch_means(Matching(alpha=1, reduction="sum"), 256, None) == 256


TWIN = "{kind: twin, alpha: 1e-3, "
REFUSED = {
    TWIN
    + "start: 250}": "objective.start: gives the matching loss all of alpha after 250 epochs, and train.epochs is 250",
    TWIN + "start: 60%, ramp: 40%}": "after 250 epochs, and train.epochs is 250: none is left",
    TWIN + "ramp: 300}": "objective.ramp: gives the matching loss all of alpha after 300 epochs",
    "{kind: distill, alpha: 1, cross_entropy: false, start: 5}": "leaves nothing to learn from",
    "{kind: distill, alpha: 1, cross_entropy: false, ramp: 5}": "leaves nothing to learn from",
    TWIN + "logits: per_timestep, siblings: [{timesteps: 4}]}": "same timesteps on both sides",
    TWIN + "logits: per_timestep, siblings: [{spiking: false}]}": "an artificial network has no timesteps",
    "{kind: distill, alpha: 1, gradient: base}": "belongs to kind: twin",
}


@pytest.mark.parametrize("written", REFUSED)
def test_what_has_no_effect_or_no_meaning_is_refused(written: str, load_text: Any) -> None:
    with pytest.raises(RecipeError, match=REFUSED[written]):
        load_text(f"runs: {{a: {{objective: {written}}}}}\n")


def test_one_timestep_is_its_own_sum(load_text: Any) -> None:
    with pytest.raises(RecipeError, match=r"with model\.timesteps 1 the sum over time is the same"):
        load_text(f"model: {{timesteps: 1}}\nruns: {{a: {{objective: {TWIN}logits: per_timestep}}}}}}\n")


def test_one_set_of_logits_cannot_be_matched_by_timestep(load_text: Any) -> None:
    with pytest.raises(RecipeError, match=r"a network of model\.build gives one set of logits"):
        load_text("model: {build: 'a:b'}\nruns: {a: {objective: {kind: twin, alpha: 1e-3, logits: per_timestep}}}\n")
