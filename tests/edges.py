"""A network all of whose neurons are driven to the threshold exactly, at every timestep: each form of it must spike alike."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.packed.network import PackedNetwork

TIMESTEPS = 3


def at_the_threshold(layout: str) -> tuple[PackedNetwork, Tensor, Tensor]:
    """A packed network without pooling or batch norm, inputs [5, ...], and its logits [5, classes] counted by hand.

    Weights of 0 and a current of 1, the threshold, from the bias alone: every neuron spikes at every timestep. With a shortcut
    the current is 1 more, and it spikes all the same.
    """
    network = make_network(layout, norm="none", channels=1, size=(4, 4), timesteps=TIMESTEPS, readout="sum")
    with torch.no_grad():
        for layer in network.spiking.values():
            latent = getattr(layer.synapse, "parametrizations", None)
            (latent.weight.original if latent else layer.synapse.weight).zero_()
            assert layer.synapse.bias is not None
            layer.synapse.bias.fill_(1.0)
        network.readout.weight.fill_(1.0)
        network.readout.bias.zero_()
    inputs = make_inputs(network, 5)
    # Every input of the readout spikes three times; potentials are summed over time: 1 + 2 + 3 spikes' worth.
    expected = torch.full((5, network.classes), 6.0 * network.readout.in_features)
    with torch.no_grad():
        assert torch.equal(network(inputs), expected)
    return make_packed(network), inputs, expected
