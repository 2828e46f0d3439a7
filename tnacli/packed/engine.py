"""Runs a packed network: the same spikes as the checkpoint's network, in a fraction of its memory. Loads no torch.

The first layer and the readout are fp32, summed in the one order of `tnacli.native.ordered`, as `SpikingNetwork` does
in evaluation. The layers between sum spikes with weights in {-1, 0, +1}, which is exact; everything after the sums is
element by element in fp32 in a fixed order of operations. So spikes and logits are bit-identical to the network's
own, on every machine, compiled or in NumPy.

Memory: weights are held once, two bytes for each that is not zero. Activations are spike counts of one byte, channels
first, all timesteps of one layer at a time, and convolutions take a few images at a time. Compiled, sums and
potentials of a convolution exist only for the places at hand, in the processor's caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from tnacli.errors import DataError
from tnacli.native.library import engine
from tnacli.native.ordered import ordered_sums
from tnacli.packed import compiled, plain
from tnacli.packed.network import Floats, PackedNetwork, PackedWeights
from tnacli.packed.plain import Counts
from tnacli.packed.steps import Current, Input, LIFLayer
from tnacli.pixels import array_as_input

if TYPE_CHECKING:
    from torch import Tensor

Observer = Callable[[str, Any], None]
"""Called with a layer's name and its spikes, uint8 [T, n, C, H, W] or [T, n, features], before pooling.

A convolution's batch comes in several parts.
"""

# Neurons of the largest layer that are worked on at a time: eight images of a full-width CIFARNet.
_WORKING_SET = 1 << 21


@dataclass(frozen=True)
class _Weighted:
    """Sums of counts and what makes currents of them."""

    sums: compiled.ListSums | plain.PlainSums
    scale: Floats
    shift: Floats

    def __call__(self, counts: Counts) -> Floats:
        return self.sums.currents(counts, self.scale, self.shift)


@dataclass(frozen=True)
class _Hidden:
    """A layer after the first, ready to run.

    `own` makes currents of the counts of the layer before, in the two rounded steps of SpikingNetwork; `skipped` does of
    those of the shortcut's source, and they are added.
    """

    layer: LIFLayer
    own: _Weighted
    skipped: Callable[[Counts], Floats] | None

    @property
    def at_once(self) -> bool:
        """Whether nothing comes between the weights' currents and the neurons."""
        return self.skipped is None and self.layer.max_of != "currents"


class PackedSNN:
    """A packed network on the CPU: normalised float32 inputs to logits, arrays to arrays and tensors to tensors.

    `native=False` keeps to NumPy, which defines the result; so does a machine without compiled kernels.
    """

    def __init__(self, network: PackedNetwork, *, native: bool = True) -> None:
        self.about = network.about
        self._compiled = native and engine().library is not None
        self._first, *hidden = network.steps.layers
        self._first_weights = network.weights[self._first.name]
        self._hidden = [self._prepare(network, layer) for layer in hidden]
        self._read_later = network.steps.read_later
        self._readout_divisor = network.steps.readout.source.divisor
        self._readout_weight, self._readout_bias = network.readout_weight, network.readout_bias
        driven = max(prod(layer.driven) for layer in network.steps.layers)
        self._images_at_once = max(1, _WORKING_SET // driven)

    def _prepare(self, network: PackedNetwork, layer: LIFLayer) -> _Hidden:
        sums = compiled.ListSums if self._compiled else plain.PlainSums

        def weighted(current: Current) -> _Weighted:
            weights = network.weights[current.name]
            spec, source = weights.spec, current.source
            made = sums(
                weights.dense_rows(), source.counts_to, spec.stride, padding=spec.around, divisor=source.divisor
            )
            return _Weighted(made, _own(weights.scale), _own(weights.shift))

        shortcut, skipped = layer.shortcut, None
        if shortcut is not None:
            divisor = np.float32(shortcut.source.divisor)
            skipped = weighted(shortcut) if shortcut.spec is not None else lambda counts: counts / divisor
        return _Hidden(layer, weighted(layer.currents[0]), skipped)

    @overload
    def normalise(self, inputs: Tensor) -> Tensor: ...
    @overload
    def normalise(self, inputs: NDArray[Any]) -> Floats: ...
    def normalise(self, inputs: Any) -> Any:
        """Float32 inputs for the network from uint8 pixels [N, C, H, W] or event counts [N, T, C, H, W].

        `tnacli.pixels` with the file's own statistics.
        """
        spec = self.about.input
        normalised = array_as_input(np.asarray(inputs), spec.mean, spec.std, spec.kind)
        return _tensor(normalised) if _is_tensor(inputs) else normalised

    @overload
    def __call__(self, inputs: Tensor, observe: Observer | None = None) -> Tensor: ...
    @overload
    def __call__(self, inputs: NDArray[Any], observe: Observer | None = None) -> Floats: ...
    def __call__(self, inputs: Any, observe: Observer | None = None) -> Any:
        """Logits [N, classes] of normalised images [N, C, H, W] or event frames [N, T, C, H, W], float32.

        Raises DataError for inputs of another shape.
        """
        if _is_tensor(inputs):
            return _tensor(_summed(self._potentials(inputs.detach().numpy(), _of_tensors(observe))))
        return _summed(self._potentials(inputs, observe))

    def potentials(self, inputs: Tensor, observe: Observer | None = None) -> Tensor:
        """The output's membrane potentials [T, N, classes], whose sum over time are the logits."""
        return _tensor(np.stack(self._potentials(inputs.detach().numpy(), _of_tensors(observe))))

    def _potentials(self, inputs: NDArray[Any], observe: Observer | None) -> list[Floats]:
        self._check(inputs)
        convs = [hidden for hidden in self._hidden if hidden.layer.currents[0].is_conv]
        if not len(inputs):
            return [np.empty((0, len(self._readout_bias)), np.float32)] * self.about.timesteps
        if self._first.currents[0].is_conv:
            # Spikes do not depend on how a batch is cut. Fully connected layers are not cut: they hold most of the weights,
            # which would be read again for every part.
            cuts = range(0, len(inputs), self._images_at_once)
            parts = [self._maps(inputs[cut : cut + self._images_at_once], convs, observe) for cut in cuts]
            maps = np.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]
            # Weights after it count in the order C, H, W.
            spikes = np.ascontiguousarray(maps.transpose(0, 3, 4, 1, 2)).reshape(-1, *maps.shape[1:3])
        else:
            flat = self._fire(self._first, self._first_current(inputs), observe)
            spikes = flat.reshape(flat.shape[:3])
        for hidden in self._hidden[len(convs) :]:
            as_row = spikes.reshape(len(spikes), 1, 1, 1, -1)
            driven = hidden.own(as_row).reshape(-1, *spikes.shape[1:])
            spikes = self._fire(hidden.layer, driven, observe)
        return self._read_out(spikes)

    def _check(self, inputs: NDArray[Any]) -> None:
        spec = self.about.input
        expected = spec.shape(self.about.timesteps)
        if inputs.dtype != np.float32 or inputs.shape[1:] != expected:
            taken, given = ("x".join(map(str, shape)) for shape in (expected, inputs.shape[1:]))
            raise DataError(
                f"the packed network takes {spec.kind} of {taken} in float32; these are {given} in {inputs.dtype}"
            )

    def _first_current(self, inputs: Floats) -> Floats:
        """Currents [out, T or 1, n, H, W] or [out, T or 1, n] of the first layer."""
        weights = self._first_weights
        is_conv = self._first.currents[0].is_conv
        x = inputs[None] if self.about.input.kind == "images" else inputs.swapaxes(0, 1)
        rows = x.reshape(-1, *x.shape[2:]) if is_conv else x.reshape(x.shape[0] * x.shape[1], -1)
        spec = weights.spec
        current = ordered_sums(rows, weights.dense(), spec.stride, padding=spec.around, out_first=True)
        return _scaled(current, weights).reshape(len(current), *x.shape[:2], *(current.shape[2:] if is_conv else ()))

    def _maps(self, inputs: Floats, convs: Sequence[_Hidden], observe: Observer | None) -> Counts:
        """Pooled spike counts of the last convolution, [C, T, n, H, W]."""
        counts = self._pooled(self._fire(self._first, self._first_current(inputs), observe), self._first)
        kept: dict[Input | LIFLayer, Counts] = {self._first: counts} if self._first in self._read_later else {}
        for hidden in convs:
            layer, own = hidden.layer, hidden.own
            counts = kept.get(layer.currents[0].source, counts)
            if hidden.at_once:
                spikes = own.sums.spikes(counts, own.scale, own.shift, plain.neurons_of(layer.neuron))
                _show(observe, layer.name, spikes)
            else:
                driven = own(counts)
                if hidden.skipped is not None and layer.shortcut is not None:
                    driven += hidden.skipped(kept[layer.shortcut.source])
                spikes = self._fire(layer, driven, observe)
            if layer.added is not None:
                spikes = spikes + kept[layer.added]
            counts = self._pooled(spikes, layer)
            if layer in self._read_later:
                kept[layer] = counts
        return counts

    def _fire(self, layer: LIFLayer, currents: Floats, observe: Observer | None) -> Counts:
        """Spikes [C, T, ...], uint8, of the layer's neurons, driven by `currents` [C, T or 1, ...]."""
        fire = compiled.lif_spikes if self._compiled else plain.lif_spikes
        if layer.max_of == "currents":
            currents = plain.largest(currents, layer.squares)
        spikes = fire(currents, self.about.timesteps, plain.neurons_of(layer.neuron))
        _show(observe, layer.name, spikes)
        return spikes

    def _pooled(self, spikes: Counts, layer: LIFLayer) -> Counts:
        """What leaves the layer whose neurons' `spikes` these are."""
        if layer.max_of == "spikes":
            return plain.largest(spikes, layer.squares)
        if layer.pool == 1:
            return spikes
        return compiled.pooled(spikes, layer.pool) if self._compiled else plain.pooled(spikes, layer.pool)

    def _read_out(self, spikes: Counts) -> list[Floats]:
        """Output potentials, first to last, from the last layer's spike counts [features, T, N]."""
        averaged: Floats = (spikes.transpose(1, 2, 0) / np.float32(self._readout_divisor)).astype(
            np.float32, copy=False
        )
        summed = ordered_sums(averaged.reshape(-1, averaged.shape[2]), self._readout_weight)
        current = (summed + self._readout_bias).reshape(*averaged.shape[:2], -1)
        potentials: list[Floats] = [current[0]]
        for later in current[1:]:
            potentials.append(potentials[-1] * np.float32(self.about.readout.leak) + later)
        return potentials


def _summed(potentials: list[Floats]) -> Floats:
    first, *later = potentials
    return sum(later, start=first)


def _of_tensors(observe: Observer | None) -> Observer | None:
    return None if observe is None else lambda name, spikes: observe(name, _tensor(spikes))


def _scaled(sums: Floats, weights: PackedWeights) -> Floats:
    """sums [out, ...] * scale + shift, in place."""
    by_channel = (-1, *(1,) * (sums.ndim - 1))
    sums *= weights.scale.reshape(by_channel)
    sums += weights.shift.reshape(by_channel)
    return sums


def _show(observe: Observer | None, name: str, spikes: Counts) -> None:
    if observe is not None:
        observe(name, spikes.transpose(1, 2, 0, *range(3, spikes.ndim)))


def _own(array: Floats) -> Floats:
    """Numbers where C finds them: in a row."""
    return np.ascontiguousarray(array, np.float32)


def _is_tensor(values: object) -> bool:
    return hasattr(values, "detach")


def _tensor(array: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(array)
