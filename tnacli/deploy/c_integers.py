"""The constants of a packed network in whole numbers, for a C export that computes without floats.

Hidden sums are whole numbers already. The first layer's weights are rounded to int8 with a scale for each output channel, the
readout's to int8 with one scale for all classes, so that logits compare. Potentials are whole numbers of 2^-potential_bits of
the threshold. Every bound is computed from the weights at hand, not assumed, so that no sum, current or potential leaves 32
bits; where that leaves too few bits the network is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.errors import UsageError
from tnacli.packed.network import PackedNetwork
from tnacli.packed.steps import Current, Input, LIFLayer

Whole = NDArray[np.int32]
Reals = NDArray[np.float64]

_LIMIT = 1 << 30  # half of what 32 bits hold: constants are rounded after the bounds are taken
_LEAST_BITS = 6


@dataclass(frozen=True)
class Share:
    """The number between 0 and 1 that is `numerator` / 2^`bits`."""

    numerator: int
    bits: int


@dataclass(frozen=True)
class Factors:
    """What makes currents of sums: (sum * scale + shift) >> down; `scale` and `shift` are int32 [out]."""

    scale: Whole
    shift: Whole
    down: int


@dataclass(frozen=True)
class Integers:
    """All constants of a network but its ternary weights.

    A current is of 2^-`potential_bits` of the threshold; of the first layer's sums, pixels less `offsets` [channels] times
    `first_weights` (int8 [out, in, ...], of all groups), the lowest `first_dropped` bits are dropped before `factors` makes
    currents of them. `decays`, `subtracts`, what a spike takes away (0: all), and `lowest`, the least that is kept, go by the
    names of the layers, `factors` by those of the steps' currents, `shares`, the current of one spike, by those of shortcuts
    without weights.
    A logit counts units of `unit`; `readout_one` is what a weight is multiplied by for one spike.
    """

    potential_bits: int
    decays: Mapping[str, Share]
    subtracts: Mapping[str, int]
    lowest: Mapping[str, int]
    offsets: tuple[int, ...]
    first_weights: NDArray[np.int8]
    first_dropped: int
    factors: Mapping[str, Factors]
    shares: Mapping[str, int]
    leak: Share
    readout_weights: NDArray[np.int8]
    readout_bias: Whole
    readout_one: int
    unit: float


@dataclass(frozen=True)
class _Exact:
    """Currents as real numbers of the threshold: scale * sum + shift, each sum within +-`bound`; all [out]."""

    scale: Reals
    shift: Reals
    bound: Reals

    @property
    def largest(self) -> Reals:
        return self.bound * np.abs(self.scale) + np.abs(self.shift)


def integers(network: PackedNetwork) -> Integers:
    """`network` in whole numbers. Raises UsageError where 32 bits are too few for them."""
    steps, leak = network.steps, _share(network.about.readout.leak)
    decays = {layer.name: _share(layer.neuron.decay) for layer in steps.layers}
    offsets, first_weights, dropped, first = _first(network)
    exact, shares = {steps.layers[0].currents[0].name: first}, {}
    for layer in steps.layers:
        for current in layer.currents:
            if current.spec is None:
                shares[current.name] = 1 / current.source.divisor / layer.neuron.threshold
            elif not isinstance(current.source, Input):
                exact[current.name] = _hidden(network, current, layer.neuron.threshold)
    largest, bits = 0.0, 16
    for layer in steps.layers:
        found = _largest(layer, exact)
        kept = sum(layer.neuron.decay**t for t in range(network.about.timesteps))
        room = _LIMIT / (max(1.0, (found + _below(layer)) * kept) * max(1, decays[layer.name].numerator))
        largest, bits = max(largest, found), min(bits, floor(log2(room)))
    if bits < _LEAST_BITS:
        raise UsageError(
            f"currents of up to {largest:.3g} times the threshold leave {max(0, bits)} bits for potentials, and --integer needs "
            f"{_LEAST_BITS}; export without --integer"
        )
    readout = _readout(network, leak)
    return Integers(
        potential_bits=bits,
        decays=decays,
        subtracts={layer.name: _subtract(layer, bits) for layer in steps.layers},
        lowest={layer.name: _lowest(layer, bits) for layer in steps.layers},
        offsets=offsets,
        first_weights=first_weights,
        first_dropped=dropped,
        factors={name: _rounded(found, bits) for name, found in exact.items()},
        shares={name: round(share * (1 << bits)) for name, share in shares.items()},
        leak=leak,
        readout_weights=readout[0],
        readout_bias=readout[1],
        readout_one=readout[2],
        unit=readout[3],
    )


def _share(value: float) -> Share:
    numerator, bits = round(value * 4096), 12
    while bits and numerator % 2 == 0:
        numerator, bits = numerator // 2, bits - 1
    return Share(numerator, bits)


def _below(layer: LIFLayer) -> float:
    """How far below 0 spikes can take a potential, of the threshold."""
    neuron = layer.neuron
    return 0.0 if neuron.subtract is None else neuron.most_spikes * max(0.0, neuron.subtract / neuron.threshold - 1)


def _lowest(layer: LIFLayer, bits: int) -> int:
    neuron = layer.neuron
    return -_LIMIT if neuron.lowest is None else max(-_LIMIT, round(neuron.lowest / neuron.threshold * (1 << bits)))


def _subtract(layer: LIFLayer, bits: int) -> int:
    neuron = layer.neuron
    return 0 if neuron.subtract is None else max(1, round(neuron.subtract / neuron.threshold * (1 << bits)))


def _largest(layer: LIFLayer, exact: Mapping[str, _Exact]) -> float:
    parts: list[Any] = []
    for current in layer.currents:
        source = current.source
        largest = source.counts_to / source.divisor / layer.neuron.threshold
        parts.append(exact[current.name].largest if current.spec is not None else largest)
    return float(np.max(sum(parts)))


def _first(network: PackedNetwork) -> tuple[tuple[int, ...], NDArray[np.int8], int, _Exact]:
    """Offsets, weights, dropped bits, and the currents of what is left of the sums."""
    spec = network.steps.input.spec
    weights = network.weights[network.steps.layers[0].currents[0].name]
    channels, stored = spec.channels, weights.dense().astype(np.float64)
    whole = 1.0 if spec.kind == "events" else 255.0
    means = whole * np.array(spec.mean or (0.0,) * channels)
    offsets = np.rint(means)
    by_channel = stored.reshape(len(stored), channels, -1) / (whole * np.array(spec.std or (1.0,) * channels))[:, None]
    scales = np.abs(by_channel).max((1, 2)) / 127
    scales[scales == 0] = 1
    rounded = np.rint(by_channel / scales[:, None, None])
    largest = np.maximum(np.abs(offsets), np.abs(255 - offsets))
    bound = (np.abs(rounded).sum(2) * largest).sum(1)
    if bound.max() >= _LIMIT:
        raise UsageError("the first layer's sums do not fit the 32 bits of --integer; export without it")
    dropped = max(0, int(bound.max()).bit_length() - 15)
    threshold = network.steps.layers[0].neuron.threshold
    scale = weights.scale.astype(np.float64) * scales / threshold
    # What the offsets leave of the means is the same everywhere but at the border; dropped bits are half a unit on average.
    left = (rounded.sum(2) * (means - offsets)).sum(1) - ((1 << dropped) - 1) / 2
    shift = weights.shift.astype(np.float64) / threshold - scale * left
    exact = _Exact(scale * (1 << dropped), shift, bound // (1 << dropped) + 1)
    return tuple(map(int, offsets)), rounded.astype(np.int8).reshape(stored.shape), dropped, exact


def _hidden(network: PackedNetwork, current: Current, threshold: float) -> _Exact:
    weights, source = network.weights[current.name], current.source
    bound = source.counts_to * np.count_nonzero(weights.ternary().reshape(len(weights.scale), -1), axis=1).astype(
        np.float64
    )
    if bound.max() >= _LIMIT:
        raise UsageError(f"layer {current.name}: its sums do not fit the 32 bits of --integer; export without it")
    scale = np.where(bound > 0, weights.scale.astype(np.float64) / source.divisor / threshold, 0)
    return _Exact(scale, weights.shift.astype(np.float64) / threshold, bound)


def _rounded(exact: _Exact, bits: int) -> Factors:
    largest = max(float(exact.largest.max()), 2.0**-16)
    down = min(30, max(0, floor(log2(_LIMIT / largest)) - bits))
    one = 2.0 ** (bits + down)
    shift = np.rint(exact.shift * one) + (1 << down >> 1)  # half a unit: rounded, not cut off
    return Factors(np.rint(exact.scale * one).astype(np.int32), shift.astype(np.int32), down)


def _readout(network: PackedNetwork, leak: Share) -> tuple[NDArray[np.int8], Whole, int, float]:
    """Weights, bias, what a weight is multiplied by for one spike, and the unit of the logits."""
    weight, bias = network.readout_weight.astype(np.float64), network.readout_bias.astype(np.float64)
    counts_to, divisor = network.steps.readout.source.counts_to, network.steps.readout.source.divisor
    scale = float(np.abs(weight).max()) / 127 or 1.0
    rounded = np.rint(weight / scale)
    currents = counts_to * np.abs(rounded).sum(1) + np.abs(bias) * divisor / scale
    timesteps, kept = network.about.timesteps, network.about.readout.leak
    potential = float(currents.max()) * sum(kept**t for t in range(timesteps))
    bits = floor(log2(_LIMIT / (max(1.0, potential) * max(timesteps, leak.numerator))))
    if bits < 0:
        raise UsageError("the readout's sums do not fit the 32 bits of --integer; export without it")
    one = 1 << min(8, bits)
    unit = scale / divisor / one
    return rounded.astype(np.int8), np.rint(bias / unit).astype(np.int32), one, unit
