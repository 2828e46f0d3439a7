"""Weights, constants and layers of a packed network as C arrays and structs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.deploy.c_integers import Integers
from tnacli.deploy.c_memory import LANES, Memory, Work, count_bits, plan
from tnacli.errors import UsageError
from tnacli.packed.codec import ENCODINGS, pack
from tnacli.packed.network import Floats, PackedNetwork, PackedWeights
from tnacli.packed.steps import Current, Input

_WEIGHTS = """typedef struct {
    const uint8_t *codes; /* two bits a weight, the lowest first: the weight + 1 */
    const number *scale, *shift;
    int32_t in, out, height, width, kernel, stride, padding, row_bytes; /* height and width of its input */
    int32_t group_in, group_out; /* of its channels, those of a group see each other */
    int32_t rows, pitch; /* of the window on its input */
    int32_t bits; /* that a spike count in its input takes */
    int32_t reach; /* so many counts can be added in a lane */
    int32_t most; /* weights that are not 0 in one output channel */
    int32_t input, window, places, list, sums; /* words of memory */@DOWN@
} weights;
typedef struct {
    const weights *convolution; /* that the spikes go through; 0: none */
    int32_t input, bits; /* the words of memory with the spikes that come besides; -1: none come */
    number share; /* the current of a spike of theirs */
} skip;
typedef struct {
    weights own;
    int32_t pool, bits, output, output_words, current; /* the last three: words of memory */
    skip shortcut;@POOLING@@SUMS@@NEURONS@
} layer;
"""
_POOLING = "\n    int32_t step, edge, max_of; /* squares lie step apart, the first begins edge before the map */"
_SUMS = (
    "\n    int32_t added, added_bits; /* the words of memory with the spikes that are added to its own; -1: none are */"
)
_NEURONS = {
    False: "\n    number threshold, decay, subtract, lowest;\n    int32_t most_spikes;",
    True: "\n    number decay, decay_bits, subtract, lowest;\n    int32_t most_spikes;",
}
LEAST = -(2.0**127)  # below every potential
_MAX_OF = {None: 0, "spikes": 1, "currents": 2}  # as in network.c
_DOWN = "\n    int32_t down; /* bits that scale and shift have besides */"
_WEIGHTS_BYTES = 3 * 8 + 21 * 4 - 4
_LAYER_BYTES = _WEIGHTS_BYTES + 5 * 4 + 8 + 3 * 4


@dataclass
class Tables:
    """C text, line by line, and the bytes that its constants take where pointers have eight."""

    prefix: str
    lines: list[str] = field(default_factory=list)
    size_bytes: int = 0

    def array(self, name: str, kind: str, values: NDArray[np.generic], width: int) -> None:
        """Add the constant array `name` of C's type `kind`, `width` numbers a line."""
        numbers = [literal(v) if values.dtype.kind == "f" else str(v) for v in values.flat]
        columns = ",\n".join(", ".join(numbers[i : i + width]) for i in range(0, len(numbers), width))
        self.lines.append(f"static const {kind} {name}[{values.size}] {self.prefix}_TABLE = {{\n{columns}\n}};")
        self.size_bytes += values.nbytes


def literal(value: float | np.generic) -> str:
    """A float constant: nine digits bring every fp32 number back exactly."""
    text = f"{np.float32(value):.9g}"
    return (text if any(mark in text for mark in ".e") else text + ".0") + "f"


def tables(network: PackedNetwork, prefix: str, whole: Integers | None = None) -> tuple[Tables, Memory]:
    """The constants of `network`, in whole numbers where they are given, each array marked `prefix`_TABLE; and its memory's plan.

    Raises UsageError where a sum would not fit 32 bits, or a factor is too small to be kept exactly.
    """
    memory, steps, found = plan(network), network.steps, Tables(prefix)
    rows, pooling, neurons = [], steps.has_maxima, steps.neurons_differ
    for layer in steps.layers:
        own, shortcut, skip = layer.currents[0], layer.shortcut, "{0, -1, 0, 0}"
        entry = _entry(found, own, weights=network.weights[own.name], memory=memory, whole=whole)
        if shortcut is not None:
            pointer = "0"
            if shortcut.spec is not None:
                convolution = _entry(
                    found, shortcut, weights=network.weights[shortcut.name], memory=memory, whole=whole
                )
                found.lines.append(f"static const weights {_c_name(shortcut.name)} = {convolution};")
                found.size_bytes += _WEIGHTS_BYTES
                pointer = f"&{_c_name(shortcut.name)}"
            source = shortcut.source
            place = f"{memory.outputs[source.name]}, {count_bits(source.counts_to)}"
            share = literal(1 / source.divisor) if whole is None else whole.shares.get(shortcut.name, 0)
            skip = f"{{{pointer}, {place}, {share}}}"
        places = [getattr(memory, part)[layer.name] for part in ("outputs", "output_words", "currents")]
        numbers = [layer.squares.size, count_bits(layer.counts_to), *places]
        more: list[int | str] = []
        if pooling:
            more += [layer.squares.stride, layer.squares.padding, _MAX_OF[layer.max_of]]
        if steps.has_sums:
            other = layer.added
            more += [-1, 0] if other is None else [memory.outputs[other.name], count_bits(other.counts_to)]
        if neurons and whole is None:
            neuron = layer.neuron
            lowest = LEAST if neuron.lowest is None else neuron.lowest
            more += map(literal, (neuron.threshold, neuron.decay, neuron.subtract or 0.0, lowest))
            more.append(neuron.most_spikes)
        elif neurons and whole is not None:
            decay = whole.decays[layer.name]
            more += [decay.numerator, decay.bits, whole.subtracts[layer.name], whole.lowest[layer.name]]
            more.append(layer.neuron.most_spikes)
        rows.append(f"    {{{', '.join(map(str, [entry, *numbers, skip, *more]))}}},")
        found.size_bytes += _LAYER_BYTES + 4 * len(more)
    found.array(
        "readout_weights", "outer_weight", network.readout_weight if whole is None else whole.readout_weights, 8
    )
    found.array("readout_bias", "number", network.readout_bias if whole is None else whole.readout_bias, 8)
    found.lines += ["static const layer layers[LAYERS] = {", *rows, "};"]
    last, (classes, features) = steps.readout.source, network.readout_weight.shape
    window = [1, 1, count_bits(last.counts_to), 0, 0, memory.outputs[last.name]]
    numbers = [features, classes, 1, 1, 1, 1, 0, 0, features, classes, *window, *_work(memory.works["readout"])]
    numbers += [] if whole is None else [0]
    found.lines.append(f"static const weights readout = {{0, 0, 0, {', '.join(map(str, numbers))}}};")
    found.size_bytes += _WEIGHTS_BYTES
    filled = {
        "@DOWN@": "" if whole is None else _DOWN,
        "@POOLING@": _POOLING if pooling else "",
        "@SUMS@": _SUMS if steps.has_sums else "",
        "@NEURONS@": _NEURONS[whole is not None] if neurons else "",
    }
    structs = _WEIGHTS
    for word, text in filled.items():
        structs = structs.replace(word, text)
    found.lines.insert(0, structs)
    return found, memory


def _work(work: Work) -> tuple[int, int, int, int]:
    return work.window, work.places, work.list, work.sums


def _c_name(name: str) -> str:
    return f"of_{name.replace('.', '_')}"


def _entry(found: Tables, current: Current, *, weights: PackedWeights, memory: Memory, whole: Integers | None) -> str:
    """The struct of the weights of `current`, whose arrays are added to `found`."""
    spec, name, codes, row_bytes = weights.spec, _c_name(current.name), "0", 0
    source, counts_to = current.source, current.source.counts_to
    if spec.fan_in * counts_to >= 1 << 31:
        raise UsageError(
            f"layer {current.name} has {spec.fan_in} inputs: their sum does not fit the C export's 32 bits"
        )
    if spec.encoding == "fp32":
        found.array("first_weights", "outer_weight", weights.dense() if whole is None else whole.first_weights, 8)
    else:
        rows = pack(weights.ternary().reshape(spec.weight[0], -1), ENCODINGS["ternary2"])
        codes, row_bytes = f"codes_{name}", rows.shape[1]
        found.array(codes, "uint8_t", rows, 24)
    scale: NDArray[Any]
    shift: NDArray[Any]
    if whole is None:
        scale, shift, down = _shared(current.name, weights.scale, source.divisor), weights.shift, []
    else:
        made = whole.factors[current.name]
        scale, shift, down = made.scale, made.shift, [made.down]
    found.array(f"scale_{name}", "number", scale, 8)
    found.array(f"shift_{name}", "number", shift, 8)
    window = memory.windows[current.name]
    numbers = [window.inputs, spec.weight[0], window.height, window.width, window.kernel, window.stride, window.padding]
    numbers += [row_bytes, window.inputs // spec.groups, spec.weight[0] // spec.groups]
    numbers += [window.rows, window.pitch, count_bits(counts_to), _reach(counts_to), window.most]
    numbers += [
        0 if isinstance(source, Input) else memory.outputs[source.name],
        *_work(memory.works[current.name]),
        *down,
    ]
    return f"{{{codes}, scale_{name}, shift_{name}, {', '.join(map(str, numbers))}}}"


def _reach(counts_to: int) -> int:
    """So many counts can be added to, or taken from, the middle of a lane of eight bits."""
    return (256 // 2 - 1) // counts_to


def _shared(name: str, scale: Floats, divisor: int) -> Floats:
    """The factor of a sum of spike counts: `scale` divided by the neurons that each is of, a power of two, so exact."""
    shared = scale / np.float32(divisor)
    if not np.array_equal(shared * np.float32(divisor), scale):
        raise UsageError(
            f"layer {name} has a scale of {np.abs(scale[scale != 0]).min():.2g}, too small for the C export to divide; "
            f"use --format packed, onnx or nir"
        )
    return shared


assert LANES == 4  # network.c counts on it
