"""`tnacli.twin_loss` is the objective's own matching loss, for any loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tnacli
from tests.objectives.test_readings import INPUTS, LABELS, objective
from tnacli.errors import UsageError
from tnacli.recipe.schema.objective import Twin

BASE, OTHER = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))  # each [T, N, classes]


@pytest.mark.parametrize("gradient", ["both", "base", "twin"])
@pytest.mark.parametrize(
    "how",
    [{}, {"reduction": "sum"}, {"reduction": "mean"}, {"match": "kl"}, {"match": "kl", "temperature": 2.0}],
)
def test_it_is_the_last_term_of_the_objective(how: dict[str, Any], gradient: Any) -> None:
    """Loss and gradients of cross-entropies and `twin_loss` are those of training with a twin."""
    wanted: Any = "siblings" if gradient == "twin" else gradient
    ours = objective(Twin(alpha=0.1, gradient=wanted, **how)).train()
    base, twin = ours.networks["base"], ours.networks["sibling1"]
    parameters = list(ours.parameters())
    expected = ours(INPUTS, LABELS).total
    wanted_grads = torch.autograd.grad(expected, parameters)
    logits, other = base(INPUTS), twin(INPUTS)
    ce = torch.nn.CrossEntropyLoss()
    loss = ce(logits, LABELS) + ce(other, LABELS) + tnacli.twin_loss(logits, other, alpha=0.1, gradient=gradient, **how)
    torch.testing.assert_close(loss, expected)
    for grad, expected_grad in zip(torch.autograd.grad(loss, parameters), wanted_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad)


def test_equation_5_by_hand() -> None:
    logits, other = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    assert tnacli.twin_loss(logits, other, alpha=0.5, reduction="sum").item() == 0.5 * (1 + 4 + 9)
    assert tnacli.twin_loss(logits, other, alpha=0.5).item() == 0.5 * (1 + 4 + 9) / 2


def test_logits_of_each_timestep_are_matched_one_by_one() -> None:
    by_hand = sum(tnacli.twin_loss(one, two, alpha=1.0) for one, two in zip(BASE, OTHER, strict=True))
    torch.testing.assert_close(tnacli.twin_loss(BASE, OTHER, alpha=1.0), by_hand)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_fp32(dtype: torch.dtype) -> None:
    """300 squared is more than fp16 has."""
    logits, other = torch.full((2, 8), 300.0, dtype=dtype, requires_grad=True), torch.zeros(2, 8, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = tnacli.twin_loss(logits, other, alpha=1e-3, reduction="sum")
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1e-3 * 16 * 90000, rel=0.01)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_gradients_are_those_of_differences() -> None:
    one, two = torch.randn(3, 4).double().requires_grad_(), torch.randn(3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: tnacli.twin_loss(a, b, alpha=0.3), (one, two))
    assert torch.autograd.gradcheck(lambda a, b: tnacli.twin_loss(a, b, alpha=0.3, match="kl"), (one, two))


@pytest.mark.parametrize(
    ("logits", "how", "message"),
    [
        (BASE[0], {}, "these are 3x4 and 2x3x4"),
        (BASE.unsqueeze(0), {}, "these are 1x2x3x4"),
        (BASE, {"alpha": 0.0}, "alpha=0.0"),
        (BASE, {"alpha": float("nan")}, "alpha=nan"),
        (BASE, {"match": "mae"}, "match='mae': must be one of 'mse', 'kl'"),
        (BASE, {"reduction": "none"}, "reduction='none'"),
        (BASE, {"gradient": "siblings"}, "gradient='siblings'"),
        (BASE, {"temperature": 2.0}, "no effect with match='mse'"),
        (BASE, {"match": "kl", "temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_what_makes_no_sense_is_refused(logits: Tensor, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tnacli.twin_loss(logits, OTHER if logits.dim() < 4 else logits, **{"alpha": 1.0, **how})
