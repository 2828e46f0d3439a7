"""Runs a packed network: the same spikes as the checkpoint's network, in a fraction of its memory.

The first layer and the readout are fp32 and computed by the very calls that `SpikingNetwork` makes. The
layers between sum spikes with weights in {-1, 0, +1}, which is exact (tnacli.packed.sums); everything behind
the sums is element by element in fp32 in a fixed order of operations. So spikes and logits are bit-identical
to the network's own on the same machine.

Memory: weights are held once, in the form that sums want: four in a byte where they are table lookups, a
sixteenth of fp32, else int8. Activations are spike counts of one byte, all timesteps of one layer at a time, and
convolutions take a few images at a time. Behind table lookups, sums and potentials of a convolution exist only
for the places at hand, in the processor's caches.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.errors import DataError
from tnacli.packed.compiled import LookupSums, compiled_engine, lif_spikes, pooled_counts
from tnacli.packed.model import PackedLayer, PackedNetwork, PackedWeights
from tnacli.packed.sums import Sums, hidden_sums

Observer = Callable[[str, Tensor], None]
"""Called with a layer's name and its spikes, uint8 [T, n, C, H, W] or [T, n, features], before pooling.

A convolution's batch comes in several parts.
"""

# Neurons of the largest layer that are worked on at a time: eight images of a full-width CIFARNet.
_WORKING_SET = 1 << 21


@dataclass(frozen=True)
class _Hidden:
    """A layer behind the first, ready to run.

    `shortcut` makes currents of the counts behind the layer `source`, which are added to the layer's own.
    """

    name: str
    is_conv: bool
    sums: Sums
    scale: Tensor
    shift: Tensor
    pool: int
    source: str | None = None
    shortcut: Callable[[Tensor], Tensor] | None = None

    def current(self, counts: Tensor) -> Tensor:
        """Currents from one or more timesteps' counts, in the two rounded steps of SpikingNetwork."""
        return _currents(self.sums, self.scale, self.shift, counts)

    def current_at(self, t: int, counts: Tensor, skipped: Tensor | None) -> Tensor:
        """A convolution's currents at one timestep, from counts [T, n, H, W, in]: large, so computed when due."""
        current = self.current(counts[t])
        return current if self.shortcut is None or skipped is None else current.add_(self.shortcut(skipped[t]))


def _currents(sums: Sums, scale: Tensor, shift: Tensor, counts: Tensor) -> Tensor:
    return sums(counts).mul_(scale).add_(shift)


def _as_current(divisor: int, counts: Tensor) -> Tensor:
    """The averaged spikes themselves."""
    return counts.float().div_(divisor)


class PackedSNN:
    """A packed network on the CPU: normalised float32 inputs to logits.

    `integer=False` keeps to plain fp32, which defines the result. `fallbacks` gives, by layer, why its sums
    are not computed in integers; it is empty where all are.
    """

    def __init__(self, network: PackedNetwork, *, integer: bool = True) -> None:
        about = network.about
        self.about = about
        self.fallbacks: dict[str, str] = {}
        first = network.layers[0]
        self._first = first.facts
        self._first_weight = _tensor(first.stored)
        self._first_scale, self._first_shift = _tensor(first.scale), _tensor(first.shift)
        self._hidden: list[_Hidden] = []
        self._compiled = integer and compiled_engine().library is not None
        counts_to = {layer.facts.name: layer.facts.pool**2 for layer in network.layers}
        for before, layer in itertools.pairwise(network.layers):
            self._hidden.append(self._prepare(layer, before.facts.name, counts_to, integer))
        self._sources = {layer.source for layer in self._hidden}
        self._readout_divisor = network.layers[-1].facts.pool ** 2
        self._readout_weight = _tensor(network.readout_weight)
        self._readout_bias = _tensor(network.readout_bias)
        # Neurons of each layer: what is behind its pooling, times the square that each is the mean of.
        shapes = zip(about.layers, about.out_shapes(), strict=True)
        neurons = max(prod(shape) * layer.pool**2 for layer, shape in shapes)
        self._images_at_once = max(1, _WORKING_SET // neurons)

    def _prepare(self, layer: PackedLayer, before: str, counts_to: dict[str, int], integer: bool) -> _Hidden:
        facts, shortcut = layer.facts, None
        if facts.shortcut is not None:
            source = facts.shortcut.source
            shortcut = functools.partial(_as_current, counts_to[source])
            if layer.shortcut is not None:
                sums = self._sums(f"{facts.name}.shortcut", layer.shortcut, counts_to[source], integer)
                scale, shift = _tensor(layer.shortcut.scale), _tensor(layer.shortcut.shift)
                shortcut = functools.partial(_currents, sums, scale, shift)
        return _Hidden(
            facts.name,
            facts.kind == "conv",
            self._sums(facts.name, layer, counts_to[before], integer),
            _tensor(layer.scale),
            _tensor(layer.shift),
            facts.pool,
            None if facts.shortcut is None else facts.shortcut.source,
            shortcut,
        )

    def _sums(self, name: str, weights: PackedWeights, counts_to: int, integer: bool) -> Sums:
        ternary = torch.from_numpy(weights.ternary())
        sums, reason = hidden_sums(ternary, counts_to, stride=weights.facts.stride, integer=integer)
        if reason is not None:
            self.fallbacks[name] = reason
        return sums

    @torch.inference_mode()
    def normalise(self, inputs: Tensor) -> Tensor:
        """Float32 inputs for the network from uint8 pixels [N, C, H, W] or event counts [N, T, C, H, W].

        Pixels become (x / 255 - mean) / std with the file's own statistics; event counts stay what they are.
        """
        x = inputs.to(torch.float32)
        facts = self.about.input
        if facts.kind == "events":
            return x
        x = x / 255
        if facts.mean is None or facts.std is None:
            return x
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (facts.mean, facts.std))
        return x.sub_(mean[:, None, None]).div_(std[:, None, None])

    @torch.inference_mode()
    def __call__(self, inputs: Tensor, observe: Observer | None = None) -> Tensor:
        """Logits [N, classes] of normalised images [N, C, H, W] or event frames [N, T, C, H, W], float32.

        Raises DataError for inputs of another shape.
        """
        self._check(inputs)
        x = inputs.unsqueeze(0) if self.about.input.kind == "images" else inputs.transpose(0, 1)
        current = self._first_current(x)
        convs = [layer for layer in self._hidden if layer.is_conv]
        if self._first.kind == "conv":
            # Spikes do not depend on how a batch is cut, as the sums are exact. Fully connected layers are
            # not cut: they hold most of the weights, which would be read again for every part.
            parts = current.split(self._images_at_once, dim=1)
            maps = torch.cat([self._maps(part, convs, observe) for part in parts], dim=1)
            spikes = maps.permute(0, 1, 4, 2, 3).flatten(2)  # weights behind it count in the order C, H, W
        else:
            spikes = self._fire_at_once(self._first.name, current, observe)
        for layer in self._hidden[len(convs) :]:
            driven = layer.current(spikes.flatten(0, 1)).view(*spikes.shape[:2], len(layer.scale))
            spikes = self._fire_at_once(layer.name, driven, observe)
        return self._logits(spikes)

    def _check(self, inputs: Tensor) -> None:
        facts = self.about.input
        frames = [] if facts.kind == "images" else [self.about.timesteps]
        expected = [*frames, facts.channels, *facts.size]
        if inputs.dtype != torch.float32 or list(inputs.shape[1:]) != expected:
            taken, given = ("x".join(map(str, shape)) for shape in (expected, inputs.shape[1:]))
            raise DataError(
                f"the packed network takes {facts.kind} of {taken} in float32; these are {given} in "
                f"{str(inputs.dtype).removeprefix('torch.')}"
            )

    def _first_current(self, x: Tensor) -> Tensor:
        """Currents [T or 1, N, H, W, out] or [T or 1, N, out] of the first layer.

        One call on the whole batch, as in SpikingNetwork: these sums are rounded, and for a batch that is cut
        otherwise the library may add in another order.
        """
        rows = x.flatten(0, 1)
        if self._first.kind == "conv":
            kernel, stride = self._first_weight.shape[-1], self._first.stride
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
        kept = {self._first.name: counts} if self._first.name in self._sources else {}
        for layer in convs:
            skipped = None if layer.source is None else kept[layer.source]
            if isinstance(layer.sums, LookupSums) and skipped is None:
                neuron = self.about.neuron
                spikes = layer.sums.fire(
                    counts, layer.scale, layer.shift, decay=neuron.decay, threshold=neuron.threshold
                )
                _show(observe, layer.name, spikes)
            else:
                drive = functools.partial(layer.current_at, counts=counts, skipped=skipped)
                spikes = self._fire(layer.name, drive, observe)
            counts = self._pooled(spikes, layer.pool)
            if layer.name in self._sources:
                kept[layer.name] = counts
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
        neuron, spikes, potential = self.about.neuron, None, None
        for t in range(self.about.timesteps):
            drive = current(t)
            if spikes is None or potential is None:
                spikes = torch.empty((self.about.timesteps, *drive.shape), dtype=torch.uint8)
                potential = drive.clone()
            else:
                potential.mul_(neuron.decay).add_(drive)
            spiked = spikes[t].view(torch.bool)
            torch.ge(potential, neuron.threshold, out=spiked)
            potential.masked_fill_(spiked, 0.0)
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
