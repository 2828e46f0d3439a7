"""A teacher is frozen: in evaluation mode whatever mode it came in or its pupil is in, without a gradient."""

from __future__ import annotations

import copy

import torch

from tnacli.build import build_network, build_objective
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill
from tnacli.recipe.schema.recipe import Settings

SETTINGS = Settings(model=Model(layout="4C3-AP2-12FC", timesteps=2, dropout=0.5), objective=Distill(alpha=1.0))


def test_a_teacher_does_not_learn_from_what_it_sees() -> None:
    teacher = build_network(SETTINGS.model, channels=1, size=(8, 8), classes=10, seed=1000).train()
    objective = build_objective(SETTINGS, channels=1, size=(8, 8), classes=10, seed=0, teacher=teacher).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    inputs, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    target = copy.deepcopy(teacher).eval()(inputs)
    losses = objective.train()(inputs, labels)
    losses.total.backward()
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())  # statistics, too
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert torch.equal(teacher(inputs), target)
    expected = (losses.logits["base"] - target).square().sum(1).mean()
    torch.testing.assert_close(losses.parts["matching"], expected)
