"""Which layers are compressed, how far, and an optimiser and states that carry over."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from tnacli.build import build_network
from tnacli.errors import DivergedError
from tnacli.quant.weights import (
    compress,
    compressed_layers,
    compression_mode,
    latent_parameters,
    latent_state,
    load_latent_state,
    weight_shares,
)
from tnacli.recipe.schema.compression import Binary, Ternary
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork


def network() -> SpikingNetwork:
    model = Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=3)
    return cast(SpikingNetwork, build_network(model, channels=3, size=(8, 8), classes=5, seed=0))


WAYS = [Ternary(delta=0.05), Ternary(threshold="mean"), Ternary(threshold="learned", share=0.5), Binary()]


@pytest.mark.parametrize("compression", WAYS, ids=str)
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


@pytest.mark.parametrize("compression", WAYS, ids=str)
def test_the_optimiser_keeps_its_parameters_and_moments(compression: Ternary | Binary) -> None:
    ours = network()
    before = latent_parameters(ours)
    adam = torch.optim.Adam(before.values(), lr=0.1)
    ours(torch.randn(4, 3, 8, 8)).sum().backward()
    adam.step()
    compress(ours, compression)
    after = latent_parameters(ours)
    learned = isinstance(compression, Ternary) and compression.threshold == "learned"
    new = {f"layers.{name}.synapse.log_delta" for name in ours.hidden} if learned else set()
    assert set(after) == set(before) | new
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


@pytest.mark.parametrize("compression", WAYS, ids=str)
def test_latent_state_is_the_same_before_and_after_compression(compression: Ternary | Binary) -> None:
    ours, other = network(), network()
    before = {name: value.clone() for name, value in latent_state(ours).items()}
    compress(ours, compression)
    after = latent_state(ours)
    assert {name for name in after if not name.endswith("log_delta")} == set(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        for value in latent_state(ours).values():
            value.mul_(2)
    compress(other, compression)
    load_latent_state(other, latent_state(ours))
    assert all(torch.equal(ours.hidden[n].synapse.weight, other.hidden[n].synapse.weight) for n in ours.hidden)
    plain = network()
    load_latent_state(plain, latent_state(ours))
    assert all(torch.equal(2 * before[name], value) for name, value in latent_state(plain).items())


def test_layers_are_compressed_once_and_the_mode_is_that_of_all() -> None:
    ours = network()
    assert list(compress(ours, Ternary(threshold="mean"), ["fc1", "conv1"])) == ["fc1"]
    assert compressed_layers(ours) == {"fc1": "ternary"}
    assert list(weight_shares(ours)) == ["fc1"]
    assert compression_mode(ours) is None
    assert list(compress(ours, Ternary(threshold="mean"))) == ["conv2"]
    assert list(compress(ours, Ternary(threshold="mean"))) == []
    assert compression_mode(ours) == "ternary"


def test_a_share_that_silences_a_layer_is_refused_with_a_remedy() -> None:
    ours = network()
    with pytest.raises(DivergedError, match=r"threshold: learned every weight .*conv2 .*Lower compression\.share"):
        compress(ours, Ternary(threshold="learned", share=50.0), refuse_silent=True)
    assert compressed_layers(ours) == {}
