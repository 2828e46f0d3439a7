"""The neuron against Eq. 1 written out by hand, and its two implementations against each other."""

from __future__ import annotations

import pytest
import torch

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.lif import lif_fused, lif_reference, lif_steps
from tnacli.snn.surrogate import spike


def by_hand(current: list[float], decay: float, threshold: float) -> list[int]:
    """Eq. 1 for one neuron, in Python's own arithmetic."""
    potential, spiked, spikes = 0.0, 0, []
    for drive in current:
        potential = decay * potential * (1 - spiked) + drive
        spiked = int(potential >= threshold)
        spikes.append(spiked)
    return spikes


@pytest.mark.parametrize("neuron", [Neuron(), Neuron(decay=0.9, threshold=0.7), Neuron(decay=0.0), Neuron(decay=1.0)])
def test_spikes_follow_equation_1(neuron: Neuron) -> None:
    torch.manual_seed(0)
    current = torch.randn(9, 40, dtype=torch.float64)
    expected = [by_hand(current[:, i].tolist(), neuron.decay, neuron.threshold) for i in range(40)]
    for lif in (lif_reference, lif_fused):
        assert lif(current, 9, neuron).T.tolist() == expected


def test_steps_are_potentials_before_the_reset_and_their_spikes() -> None:
    currents = torch.tensor([[0.8, 1.0], [0.7, 0.5], [0.25, 0.75]])
    steps = [(u.tolist(), s.tolist()) for u, s in lif_steps(currents, decay=0.5, threshold=1.0)]
    assert [u for u, _ in steps] == [pytest.approx(u) for u in ([0.8, 1.0], [1.1, 0.5], [0.25, 1.0])]
    assert [s for _, s in steps] == [[False, True], [True, False], [False, True]]
    drawn = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    spikes = torch.stack([s for _, s in lif_steps(drawn, decay=0.7, threshold=0.9)])
    assert torch.equal(spikes.float(), lif_reference(drawn, 7, Neuron(decay=0.7, threshold=0.9)))


def test_potential_at_the_threshold_spikes_and_resets_to_zero() -> None:
    current = torch.tensor([[1.0], [0.6], [0.6], [0.0]], dtype=torch.float64)
    # u = 1.0 (spike), 0.6, 0.9, 0.45: without the reset the second step would already reach 1.1
    assert lif_fused(current, 4, Neuron()).flatten().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5, 5)])
@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("decay", [0.5, 0.83])
def test_fused_equals_reference_in_value_and_gradient(shape: tuple[int, ...], repeated: bool, decay: float) -> None:
    torch.manual_seed(1)
    neuron = Neuron(decay=decay, threshold=0.8)
    current = torch.randn(1 if repeated else 6, *shape, dtype=torch.float64, requires_grad=True)
    outward = torch.randn(6, *shape, dtype=torch.float64)
    results = []
    for lif in (lif_reference, lif_fused):
        spikes = lif(current, 6, neuron)
        results.append((spikes, *torch.autograd.grad(spikes, current, outward)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    assert results[0][1].abs().sum() > 0


def test_fused_keeps_channels_last() -> None:
    current = torch.randn(5 * 2, 3, 4, 4).contiguous(memory_format=torch.channels_last).unflatten(0, (5, 2))
    spikes = lif_fused(current.requires_grad_(), 5, Neuron())
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_surrogate_gradient_is_the_boxcar_of_equation_4() -> None:
    potential = torch.tensor([0.4, 0.5, 0.9, 1.0, 1.5, 1.6], dtype=torch.float64, requires_grad=True)
    spikes = spike(potential, threshold=1.0)
    assert spikes.tolist() == [0, 0, 0, 1, 1, 1]
    (grad,) = torch.autograd.grad(spikes.sum(), potential)
    assert grad.tolist() == [0, 0.5, 0.5, 0.5, 0.5, 0]


def test_gradient_through_time_by_hand() -> None:
    """Two steps without a spike: du[1]/dI[0] = decay; after a spike at t = 0 the path is cut."""
    neuron = Neuron()
    quiet = torch.tensor([[0.8], [0.4]], dtype=torch.float64, requires_grad=True)  # u = 0.8, 0.8
    (grad,) = torch.autograd.grad(lif_fused(quiet, 2, neuron)[1].sum(), quiet)
    assert grad.flatten().tolist() == [0.25, 0.5]
    spiking = torch.tensor([[1.2], [0.8]], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(lif_fused(spiking, 2, neuron)[1].sum(), spiking)
    assert grad.flatten().tolist() == [0.0, 0.5]


def test_attached_reset_adds_the_gradient_of_the_reset() -> None:
    """u[1] = decay * u[0] * (1 - s[0]) + I[1]: with the reset attached, du[1]/ds[0] = -decay * u[0]."""
    current = torch.tensor([[1.2], [0.8]], dtype=torch.float64, requires_grad=True)
    spikes = lif_reference(current, 2, Neuron(detach_reset=False))
    (grad,) = torch.autograd.grad(spikes[1].sum(), current)
    assert grad.flatten().tolist() == pytest.approx([0.5 * (-0.5 * 1.2) * 0.5, 0.5])
