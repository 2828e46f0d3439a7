"""Dropout: one mask a sample, the same at every timestep, drawn anew for every sample and step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tnacli.build import build_network
from tnacli.recipe.schema.model import Model
from tnacli.seeds import derive
from tnacli.snn.network import SpikingLayer, SpikingNetwork

TIMESTEPS, SAMPLES, NEURONS = 4, 24, 50


def layer(
    name: str = "fc1", *, dropout: float = 0.5, compiled: bool = True, layout: str = f"2C3-{NEURONS}FC"
) -> SpikingLayer:
    """A layer every neuron of which is at its threshold, and spikes, at every timestep: by the shift of its batch norm alone."""
    model = Model(layout=layout, timesteps=TIMESTEPS, dropout=dropout)
    network = build_network(model, channels=1, size=(4, 4), classes=3, seed=0)
    assert isinstance(network, SpikingNetwork)
    made = network.spiking[name].train()
    assert made.norm is not None
    with torch.no_grad():
        made.synapse.weight.zero_()
        made.norm.bias.fill_(model.neuron.threshold)
    made.compiled = compiled
    return made


def passed(made: SpikingLayer) -> Tensor:
    """What such a layer passes on, [T, N, neurons]."""
    spikes: Tensor = made(torch.zeros(TIMESTEPS, SAMPLES, 2, 4, 4))
    return spikes


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_a_dropped_neuron_is_absent_for_the_whole_simulation(dropout: float, compiled: bool) -> None:
    spikes = passed(layer(dropout=dropout, compiled=compiled))
    assert spikes.shape == (TIMESTEPS, SAMPLES, NEURONS)
    first = spikes[0]
    assert all(torch.equal(step, first) for step in spikes)
    kept = first > 0
    assert torch.equal(first[kept], torch.full_like(first[kept], 1 / (1 - dropout)))
    count = kept.numel()
    assert abs(float(kept.float().mean()) - (1 - dropout)) < 4 * math.sqrt(dropout * (1 - dropout) / count)


def test_every_sample_has_a_mask_of_its_own_and_so_has_every_step() -> None:
    made = layer()
    first, second = passed(made)[0] > 0, passed(made)[0] > 0
    masks = [*first, *second]
    assert len({tuple(mask.tolist()) for mask in masks}) == 2 * SAMPLES
    for neuron in range(NEURONS):  # none is dropped in all samples, or in none
        assert 0 < int(first[:, neuron].sum()) < SAMPLES


@pytest.mark.parametrize("compiled", [True, False])
def test_the_gradient_of_a_dropped_neuron_is_zero_and_of_a_kept_one_scaled(compiled: bool) -> None:
    made = layer(compiled=compiled)
    assert made.norm is not None
    spikes = passed(made)
    (grad,) = torch.autograd.grad(spikes.sum(), made.norm.bias)
    kept = (spikes > 0).float().sum((0, 1))
    assert torch.equal(grad, kept * 2 * 0.5)  # 1 / (1 - p), times the height of the surrogate


def test_evaluation_drops_nothing() -> None:
    made = layer().eval()
    with torch.no_grad():
        assert torch.equal(passed(made), torch.ones(TIMESTEPS, SAMPLES, NEURONS))


def test_convolutions_drop_nothing() -> None:
    """Dropout is on the fully connected layers (section 4.1); the readout's inputs are the last of them."""
    made = layer("conv2", layout=f"2C3-3C3-{NEURONS}FC")
    spikes = passed(made)
    assert torch.equal(spikes, torch.ones_like(spikes))


def test_a_step_of_training_draws_anew_from_its_own_place() -> None:
    """The generator is set by seed, epoch and step: other steps, other masks; the same step again, the same."""
    made = layer()

    def masks(*place: int) -> Tensor:
        torch.manual_seed(derive(place[0], "dropout", *place[1:]))
        return passed(made)

    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    drawn = [masks(*place) for place in places]
    assert all(torch.equal(masks(*place), one) for place, one in zip(places, drawn, strict=True))
    assert len({one.detach().numpy().tobytes() for one in drawn}) == 4
