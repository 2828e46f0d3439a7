"""The LIF neuron of each library with tnacli's constants: decay 0.5, threshold 1, hard reset to 0, gradients stop there.

Each function imports its library and makes a module for one layer; ImportError where it is not installed. `PEERS` holds, for
each, what it cannot express or how it is set up.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.layerwise import Neurons
from tnacli.recipe.schema.model import Model
from tnacli.snn.lif import lif_reference
from tnacli.snn.surrogate import spike


class OverTime(nn.Module):
    """`run` as a module: currents [T, N, ...] or [N, T, ...] to spikes of the same shape."""

    def __init__(self, run: Callable[[Tensor], Tensor], inner: nn.Module | None = None) -> None:
        super().__init__()
        self.run, self.inner = run, inner

    def forward(self, current: Tensor) -> Tensor:
        return self.run(current)


def plain_loop(model: Model) -> nn.Module:
    """Eq. 1 written down in PyTorch, a boxcar function of its own for the gradient."""
    return OverTime(lambda current: lif_reference(current, model.timesteps, model.neuron))


def spikingjelly(model: Model, surrogate: str = "Rect") -> nn.Module:
    neuron: Any = importlib.import_module("spikingjelly.activation_based.neuron")
    surrogates: Any = importlib.import_module("spikingjelly.activation_based.surrogate")
    constants = model.neuron
    node = neuron.LIFNode(
        tau=1 / (1 - constants.decay), decay_input=False, v_threshold=constants.threshold, v_reset=0.0,
        surrogate_function=getattr(surrogates, surrogate)(), detach_reset=constants.detach_reset, step_mode="m",
    )  # fmt: skip

    def run(current: Tensor) -> Tensor:
        node.reset()
        spikes: Tensor = node(current)
        return spikes

    return OverTime(run, node)


def spikingjelly_atan(model: Model) -> nn.Module:
    return spikingjelly(model, "ATan")


def snntorch(model: Model) -> nn.Module:
    library: Any = importlib.import_module("snntorch")
    constants = model.neuron

    def boxcar(distance: Tensor) -> Tensor:
        return spike(distance, threshold=0.0, height=constants.surrogate_height, window=constants.surrogate_window)

    leaky = library.Leaky(
        beta=constants.decay, threshold=constants.threshold, spike_grad=boxcar, reset_mechanism="zero"
    )

    def run(current: Tensor) -> Tensor:
        potential, spikes = leaky.reset_mem(), []
        for now in current:
            spiked, potential = leaky(now, potential)
            spikes.append(spiked)
        return torch.stack(spikes)

    return OverTime(run, leaky)


def sinabs(model: Model) -> nn.Module:
    layers: Any = importlib.import_module("sinabs.layers")
    activation: Any = importlib.import_module("sinabs.activation")
    constants = model.neuron

    def boxcar(potential: Tensor, threshold: Tensor) -> Tensor:
        return constants.surrogate_height * ((potential - threshold).abs() <= constants.surrogate_window)

    lif = layers.LIF(
        tau_mem=1.0, spike_threshold=torch.tensor(constants.threshold), spike_fn=activation.SingleSpike,
        reset_fn=activation.MembraneReset(), surrogate_grad_fn=boxcar, train_alphas=True, norm_input=False,
    )  # fmt: skip
    lif.alpha_mem.data.fill_(constants.decay)  # from a time constant it would be 0.5 only to seven digits
    lif.alpha_mem.requires_grad_(False)

    def run(current: Tensor) -> Tensor:
        lif.reset_states()
        spikes: Tensor = lif(current)
        return spikes.to(current.dtype)  # always fp32 otherwise

    return OverTime(run, lif)


def norse(model: Model) -> nn.Module:
    library: Any = importlib.import_module("norse.torch")
    functional: Any = importlib.import_module("norse.torch.functional.lif_box")
    constants = model.neuron
    rate = 1 - constants.decay

    def reset(spikes: Tensor, potential: Tensor, rest: Tensor, threshold: Tensor) -> Tensor:
        return (1 - spikes.detach()) * potential

    # v <- v + rate * (I - v): its potential is `rate` times ours, and so is its threshold.
    parameters = functional.LIFBoxParameters(
        tau_mem_inv=torch.tensor(rate), v_th=torch.tensor(rate * constants.threshold), method="triangle",
        alpha=torch.tensor(constants.surrogate_height / rate), reset_method=reset,
    )  # fmt: skip
    cell = library.LIFBoxCell(parameters, dt=1)

    def run(current: Tensor) -> Tensor:
        if cell.p.v_th.device != current.device:
            cell.p = cell.p.to(
                current.device
            )  # no part of the module; gradients of its states would be waited for on the CPU
        state, spikes = None, []
        for now in current:
            spiked, state = cell(now, state)
            spikes.append(spiked)
        return torch.stack(spikes)

    return OverTime(run, cell)


@dataclass(frozen=True)
class Peer:
    """A library's neurons, the axis on which they expect time, and what is to be said of them."""

    neurons: Neurons
    package: str
    time_axis: int = 0
    surrogate: str = "ours"
    note: str = ""


PEERS = {
    "plain PyTorch loop": Peer(plain_loop, "torch", note="Eq. 1 as it reads"),
    "SpikingJelly": Peer(
        spikingjelly, "spikingjelly", surrogate="boxcar of height 1, not 0.5", note="multi-step LIFNode, Rect surrogate"
    ),
    "SpikingJelly, ATan": Peer(
        spikingjelly_atan, "spikingjelly", surrogate="arc tangent: the boxcar has no operator of its own there",
        note="multi-step LIFNode, its registered operator, which is for potentials in fp32",
    ),
    "snnTorch": Peer(snntorch, "snntorch", note="Leaky, reset to zero, a surrogate of ours passed in"),
    "sinabs": Peer(sinabs, "sinabs", time_axis=1, note="LIF, MembraneReset, a surrogate of ours passed in"),
    "norse": Peer(
        norse, "norse", surrogate="triangle: a choice from its list",
        note="LIFBoxCell, potential and threshold halved, spikes above the threshold instead of at it",
    ),
}  # fmt: skip
