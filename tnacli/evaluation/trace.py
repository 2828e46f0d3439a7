"""Membrane potentials and spikes of every neuron for one sample, for looking at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.packed import plain
from tnacli.packed.network import PackedNetwork
from tnacli.packed.steps import Current, Input, LIFLayer
from tnacli.snn.arithmetic import exact
from tnacli.snn.lif import LIF, lif_steps
from tnacli.snn.network import Network


@dataclass(frozen=True, eq=False)
class Trace:
    """One layer: `membrane`, float32 [T, neurons], is u of Eq. 1 before its reset; `spikes`, bool [T, neurons].

    `threshold` is the membrane potential at which its neurons spike.
    """

    name: str
    membrane: Tensor
    spikes: Tensor
    threshold: float


@torch.inference_mode()
@exact()
def trace(network: Network | PackedNetwork, sample: Tensor) -> list[Trace]:
    """The layers of spiking neurons, first to last, for one normalised image [C, H, W] or event frames [T, C, H, W]."""
    if isinstance(network, Network):
        return _of_network(network, sample)
    steps = network.steps
    frames = sample.cpu() if sample.dim() == 4 else sample.cpu().expand(network.about.timesteps, *sample.shape)
    given: dict[Input | LIFLayer, Tensor] = {steps.input: frames}
    traces = []
    for layer in steps.layers:
        own, *others = (_current(network, current, given[current.source]) for current in layer.currents)
        driven = sum(others, start=own)
        if layer.max_of == "currents":
            driven = F.max_pool2d(driven, *layer.squares)
        steps_of = plain.lif_steps(iter(driven.numpy()), plain.neurons_of(layer.neuron))
        membrane, counts = (torch.from_numpy(np.stack(part)) for part in zip(*map(_copied, steps_of), strict=True))
        traces.append(Trace(layer.name, membrane.flatten(1), counts.flatten(1) > 0, layer.neuron.threshold))
        given[layer] = counts.float() if layer.added is None else counts.float() + given[layer.added]
        if layer.max_of == "spikes":
            given[layer] = F.max_pool2d(given[layer], *layer.squares)
        elif layer.pool > 1:
            given[layer] = F.avg_pool2d(given[layer], layer.pool)
    return traces


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
            membrane, spikes = _neurons(whole, decay=neurons.neuron.decay, threshold=neurons.neuron.threshold)
            threshold = neurons.neuron.threshold
            traces.append(Trace(name, membrane.flatten(1).cpu(), spikes.flatten(1).cpu(), threshold))

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


def _copied(step: tuple[plain.Floats, plain.Counts]) -> tuple[plain.Floats, plain.Counts]:
    """A timestep's potential and spikes, before the next is written over them."""
    return step[0].copy(), step[1].copy()


def _neurons(current: Tensor, *, decay: float, threshold: float) -> tuple[Tensor, Tensor]:
    membrane, spikes = torch.empty_like(current), torch.empty_like(current, dtype=torch.bool)
    for t, (potential, spiked) in enumerate(lif_steps(current, decay=decay, threshold=threshold)):
        membrane[t], spikes[t] = potential, spiked
    return membrane, spikes


def _current(network: PackedNetwork, current: Current, x: Tensor) -> Tensor:
    """Currents [T, out, ...] of what leaves the source, x [T, ...]."""
    if current.spec is None:
        return x
    weights = network.weights[current.name]
    weight = torch.from_numpy(weights.values().copy()).float()
    scale, shift = torch.from_numpy(weights.scale.copy()), torch.from_numpy(weights.shift.copy())
    if not current.is_conv:
        return F.linear(x.flatten(1), weight) * scale + shift
    spec = current.spec
    summed = F.conv2d(x, weight, stride=spec.stride, padding=spec.around, groups=spec.groups)
    return summed * scale[:, None, None] + shift[:, None, None]
