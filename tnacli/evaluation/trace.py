"""Membrane potentials and spikes of every neuron for one sample, for looking at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.packed.model import PackedNetwork, PackedWeights
from tnacli.snn.lif import LIF
from tnacli.snn.network import Network


@dataclass(frozen=True, eq=False)
class Trace:
    """One layer: `membrane`, float32 [T, neurons], is u of Eq. 1 before its reset; `spikes`, bool [T, neurons]."""

    name: str
    membrane: Tensor
    spikes: Tensor


@torch.inference_mode()
def trace(network: Network | PackedNetwork, sample: Tensor) -> list[Trace]:
    """The layers of spiking neurons, first to last, for one normalised image [C, H, W] or event frames [T, C, H, W]."""
    if isinstance(network, Network):
        return _of_network(network, sample)
    about = network.about
    behind: dict[str, Tensor] = {}
    x = sample.cpu() if sample.dim() == 4 else sample.cpu().expand(about.timesteps, *sample.shape)
    traces = []
    for layer in network.layers:
        current = _current(layer, x)
        if layer.facts.shortcut is not None:
            skipped = behind[layer.facts.shortcut.source]
            current = current + (skipped if layer.shortcut is None else _current(layer.shortcut, skipped))
        membrane, spikes = _neurons(current, about.neuron.decay, about.neuron.threshold)
        traces.append(Trace(layer.facts.name, membrane.flatten(1), spikes.flatten(1)))
        x = spikes.float()
        if layer.facts.pool > 1:
            x = F.avg_pool2d(x, layer.facts.pool)
        behind[layer.facts.name] = x
    return traces


def threshold_of(network: Network | PackedNetwork) -> float:
    """The membrane potential at which its hidden neurons spike."""
    return network.model.neuron.threshold if isinstance(network, Network) else network.about.neuron.threshold


def _of_network(network: Network, sample: Tensor) -> list[Trace]:
    """From the currents that reach the neurons while the network runs."""
    traces = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(neurons: nn.Module, given: tuple[Tensor, ...]) -> None:
            assert isinstance(neurons, LIF)
            current = given[0][:, 0]  # [T or 1, ...] of the one sample
            if len(given) == 3:
                scale, shift = (values.view(-1, *(1,) * (current.dim() - 2)) for values in given[1:])
                current = current * scale + shift
            whole = current.expand(neurons.timesteps, *current.shape[1:])
            membrane, spikes = _neurons(whole, neurons.neuron.decay, neurons.neuron.threshold)
            traces.append(Trace(name, membrane.flatten(1).cpu(), spikes.flatten(1).cpu()))

        return note

    hooks = [neurons.register_forward_pre_hook(watch(name)) for name, neurons in network.neurons.items()]
    training = network.training
    try:
        network.eval()(sample[None].to(next(network.parameters()).device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return traces


def _neurons(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    potential = torch.zeros_like(current[0])
    membrane, spikes = torch.empty_like(current), torch.empty_like(current, dtype=torch.bool)
    for t, drive in enumerate(current):
        membrane[t] = decay * potential + drive
        spikes[t] = membrane[t] >= threshold
        potential = membrane[t].masked_fill(spikes[t], 0.0)
    return membrane, spikes


def _current(weights: PackedWeights, x: Tensor) -> Tensor:
    """Currents [T, out, ...] of inputs [T, ...]."""
    facts = weights.facts
    weight = torch.from_numpy((weights.stored if facts.encoding == "fp32" else weights.ternary()).copy()).float()
    scale, shift = torch.from_numpy(weights.scale.copy()), torch.from_numpy(weights.shift.copy())
    if weight.dim() == 2:
        return F.linear(x.flatten(1), weight) * scale + shift
    summed = F.conv2d(x, weight, stride=facts.stride, padding=weight.shape[-1] // 2)
    return summed * scale[:, None, None] + shift[:, None, None]
