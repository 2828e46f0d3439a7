"""Eq. 5 written out, independence of the networks, and distillation from a frozen teacher."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tnacli.build import build_network, build_objective
from tnacli.objectives.losses import matching_loss
from tnacli.objectives.objective import DistillObjective
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill, Matching, Sibling, Solo, Twin
from tnacli.recipe.schema.recipe import Settings

MODEL = Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=3, dropout=0.0)
INPUTS, LABELS = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])


def objective(kind: Solo | Twin | Distill, **extra: torch.nn.Module):  # type: ignore[no-untyped-def]
    return build_objective(Settings(model=MODEL, objective=kind), channels=3, size=(8, 8), classes=5, seed=3, **extra)


@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1), ("batch_mean", 6), ("mean", 30)])
def test_mse_and_its_reductions(reduction: str, divisor: int) -> None:
    one, two = torch.randn(6, 5), torch.randn(6, 5)
    by_hand = sum((a - b) ** 2 for a, b in zip(one.flatten().tolist(), two.flatten().tolist(), strict=True)) / divisor
    matching = Matching(alpha=1, reduction=reduction)  # type: ignore[arg-type]
    assert float(matching_loss(one, two, matching)) == pytest.approx(by_hand, rel=1e-5)


def test_kl_is_the_softened_divergence_times_the_squared_temperature() -> None:
    student, teacher, temperature = torch.randn(1, 3), torch.randn(1, 3), 2.0
    p = F.softmax(teacher / temperature, dim=1)[0].tolist()
    q = F.softmax(student / temperature, dim=1)[0].tolist()
    by_hand = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    matching = Matching(alpha=1, match="kl", temperature=temperature, reduction="batch_mean")
    assert float(matching_loss(student, teacher, matching)) == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("siblings", [1, 2])
def test_the_twin_loss_is_equation_5(siblings: int) -> None:
    twin = objective(Twin(alpha=0.01, siblings=(Sibling(),) * siblings)).train()
    losses = twin(INPUTS, LABELS)
    logits = losses.logits
    expected = F.cross_entropy(logits["base"], LABELS)
    for number in range(1, siblings + 1):
        sibling = logits[f"sibling{number}"]
        expected = (
            expected + F.cross_entropy(sibling, LABELS) + 0.01 * (logits["base"] - sibling).square().sum(1).mean()
        )
    torch.testing.assert_close(losses.total, expected)


def test_matching_moves_both_networks() -> None:
    twin = objective(Twin(alpha=0.5)).train()
    losses = twin(INPUTS, LABELS)
    losses.parts["matching"].backward()
    for network in twin.networks.values():
        assert network.readout.weight.grad.abs().sum() > 0


def test_the_base_starts_the_same_whatever_the_objective_and_siblings_differ() -> None:
    solo, twin = objective(Solo()), objective(Twin(alpha=1, siblings=(Sibling(), Sibling())))
    readout = [network.readout.weight for network in twin.networks.values()]
    assert torch.equal(solo.base.readout.weight, readout[0])
    assert not any(torch.equal(readout[i], readout[j]) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_a_sibling_of_another_width() -> None:
    twin = objective(Twin(alpha=1, siblings=(Sibling(width=2.0),)))
    assert twin.networks["sibling1"].shapes[0].weight[0] == 8
    assert twin(INPUTS, LABELS).logits["sibling1"].shape == (6, 5)


@pytest.mark.parametrize("cross_entropy", [True, False])
def test_distillation_trains_the_base_alone(cross_entropy: bool) -> None:
    teacher = build_network(MODEL, channels=3, size=(8, 8), classes=5, seed=9)
    distill = objective(Distill(alpha=0.1, cross_entropy=cross_entropy), teacher=teacher).train()
    assert isinstance(distill, DistillObjective)
    losses = distill(INPUTS, LABELS)
    with torch.no_grad():
        target = teacher(INPUTS)
    match = (losses.logits["base"] - target).square().sum(1).mean()
    expected = 0.1 * match + (F.cross_entropy(losses.logits["base"], LABELS) if cross_entropy else 0)
    torch.testing.assert_close(losses.total, expected)
    losses.total.backward()
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert set(distill.networks) == {"base"}
    assert len(list(distill.parameters())) == len(list(teacher.parameters()))
