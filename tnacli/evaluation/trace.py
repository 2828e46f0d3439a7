"""Membrane potentials and spikes of every neuron for one sample, for looking at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.packed.model import PackedNetwork
from tnacli.snn.network import SpikingNetwork


@dataclass(frozen=True, eq=False)
class Trace:
    """One layer: `membrane`, float32 [T, neurons], is u of Eq. 1 before its reset; `spikes`, bool [T, neurons]."""

    name: str
    membrane: Tensor
    spikes: Tensor


@torch.inference_mode()
def trace(network: SpikingNetwork | PackedNetwork, sample: Tensor) -> list[Trace]:
    """The layers of spiking neurons, first to last, for one normalised image [C, H, W] or event frames [T, C, H, W]."""
    timesteps, decay = (
        (network.timesteps, network.model.neuron.decay)
        if isinstance(network, SpikingNetwork)
        else (network.about.timesteps, network.about.neuron.decay)
    )
    threshold = threshold_of(network)
    x = sample.cpu() if sample.dim() == 4 else sample.cpu().expand(timesteps, *sample.shape)
    traces = []
    for layer in _layers(network):
        membrane, spikes = _neurons(layer.current(x), decay, threshold)
        traces.append(Trace(layer.name, membrane.flatten(1), spikes.flatten(1)))
        x = spikes.float()
        if layer.pool > 1:
            x = F.avg_pool2d(x, layer.pool)
    return traces


def threshold_of(network: SpikingNetwork | PackedNetwork) -> float:
    """The membrane potential at which its hidden neurons spike."""
    return network.model.neuron.threshold if isinstance(network, SpikingNetwork) else network.about.neuron.threshold


def _neurons(current: Tensor, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    potential = torch.zeros_like(current[0])
    membrane, spikes = torch.empty_like(current), torch.empty_like(current, dtype=torch.bool)
    for t, drive in enumerate(current):
        membrane[t] = decay * potential + drive
        spikes[t] = membrane[t] >= threshold
        potential = membrane[t].masked_fill(spikes[t], 0.0)
    return membrane, spikes


@dataclass(frozen=True, eq=False)
class _Layer:
    name: str
    weight: Tensor
    scale: Tensor
    shift: Tensor
    pool: int

    def current(self, x: Tensor) -> Tensor:
        """Currents [T, out, ...] of inputs [T, ...]."""
        if self.weight.dim() == 2:
            return F.linear(x.flatten(1), self.weight) * self.scale + self.shift
        summed = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        return summed * self.scale[:, None, None] + self.shift[:, None, None]


def _layers(network: SpikingNetwork | PackedNetwork) -> Iterator[_Layer]:
    if isinstance(network, SpikingNetwork):
        for name, layer in network.spiking.items():
            scale, shift = layer.folded()
            yield _Layer(name, layer.synapse.weight.cpu(), scale.cpu(), shift.cpu(), layer.pool)
        return
    for packed in network.layers:
        weight = packed.stored if packed.facts.encoding == "fp32" else packed.ternary()
        scale, shift = torch.from_numpy(packed.scale.copy()), torch.from_numpy(packed.shift.copy())
        yield _Layer(packed.facts.name, torch.from_numpy(weight.copy()).float(), scale, shift, packed.facts.pool)
