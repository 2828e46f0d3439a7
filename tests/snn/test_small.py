"""The low-memory option: the same losses and gradients, bit for bit, from spikes kept in a byte each."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from tnacli.build import build_network
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork
from tnacli.snn.small import kept_small


def trained(layout: str, *, small: bool, compiled: bool, dropout: float) -> tuple[SpikingNetwork, list[Tensor]]:
    """A network after a backward pass, and its gradients."""
    model = Model(layout=layout, timesteps=4, dropout=dropout)
    network = build_network(model, channels=3, size=(16, 16), classes=5, seed=0).train()
    assert isinstance(network, SpikingNetwork)
    network.to(memory_format=torch.channels_last)
    for layer in network.spiking.values():
        layer.compiled = compiled
    if small:
        network.keep_small()
    torch.manual_seed(0)
    network(torch.randn(6, 3, 16, 16)).square().sum().backward()
    return network, [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("layout", ["8C3-AP2-12C3-AP4-9C3-11FC-7FC", "6C3-R6x2-R9/2-AP2-7FC"])
def test_gradients_are_the_same_bits(layout: str, dropout: float, compiled: bool) -> None:
    _, expected = trained(layout, small=False, compiled=compiled, dropout=dropout)
    network, found = trained(layout, small=True, compiled=compiled, dropout=dropout)
    assert len(found) == len(expected) == len(list(network.parameters()))
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    assert any(float(grad.abs().max()) > 0 for grad in expected)
    behind_dropout = [name for name, layer in network.spiking.items() if dropout and layer.dropout][:-1]
    assert [name for name, layer in network.spiking.items() if not layer.keeps_small][1:] == (
        ["fc2"] if behind_dropout else []
    )


def test_the_spikes_themselves_are_not_kept() -> None:
    weight = torch.randn(4, requires_grad=True)
    for small in (True, False):
        spikes = torch.ones(5, 4)
        alive = weakref.ref(spikes)
        with kept_small(spikes if small else torch.ones(5, 4)):
            product = spikes * weight
        del spikes
        assert (alive() is None) == small
        product.sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        assert torch.equal(weight.grad, torch.full((4,), 5.0 if small else 10.0))


@pytest.mark.parametrize("pool", [1, 2, 4, 8])
def test_every_average_of_spikes_fits_in_a_byte(pool: int) -> None:
    """Whatever is kept of the input comes back as it was, in its memory format; everything else is left alone."""
    spikes = (torch.arange(64 * 20) % (pool * pool + 1)).float().div(pool * pool).view(20, 4, 4, 4)
    spikes = spikes.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(4, requires_grad=True)
    with kept_small(spikes):
        product = spikes * weight
    kept = product.grad_fn._saved_self  # type: ignore[union-attr]
    assert torch.equal(kept, spikes)
    assert kept.stride() == spikes.stride()
    with kept_small(spikes.clone()):
        assert (spikes * weight).grad_fn._saved_self.data_ptr() == spikes.data_ptr()  # type: ignore[union-attr]
