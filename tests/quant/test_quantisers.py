"""What each quantiser computes, and its gradients against written formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tnacli.quant.quantisers import (
    BinaryWeight,
    LearnedTernaryWeight,
    MeanTernaryWeight,
    TernaryWeight,
    mean_delta,
)

WEIGHTS = st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=30)
SHARES = st.sampled_from([0.1, 0.7, 1.5])


def ternary(weights: list[float], delta: float) -> list[float]:
    return [float((w > delta) - (w < -delta)) for w in weights]


def test_ternary_is_equation_6() -> None:
    delta = 0.5  # exact in binary, so that the borders are what they say
    latent = torch.tensor([-1.0, -0.5, -0.25, 0.0, 0.5, 0.500001, 3.0])
    assert TernaryWeight(delta)(latent).tolist() == [-1, 0, 0, 0, 0, 1, 1]


def beside(value: float) -> list[float]:
    """The numbers that fp32 has next to `value`, the smaller first."""
    return [float(torch.nextafter(torch.tensor(value), torch.tensor(end))) for end in (-9.0, 9.0)]


@pytest.mark.parametrize(
    ("quantiser", "others"),
    [
        (TernaryWeight(0.5), []),
        # Delta is half the mean of |w|, 1; the others bring that about beside the weights in question, all of them near 1/2.
        (MeanTernaryWeight(0.5), [1.5] * 6),
        (LearnedTernaryWeight(torch.tensor(1.0)), []),
    ],
    ids=["fixed", "mean", "learned"],
)
def test_a_weight_at_delta_is_zero_and_the_next_is_not(quantiser: nn.Module, others: list[float]) -> None:
    delta = 1.0 if isinstance(quantiser, LearnedTernaryWeight) else 0.5
    less, more = beside(delta)
    latent = torch.tensor([delta, less, more, -delta, -less, -more, *others])
    assert quantiser(latent).tolist()[:6] == [0, 0, 1, 0, 0, -1]


def test_a_weight_at_twice_delta_still_moves_a_learned_delta() -> None:
    quantiser = LearnedTernaryWeight(torch.tensor(1.0))
    for weight, slope in ((2.0, -1.0), (-2.0, 1.0), (beside(2.0)[1], 0.0)):
        (grad,) = torch.autograd.grad(quantiser(torch.tensor([weight])).sum(), quantiser.log_delta)
        assert float(grad) == slope


def test_binary_is_the_sign_with_plus_one_at_zero() -> None:
    assert BinaryWeight()(torch.tensor([-2.0, -1e-9, 0.0, 1e-9])).tolist() == [-1, -1, 1, 1]


@given(WEIGHTS, SHARES)
def test_delta_is_a_share_of_the_mean_of_absolute_weights(weights: list[float], share: float) -> None:
    """Eq. 6 of Li and Liu (2016), summed in double precision as Python does, rounded once."""
    by_hand = float(torch.tensor(share * sum(abs(w) for w in weights) / len(weights), dtype=torch.float64).float())
    delta = float(mean_delta(torch.tensor(weights), share))
    assert delta == pytest.approx(by_hand, rel=1e-6)
    assert MeanTernaryWeight(share)(torch.tensor(weights)).tolist() == ternary(weights, delta)


def test_the_mean_follows_the_weights_and_a_learned_delta_does_not() -> None:
    latent = torch.randn(50)
    mean, learned = MeanTernaryWeight(0.7), LearnedTernaryWeight(mean_delta(latent, 0.7))
    assert torch.equal(mean(latent), learned(latent))
    assert torch.equal(mean(100 * latent), mean(latent))
    assert int((learned(100 * latent) == 0).sum()) < int((mean(latent) == 0).sum())


@pytest.mark.parametrize(
    "quantiser",
    [TernaryWeight(0.1), MeanTernaryWeight(0.7), LearnedTernaryWeight(torch.tensor(0.1)), BinaryWeight()],
)
def test_the_gradient_passes_straight_through(quantiser: nn.Module) -> None:
    latent = torch.randn(50, requires_grad=True)
    outward = torch.randn(50)
    (grad,) = torch.autograd.grad(quantiser(latent), latent, outward)
    assert torch.equal(grad, outward)


@pytest.mark.parametrize("delta", [0.01, 0.3, 2.0])
def test_the_gradient_of_a_learned_delta_is_that_of_the_ramp(delta: float) -> None:
    """Autograd through clip(w / (2 Delta), -1, 1), and the sum of the docstring's formula."""
    latent, outward = torch.randn(200).double(), torch.randn(200).double()
    quantiser = LearnedTernaryWeight(torch.tensor(delta).double())
    (grad,) = torch.autograd.grad(quantiser(latent), quantiser.log_delta, outward)
    log_delta = torch.tensor(delta).double().log().requires_grad_()
    ramp = torch.clamp(latent / (2 * log_delta.exp()), -1, 1)
    (expected,) = torch.autograd.grad(ramp, log_delta, outward)
    torch.testing.assert_close(grad, expected)
    by_hand = sum(
        -g * w / (2 * delta) for g, w in zip(outward.tolist(), latent.tolist(), strict=True) if abs(w) <= 2 * delta
    )
    assert float(grad) == pytest.approx(by_hand, rel=1e-5)


def test_behind_a_batch_norm_it_is_learned_step_size_quantization() -> None:
    """Esser et al. (2020), Eq. 3: d(s q)/ds is q - w/s inside and q outside. A norm takes the scale s back out."""
    latent, x = torch.randn(6, 40).double(), torch.randn(30, 40).double()
    outward = torch.randn(30, 6).double()
    delta = 0.4
    s = 2 * delta

    def normed(weight: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x @ weight.T, None, None, training=True, eps=1e-30)

    ours = LearnedTernaryWeight(torch.tensor(delta).double())
    (grad,) = torch.autograd.grad((normed(ours(latent)) * outward).sum(), ours.log_delta)

    scaled = (s * ours(latent).detach()).requires_grad_()
    (back,) = torch.autograd.grad((normed(scaled) * outward).sum(), scaled)
    q = scaled.detach() / s
    lsq = (back * torch.where(latent.abs() <= s, q - latent / s, q)).sum()
    torch.testing.assert_close(grad, lsq * s)


def test_a_learned_delta_moves_by_shares_of_itself_under_adam() -> None:
    for delta in (1e-3, 1.0):
        quantiser = LearnedTernaryWeight(torch.tensor(delta))
        adam = torch.optim.Adam(quantiser.parameters(), lr=0.01)
        (quantiser(delta * torch.linspace(-3, 3, 50)) * torch.linspace(-1, 1, 50)).sum().backward()
        adam.step()
        assert float(quantiser.log_delta.detach().exp()) == pytest.approx(delta * 2.718281828**0.01, rel=1e-4)
