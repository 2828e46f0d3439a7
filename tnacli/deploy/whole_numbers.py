"""What C exported with --integer computes, once more and in another way: whole maps at a time, in whole numbers of 64 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tnacli.deploy.c_integers import integers
from tnacli.packed.network import PackedNetwork
from tnacli.packed.plain import largest
from tnacli.packed.spec import ConvolutionSpec, LayerSpec
from tnacli.packed.steps import Current, Input, LIFLayer

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class WholeRun:
    """Logits [N, classes] in units of `Integers.unit`, spikes [N, T, ...] by the names of the layers, before pooling, uint8, and
    the largest number that occurred on the way, negative ones without their sign."""

    logits: Whole
    spikes: dict[str, NDArray[np.uint8]]
    largest: int


def whole_run(network: PackedNetwork, inputs: NDArray[np.uint8]) -> WholeRun:
    """Runs bytes [N, C, H, W], or event frames [N, T, C, H, W]. Raises what `integers` raises."""
    made, steps, timesteps, seen = integers(network), network.steps, network.about.timesteps, [0]
    frames = inputs[:, None] if steps.input.frames == 1 and inputs.ndim == 4 else inputs
    offsets = np.array(made.offsets)[:, None, None]
    counts: dict[str, Whole] = {}
    all_spikes: dict[str, NDArray[np.uint8]] = {}

    def noted(values: Whole) -> Whole:
        seen.append(int(np.abs(values).max()))
        return values

    def current_of(current: Current, t: int) -> Whole:
        if current.spec is None:
            return counts[current.source.name][:, t] * made.shares[current.name]
        factors, is_first = made.factors[current.name], isinstance(current.source, Input)
        x = frames[:, min(t, frames.shape[1] - 1)] - offsets if is_first else counts[current.source.name][:, t]
        weights = made.first_weights if is_first else network.weights[current.name].dense()
        sums = noted(_convolved(x, weights, current.spec) if current.is_conv else x.reshape(len(x), -1) @ weights.T)
        sums = sums >> made.first_dropped if is_first else sums
        axes = (slice(None), None, None) if current.is_conv else slice(None)
        scale, shift = factors.scale.astype(np.int64)[axes], factors.shift.astype(np.int64)[axes]
        return noted(sums * scale + shift) >> factors.down

    for layer in steps.layers:
        potential: Any = 0
        decay = made.decays[layer.name]
        fired: list[Whole] = []
        for t in range(timesteps):
            leaked = noted(np.asarray(potential * decay.numerator)) >> decay.bits
            driven: Any = sum(current_of(current, t) for current in layer.currents)
            driven = largest(driven, layer.squares) if layer.max_of == "currents" else driven
            potential = noted(leaked + driven)
            spikes = np.clip(potential >> made.potential_bits, 0, layer.neuron.most_spikes)
            taken = made.subtracts[layer.name]
            potential = potential - spikes * taken if taken else np.where(spikes, 0, potential)
            potential = noted(np.maximum(potential, made.lowest[layer.name]))
            fired.append(spikes)
        all_spikes[layer.name] = np.stack(fired, 1).astype(np.uint8)
        if layer.added is not None:
            fired = [spikes + counts[layer.added.name][:, t] for t, spikes in enumerate(fired)]
        counts[layer.name] = np.stack([_pooled(spikes, layer) for spikes in fired], 1)
    last = counts[steps.readout.source.name].reshape(len(inputs), timesteps, -1)
    potential = total = np.zeros((len(inputs), 1), np.int64)
    for t in range(timesteps):
        driven = last[:, t] @ made.readout_weights.T.astype(np.int64) * made.readout_one + made.readout_bias
        potential = (noted(potential * made.leak.numerator) >> made.leak.bits) + driven
        total = noted(total + potential)
    return WholeRun(total, all_spikes, max(seen))


def _convolved(x: Whole, weights: NDArray[Any], spec: LayerSpec | ConvolutionSpec) -> Whole:
    around, stride = spec.around, spec.stride
    padded = np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))
    windows = sliding_window_view(padded, weights.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    sums: Whole = np.einsum("nchwij,ocij->nohw", windows, weights.astype(np.int64), optimize=True)
    return sums


def _pooled(spikes: Whole, layer: LIFLayer) -> Whole:
    if layer.max_of == "spikes":
        return largest(spikes, layer.squares)
    pool = layer.pool
    if pool == 1:
        return spikes
    n, channels, height, width = spikes.shape
    cut = spikes[:, :, : height // pool * pool, : width // pool * pool]
    counts: Whole = cut.reshape(n, channels, height // pool, pool, width // pool, pool).sum((3, 5))
    return counts
