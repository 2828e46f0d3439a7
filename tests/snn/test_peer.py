"""Forward and gradients equal SpikingJelly's for the same weights."""

from __future__ import annotations

import pytest
import torch

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.lif import LIF

neuron_module = pytest.importorskip(
    "spikingjelly.activation_based.neuron", reason="spikingjelly (dev extra) is not installed"
)
surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")


class HalfRect(torch.nn.Module):
    """SpikingJelly's Rect has height 1 where Eq. 4 has 0.5; scaling the gradient makes them comparable."""

    def __init__(self) -> None:
        super().__init__()
        self.rect = surrogate.Rect(alpha=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.rect(x)
        return 0.5 * spikes + (0.5 * spikes).detach()


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(("decay", "threshold"), [(0.5, 1.0), (0.75, 0.6)])
def test_layer_equals_spikingjelly(detach: bool, decay: float, threshold: float) -> None:
    torch.manual_seed(0)
    peer = neuron_module.LIFNode(
        tau=1 / (1 - decay), decay_input=False, v_threshold=threshold, v_reset=0.0,
        surrogate_function=HalfRect(), detach_reset=detach, step_mode="m",
    ).double()  # fmt: skip
    ours = LIF(Neuron(decay=decay, threshold=threshold, detach_reset=detach), 7)
    weight = torch.randn(20, 12, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(7, 5, 12, dtype=torch.float64)
    outward = torch.randn(7, 5, 20, dtype=torch.float64)
    theirs = peer(inputs @ weight.T)
    mine = ours(inputs @ weight.T)
    assert torch.equal(mine, theirs)
    assert 0.05 < float(mine.detach().mean()) < 0.95
    (expected,) = torch.autograd.grad(theirs, weight, outward)
    (actual,) = torch.autograd.grad(mine, weight, outward)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
