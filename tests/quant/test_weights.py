"""Ternary and binary weights: Eq. 6, straight-through gradients, and an optimiser that carries over."""

from __future__ import annotations

import pytest
import torch

from tnacli.build import build_network
from tnacli.errors import DivergedError
from tnacli.quant.weights import (
    BinaryWeight,
    TernaryWeight,
    compress,
    compression_mode,
    latent_parameters,
    latent_state,
    load_latent_state,
    weight_shares,
)
from tnacli.recipe.compression_section import Binary, Ternary
from tnacli.recipe.model_section import Model
from tnacli.snn.network import SpikingNetwork


def network() -> SpikingNetwork:
    return build_network(Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=3), channels=3, size=(8, 8), classes=5, seed=0)


def test_ternary_is_equation_6() -> None:
    delta = 0.5  # exact in binary, so that the borders are what they say
    latent = torch.tensor([-1.0, -0.5, -0.25, 0.0, 0.5, 0.500001, 3.0])
    assert TernaryWeight(delta)(latent).tolist() == [-1, 0, 0, 0, 0, 1, 1]


def test_binary_is_the_sign_with_plus_one_at_zero() -> None:
    assert BinaryWeight()(torch.tensor([-2.0, -1e-9, 0.0, 1e-9])).tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize("quantiser", [TernaryWeight(0.1), BinaryWeight()])
def test_the_gradient_passes_straight_through(quantiser: torch.nn.Module) -> None:
    latent = torch.randn(50, requires_grad=True)
    outward = torch.randn(50)
    (grad,) = torch.autograd.grad(quantiser(latent), latent, outward)
    assert torch.equal(grad, outward)


@pytest.mark.parametrize("compression", [Ternary(delta=0.05), Binary()])
def test_only_hidden_layers_are_compressed(compression: Ternary | Binary) -> None:
    ours = network()
    shares = compress(ours, compression)
    allowed = {-1.0, 0.0, 1.0} if compression.mode == "ternary" else {-1.0, 1.0}
    assert list(shares) == ["conv2", "fc1"]
    assert compression_mode(ours) == compression.mode
    for name, layer in ours.spiking.items():
        values = set(layer.synapse.weight.unique().tolist())
        assert (values <= allowed) == (name != "conv1")
    assert not set(ours.readout.weight.unique().tolist()) <= allowed
    for share in weight_shares(ours).values():
        assert share.negative + share.zero + share.positive == pytest.approx(1)


def test_the_optimiser_keeps_its_parameters_and_moments() -> None:
    ours = network()
    before = latent_parameters(ours)
    adam = torch.optim.Adam(before.values(), lr=0.1)
    ours(torch.randn(4, 3, 8, 8)).sum().backward()
    adam.step()
    compress(ours, Ternary(delta=0.05))
    after = latent_parameters(ours)
    assert set(before) == set(after)
    assert all(before[name] is after[name] for name in before)
    latent = after["layers.conv2.synapse.weight"]
    held = latent.detach().clone()
    adam.zero_grad()
    ours(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert latent.grad is not None
    assert latent.grad.abs().sum() > 0
    adam.step()
    assert not torch.equal(latent, held)
    assert "exp_avg" in adam.state[latent]


def test_an_all_zero_layer_is_refused_with_a_remedy() -> None:
    ours = network()
    with pytest.raises(DivergedError, match=r"conv2 \(largest .w. 0\.\d+\), fc1 .*compression\.delta"):
        compress(ours, Ternary(delta=10.0), refuse_silent=True)
    assert compression_mode(ours) is None


def test_latent_state_is_the_same_before_and_after_compression() -> None:
    ours, other = network(), network()
    before = {name: value.clone() for name, value in latent_state(ours).items()}
    compress(ours, Ternary(delta=0.05))
    after = latent_state(ours)
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    load_latent_state(other, after)
    compress(other, Ternary(delta=0.05))
    assert torch.equal(other.hidden["fc1"].synapse.weight, ours.hidden["fc1"].synapse.weight)
