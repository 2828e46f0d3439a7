"""Where in its memory an exported C network keeps what: spikes between layers, and what one layer works with.

All places and sizes are in words of four bytes. What is needed at the same time lies side by side, what is not may share a
place; so the network takes as much as its most demanding layer, not the sum of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tnacli.packed.network import PackedNetwork, PackedWeights
from tnacli.packed.steps import Current, Input, LIFLayer

LANES = 4
"""Timesteps whose spike counts share a word."""


@dataclass(frozen=True)
class Window:
    """How weights read their input: `rows` of it at a time, each of `stride` times `pitch` words a channel (times
    `words_per_value`), of which the list of weights that are not 0 has at most `most`.
    """

    inputs: int
    height: int
    width: int
    kernel: int
    stride: int
    padding: int
    rows: int
    pitch: int
    most: int


@dataclass(frozen=True)
class Work:
    """Places of a layer's window, of its weights' places in it, of the list of weights that are not 0, and of the sums."""

    window: int
    places: int
    list: int
    sums: int


@dataclass(frozen=True)
class Memory:
    """The plan of a network: what leaves each layer and its T words of currents, and by the name of weights what they need."""

    words: int
    outputs: dict[str, int]
    output_words: dict[str, int]
    currents: dict[str, int]
    works: dict[str, Work]
    windows: dict[str, Window]


@dataclass(frozen=True)
class _Block:
    key: tuple[str, str]
    first: int  # the steps, layers and then the readout, in which it is needed, both included
    last: int
    words: int


def count_bits(counts_to: int) -> int:
    """Bits that a number of spikes up to `counts_to` takes."""
    return counts_to.bit_length()


def plan(network: PackedNetwork) -> Memory:
    """The memory of `network`."""
    steps, timesteps = network.steps, network.about.timesteps
    words_per_value, blocks, windows, output_words = -(-timesteps // LANES), [], {}, {}
    last_read = {
        source.name: number
        for number, layer in enumerate(steps.layers)
        for source in (*(current.source for current in layer.currents), *([layer.added] if layer.added else []))
    } | {steps.readout.source.name: len(steps.layers)}
    for number, layer in enumerate(steps.layers):
        bits = prod(layer.out) * timesteps * count_bits(layer.counts_to)
        output_words[layer.name] = (bits + 7) // 8 // 4 + 1  # and a byte more, as two are read at a time
        blocks.append(_Block((layer.name, "output"), number, last_read[layer.name], output_words[layer.name]))
        # Currents of which the largest goes on need a place beside it.
        kept = timesteps * (2 if layer.max_of == "currents" else 1)
        blocks.append(_Block((layer.name, "current"), number, number, kept))
        squares = layer.squares
        for current in layer.currents:
            if current.spec is None:
                continue
            window = windows[current.name] = _window(current, network.weights[current.name], squares.size)
            if isinstance(current.source, Input):  # frames of floats, whose sums are kept nowhere
                blocks += _blocks(current.name, number, window, words_per_value=steps.input.frames, sums=0)
            else:
                sums = squares.size * _columns(layer) * words_per_value * LANES
                blocks += _blocks(current.name, number, window, words_per_value=words_per_value, sums=sums)
    windows["readout"] = Window(prod(steps.readout.source.out), 1, 1, 1, 1, 0, 1, 1, 0)
    blocks += _blocks("readout", len(steps.layers), windows["readout"], words_per_value=words_per_value, sums=timesteps)
    at, words = _places(blocks)
    works = {name: Work(*(at[name, part] for part in ("window", "places", "list", "sums"))) for name in windows}
    outputs, currents = ({layer.name: at[layer.name, part] for layer in steps.layers} for part in ("output", "current"))
    return Memory(words, outputs, output_words, currents, works, windows)


def _columns(layer: LIFLayer) -> int:
    """How many neurons of a row, or their currents, are worked on: those that pooling does not drop."""
    if len(layer.out) == 1:
        return 1
    size, stride, padding = layer.squares
    return min((layer.out[2] - 1) * stride + size - padding, layer.driven[2])


def _window(current: Current, weights: PackedWeights, pool: int) -> Window:
    spec = weights.spec
    inputs, height, width = current.source.out if current.is_conv else (spec.weight[1], 1, 1)
    kernel = spec.weight[-1] if current.is_conv else 1
    rows = (pool - 1) * spec.stride + kernel
    pitch = -(-(width + 2 * spec.around) // spec.stride)
    most = 0
    if spec.encoding != "fp32":
        most = int(np.count_nonzero(weights.ternary().reshape(spec.weight[0], -1), axis=1).max())
    return Window(inputs, height, width, kernel, spec.stride, spec.around, rows, pitch, most)


def _blocks(name: str, step: int, window: Window, *, words_per_value: int, sums: int) -> list[_Block]:
    sizes = {
        "window": window.inputs * window.rows * window.stride * window.pitch * words_per_value,
        "places": window.kernel**2 + LANES - 1,
        "list": window.most,
        "sums": sums,
    }
    return [_Block((name, part), step, step, size) for part, size in sizes.items()]


def _places(blocks: Sequence[_Block]) -> tuple[dict[tuple[str, str], int], int]:
    """Where each block lies, and how many words there are: large ones first, each at the lowest place that is free."""
    placed: list[tuple[int, _Block]] = []
    for block in sorted(blocks, key=lambda block: -block.words):
        beside = [(at, other) for at, other in placed if other.first <= block.last and block.first <= other.last]
        free = 0
        for at, other in sorted(beside, key=lambda pair: pair[0]):
            if free + block.words <= at:
                break
            free = max(free, at + other.words)
        placed.append((free, block))
    return {block.key: at for at, block in placed}, max(at + block.words for at, block in placed)
