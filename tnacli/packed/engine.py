"""Runs a packed network: the same spikes as the checkpoint's network, in a fraction of its memory.

The first layer and the readout are fp32 and computed by the very calls that `SpikingNetwork` makes. The
layers between sum spikes with weights in {-1, 0, +1}, which is exact (tnacli.packed.sums); everything after
the sums is element by element in fp32 in a fixed order of operations. So spikes and logits are bit-identical
to the network's own on the same machine.

Memory: weights are held once, in the form that sums want: four in a byte where they are table lookups, a
sixteenth of fp32, else int8. Activations are spike counts of one byte, all timesteps of one layer at a time, and
convolutions take a few images at a time. After table lookups, sums and potentials of a convolution exist only
for the places at hand, in the processor's caches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.errors import DataError
from tnacli.packed.compiled import LookupSums, compiled_engine, lif_spikes, pooled_counts
from tnacli.packed.network import PackedNetwork
from tnacli.packed.steps import Current, Input, LIFLayer
from tnacli.packed.sums import Sums, hidden_sums
from tnacli.pixels import as_input
from tnacli.snn.arithmetic import exact
from tnacli.snn.lif import lif_steps

Observer = Callable[[str, Tensor], None]
"""Called with a layer's name and its spikes, uint8 [T, n, C, H, W] or [T, n, features], before pooling.

A convolution's batch comes in several parts.
"""

# Neurons of the largest layer that are worked on at a time: eight images of a full-width CIFARNet.
_WORKING_SET = 1 << 21


@dataclass(frozen=True)
class _Hidden:
    """A layer after the first, ready to run.

    `own` makes currents of the counts of the layer before, in the two rounded steps of SpikingNetwork; `skipped` does of
    those of the shortcut's source, and they are added.
    """

    layer: LIFLayer
    own: _Weighted
    skipped: Callable[[Tensor], Tensor] | None

    def current_at(self, t: int, counts: Tensor, skipped: Tensor | None) -> Tensor:
        """A convolution's currents at one timestep, from counts [T, n, H, W, in]: large, so computed when due."""
        current = self.own(counts[t])
        return current if self.skipped is None or skipped is None else current.add_(self.skipped(skipped[t]))


@dataclass(frozen=True)
class _Weighted:
    """Sums of counts and what makes currents of them."""

    sums: Sums
    scale: Tensor
    shift: Tensor

    def __call__(self, counts: Tensor) -> Tensor:
        return self.sums(counts).mul_(self.scale).add_(self.shift)


def _as_current(divisor: int, counts: Tensor) -> Tensor:
    """The averaged spikes themselves."""
    return counts.float().div_(divisor)


class PackedSNN:
    """A packed network on the CPU: normalised float32 inputs to logits.

    `integer=False` keeps to plain fp32, which defines the result. `fallbacks` gives, by layer, why its sums
    are not computed in integers; it is empty where all are.
    """

    def __init__(self, network: PackedNetwork, *, integer: bool = True) -> None:
        self.about = network.about
        self.fallbacks: dict[str, str] = {}
        self._compiled = integer and compiled_engine().library is not None
        self._first, *hidden = network.steps.layers
        first = network.weights[self._first.name]
        self._first_weight = _tensor(first.stored)
        self._first_stride = first.spec.stride
        self._first_scale, self._first_shift = _tensor(first.scale), _tensor(first.shift)
        self._hidden = [self._prepare(network, layer, integer) for layer in hidden]
        self._sources = {layer.shortcut.source for layer in hidden if layer.shortcut is not None}
        self._readout_divisor = network.steps.readout.source.counts_to
        self._readout_weight = _tensor(network.readout_weight)
        self._readout_bias = _tensor(network.readout_bias)
        neurons = max(prod(layer.neurons) for layer in network.steps.layers)
        self._images_at_once = max(1, _WORKING_SET // neurons)

    def _prepare(self, network: PackedNetwork, layer: LIFLayer, integer: bool) -> _Hidden:
        def weighted(current: Current) -> _Weighted:
            weights = network.weights[current.name]
            ternary, stride = torch.from_numpy(weights.ternary()), weights.spec.stride
            sums, reason = hidden_sums(ternary, current.source.counts_to, stride=stride, integer=integer)
            if reason is not None:
                self.fallbacks[current.name] = reason
            return _Weighted(sums, _tensor(weights.scale), _tensor(weights.shift))

        shortcut, skipped = layer.shortcut, None
        if shortcut is not None:
            as_it_is = functools.partial(_as_current, shortcut.source.counts_to)
            skipped = as_it_is if shortcut.spec is None else weighted(shortcut)
        return _Hidden(layer, weighted(layer.currents[0]), skipped)

    @torch.inference_mode()
    def normalise(self, inputs: Tensor) -> Tensor:
        """Float32 inputs for the network from uint8 pixels [N, C, H, W] or event counts [N, T, C, H, W].

        `tnacli.pixels.as_input` with the file's own statistics.
        """
        spec = self.about.input
        return as_input(inputs, spec.mean, spec.std, spec.kind)

    @torch.inference_mode()
    @exact()
    def __call__(self, inputs: Tensor, observe: Observer | None = None) -> Tensor:
        """Logits [N, classes] of normalised images [N, C, H, W] or event frames [N, T, C, H, W], float32.

        Raises DataError for inputs of another shape.
        """
        self._check(inputs)
        x = inputs.unsqueeze(0) if self.about.input.kind == "images" else inputs.transpose(0, 1)
        current = self._first_current(x)
        convs = [hidden for hidden in self._hidden if hidden.layer.currents[0].is_conv]
        if self._first.currents[0].is_conv:
            # Spikes do not depend on how a batch is cut, as the sums are exact. Fully connected layers are
            # not cut: they hold most of the weights, which would be read again for every part.
            parts = current.split(self._images_at_once, dim=1)
            maps = torch.cat([self._maps(part, convs, observe) for part in parts], dim=1)
            spikes = maps.permute(0, 1, 4, 2, 3).flatten(2)  # weights after it count in the order C, H, W
        else:
            spikes = self._fire_at_once(self._first.name, current, observe)
        for hidden in self._hidden[len(convs) :]:
            driven = hidden.own(spikes.flatten(0, 1)).view(*spikes.shape[:2], *hidden.layer.neurons)
            spikes = self._fire_at_once(hidden.layer.name, driven, observe)
        return self._logits(spikes)

    def _check(self, inputs: Tensor) -> None:
        spec = self.about.input
        expected = spec.shape(self.about.timesteps)
        if inputs.dtype != torch.float32 or inputs.shape[1:] != expected:
            taken, given = ("x".join(map(str, shape)) for shape in (expected, inputs.shape[1:]))
            raise DataError(
                f"the packed network takes {spec.kind} of {taken} in float32; these are {given} in "
                f"{str(inputs.dtype).removeprefix('torch.')}"
            )

    def _first_current(self, x: Tensor) -> Tensor:
        """Currents [T or 1, N, H, W, out] or [T or 1, N, out] of the first layer.

        One call on the whole batch, as in SpikingNetwork: these sums are rounded, and for a batch that is cut
        otherwise the library may add in another order.
        """
        rows = x.flatten(0, 1)
        if self._first.currents[0].is_conv:
            kernel, stride = self._first_weight.shape[-1], self._first_stride
            if kernel == 1:
                rows, stride = rows[..., ::stride, ::stride], 1
            summed = F.conv2d(rows, self._first_weight, stride=stride, padding=kernel // 2).permute(0, 2, 3, 1)
        else:
            summed = F.linear(rows.flatten(1), self._first_weight)
        summed.mul_(self._first_scale).add_(self._first_shift)
        return summed.view(*x.shape[:2], *summed.shape[1:])

    def _maps(self, current: Tensor, convs: Sequence[_Hidden], observe: Observer | None) -> Tensor:
        """Pooled spike counts of the last convolution, [T, n, H, W, C], from the first one's currents."""
        current = current.contiguous()
        counts = self._pooled(self._fire_at_once(self._first.name, current, observe), self._first.pool)
        kept: dict[Input | LIFLayer, Tensor] = {self._first: counts} if self._first in self._sources else {}
        for hidden in convs:
            layer, own = hidden.layer, hidden.own
            skipped = None if layer.shortcut is None else kept[layer.shortcut.source]
            if isinstance(own.sums, LookupSums) and skipped is None:
                neuron = self.about.neuron
                spikes = own.sums.fire(counts, own.scale, own.shift, decay=neuron.decay, threshold=neuron.threshold)
                _show(observe, layer.name, spikes)
            else:
                drive = functools.partial(hidden.current_at, counts=counts, skipped=skipped)
                spikes = self._fire(layer.name, drive, observe)
            counts = self._pooled(spikes, layer.pool)
            if layer in self._sources:
                kept[layer] = counts
        return counts

    def _fire_at_once(self, name: str, current: Tensor, observe: Observer | None) -> Tensor:
        """Spikes [T, ...], uint8, of neurons driven by `current` [T or 1, ...]."""
        if not self._compiled:
            return self._fire(name, lambda t: current[min(t, len(current) - 1)], observe)
        neuron = self.about.neuron
        spikes = lif_spikes(current, self.about.timesteps, decay=neuron.decay, threshold=neuron.threshold)
        _show(observe, name, spikes)
        return spikes

    def _pooled(self, spikes: Tensor, size: int) -> Tensor:
        if size == 1:
            return spikes
        return pooled_counts(spikes, size) if self._compiled else _pooled(spikes, size)

    def _fire(self, name: str, current: Callable[[int], Tensor], observe: Observer | None) -> Tensor:
        """Spikes [T, ...], uint8, of LIF neurons (Eq. 1) driven by `current(t)`, one timestep at a time."""
        neuron, spikes = self.about.neuron, None
        currents = map(current, range(self.about.timesteps))
        for t, (_, spiked) in enumerate(lif_steps(currents, decay=neuron.decay, threshold=neuron.threshold)):
            if spikes is None:
                spikes = torch.empty((self.about.timesteps, *spiked.shape), dtype=torch.uint8)
            spikes[t] = spiked
        assert spikes is not None
        _show(observe, name, spikes)
        return spikes

    def _logits(self, spikes: Tensor) -> Tensor:
        """Output potentials summed over time, from the last layer's spike counts [T, N, features]."""
        averaged = spikes.float().div_(self._readout_divisor)
        current = F.linear(averaged, self._readout_weight, self._readout_bias)
        potential = current[0]
        logits = potential
        for t in range(1, len(current)):
            potential = potential * self.about.readout.leak + current[t]
            logits = logits + potential
        return logits


def _show(observe: Observer | None, name: str, spikes: Tensor) -> None:
    if observe is not None:
        observe(name, spikes.permute(0, 1, 4, 2, 3) if spikes.dim() == 5 else spikes)


def _pooled(spikes: Tensor, size: int) -> Tensor:
    """How many of each size x size neurons spiked, uint8 [T, n, H, W, C].

    Rows and columns that do not fill a square are dropped, as AvgPool2d does.
    """
    for axis in (2, 3) if size > 1 else ():
        whole = spikes.narrow(axis, 0, spikes.shape[axis] // size * size).unflatten(axis, (-1, size))
        spikes = whole.select(axis + 1, 0).clone()
        for place in range(1, size):
            spikes += whole.select(axis + 1, place)
    return spikes


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    """A tensor with memory of its own: the arrays of a file may be read-only."""
    return torch.from_numpy(array.copy())
