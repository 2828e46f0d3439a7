"""Artificial networks: the same layers with rectified linear units, against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.build import build_network
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork

ANN = Model(layout="4C3-AP2-6C3-AP2-8FC", timesteps=3, spiking=False, dropout=0.0)
INPUTS = torch.randn(6, 3, 8, 8)


def network(**changes: object) -> SpikingNetwork:
    made = build_network(ANN.model_copy(update=changes), channels=3, size=(8, 8), classes=5, seed=0)
    assert isinstance(made, SpikingNetwork)
    return made


def by_hand(net: SpikingNetwork, x: Tensor) -> Tensor:
    """The last hidden layer, from the modules' own weights and batch norms, in PyTorch's words."""
    for name, pool in (("conv1", 2), ("conv2", 2), ("fc1", 1)):
        layer = net.spiking[name]
        weight = layer.synapse.weight
        x = F.linear(x.flatten(1), weight) if name == "fc1" else F.conv2d(x, weight, padding=1)
        norm = layer.norm
        assert norm is not None
        x = F.batch_norm(
            x, None if net.training else norm.running_mean, None if net.training else norm.running_var,
            norm.weight, norm.bias, training=net.training,
        )  # fmt: skip
        x = F.avg_pool2d(F.relu(x), pool) if pool > 1 else F.relu(x)
    return x


# Sums over t < T of sums over k <= t of leak^k: with T = 3, leak 0.5: 1 + 1.5 + 1.75; leak 1: 1 + 2 + 3.
@pytest.mark.parametrize(("readout", "factor"), [("leaky", 4.25), ("sum", 6.0)])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_a_plain_network_whose_readout_receives_the_same_current_at_every_timestep(
    readout: str, factor: float, training: bool
) -> None:
    net = network(readout=readout)
    net.train()
    net(INPUTS + 1)  # statistics other than those at the start
    net.train(training)
    hidden = by_hand(net, INPUTS)
    expected = factor * F.linear(hidden, net.readout.weight, net.readout.bias)
    torch.testing.assert_close(net(INPUTS), expected, rtol=1e-4, atol=1e-5)


def test_frames_of_events_are_seen_one_after_the_other() -> None:
    net = network().eval()
    frames = INPUTS.reshape(2, 3, 3, 8, 8)  # N, T, C, H, W
    potential = logits = torch.zeros(2, 5)
    for t in range(3):
        potential = 0.5 * potential + F.linear(by_hand(net, frames[:, t]), net.readout.weight, net.readout.bias)
        logits = logits + potential
    torch.testing.assert_close(net(frames), logits, rtol=1e-4, atol=1e-5)


def test_it_starts_with_the_weights_of_the_spiking_network() -> None:
    ann, snn = network(), network(spiking=True)
    assert ann.state_dict().keys() == snn.state_dict().keys()
    assert all(torch.equal(value, snn.state_dict()[name]) for name, value in ann.state_dict().items())


@pytest.mark.parametrize("layout", ["4C3-R4x2-R6x1/2-AP2-8FC", "vgg11"])
def test_other_layouts_have_no_spikes_either(layout: str) -> None:
    net = build_network(
        ANN.model_copy(update={"layout": layout, "width": 0.05}), channels=3, size=(32, 32), classes=5, seed=0
    )
    seen: list[Tensor] = []
    for neurons in net.neurons.values():
        neurons.register_forward_hook(lambda module, given, out: seen.append(out))
    net.train()(torch.randn(4, 3, 32, 32)).sum().backward()
    assert len(seen) == len(net.neurons)
    assert all(out.shape[0] == 1 and bool((out >= 0).all()) and len(out.unique()) > 2 for out in seen)
    assert all(parameter.grad is not None for parameter in net.parameters())
