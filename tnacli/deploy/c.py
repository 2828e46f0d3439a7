"""A packed network as C99 source: one header and one source file, no library, no allocation.

The arithmetic is that of docs/packed-format.md. Hidden layers add and subtract spike counts in 32-bit integers where
2-bit codes say so; the first layer and the readout are in float. `network.c` beside this file is the part that is the same
for every network; this module writes the tables above it.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from tnacli.errors import UsageError
from tnacli.packed.codec import ENCODINGS, pack
from tnacli.packed.document import Document
from tnacli.packed.network import Floats, PackedNetwork, PackedWeights
from tnacli.packed.steps import Current, Input, LIFLayer, Steps
from tnacli.version import __version__

_HERE = Path(__file__).parent
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_LAYER_BYTES = 8 + 2 * 8 + 10 * 4  # three pointers, eight integers, a float and padding where pointers have eight bytes
_SKIP_BYTES = 3 * 8
_LAYER = """typedef struct {
    const uint8_t *codes; /* two bits a weight, the lowest first: the weight + 1 */
    const float *scale, *shift;
    int32_t in, out, height, width, kernel, stride, pool, row_bytes; /* height and width of its input */
    float share; /* of a spike in its input */
} layer;
"""
_SKIP = """typedef struct {
    int32_t source; /* the layer whose spikes go into the neurons besides; -1: none */
    const layer *convolution; /* that they go through; 0: none */
    float share; /* of a spike of theirs */
} skip;
"""


@dataclass(frozen=True)
class CSource:
    """The two files of a network, and how much memory they take.

    `ram_bytes` are its static buffers; `table_bytes` the constant tables, without the code (a few KB).
    """

    prefix: str
    header: str
    source: str
    ram_bytes: int
    table_bytes: int


def c_source(network: PackedNetwork, prefix: str = "tna_net") -> CSource:
    """C99 for `network`; every name in it begins with `prefix`, and the source includes "`prefix`.h".

    Raises UsageError if `prefix` is not a C name or a layer's sums would not fit 32 bits.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"the C files cannot be called {prefix!r}: names in them begin with it, so it has to be a letter followed by "
            f"letters, digits and '_', 41 at most; choose another name with -o"
        )
    about, steps = network.about, network.steps
    for number, layer in enumerate(steps.layers):
        own, shortcut = layer.currents[0], layer.shortcut
        if own.spec is not None and own.spec.fan_in * own.source.counts_to >= 1 << 31:
            raise UsageError(
                f"layer {layer.name} has {own.spec.fan_in} inputs: their sum does not fit the C export's 32 bits"
            )
        if shortcut is not None and shortcut.source not in steps.layers[max(0, number - 2) : number]:
            raise UsageError(
                f"layer {layer.name} has a shortcut from {shortcut.source.name}, over more than one layer; the C export keeps "
                f"the spikes of three layers. Use --format packed, onnx or nir"
            )
    tables, table_bytes = _tables(network)
    buffers, ram_bytes = _buffers(about, steps)
    parts = [_preamble(prefix), _constants(about, steps), buffers, tables, _template("network.c", prefix)]
    if about.input.kind == "images":
        parts.append(_template("pixels.c", prefix))
    return CSource(prefix, _header(about, prefix, ram_bytes), "".join(parts), ram_bytes, table_bytes)


def harness(prefix: str) -> str:
    """A program that feeds files of inputs to the network, for tests: `PROGRAM INPUTS LOGITS [pixels]`."""
    return _template("harness.c", prefix).replace("@FILE@", prefix)


def _template(name: str, prefix: str) -> str:
    text = (_HERE / name).read_text(encoding="ascii")
    return text.replace("@PREFIX_UPPER@", prefix.upper()).replace("@PREFIX@", prefix)


def _preamble(prefix: str) -> str:
    return f'/* Written by tnacli {__version__}; {prefix}.h says how to use it. */\n#include "{prefix}.h"\n\n'


def _constants(about: Document, steps: Steps) -> str:
    facts = about.input
    lines = [
        "/* images are the same at every timestep: one frame */",
        f"enum {{ T = {about.timesteps}, FRAMES = {steps.input.frames}, "
        f"LAYERS = {len(steps.layers)}, BUFFERS = {_buffer_count(steps)}, FEATURES = {about.readout.weight[1]} }};",
        f"#define SHORTCUTS {int(steps.has_shortcuts)}",
        f"#define DECAY {_literal(about.neuron.decay)}",
        f"#define THRESHOLD {_literal(about.neuron.threshold)}",
        f"#define READOUT_LEAK {_literal(about.readout.leak)}",
        f"#define READOUT_SHARE {_literal(1 / steps.readout.source.counts_to)}",
    ]
    if facts.kind == "images":
        lines.append(f"#define PLANE {prod(facts.size)}")
        for name, values, nothing in (("MEAN", facts.mean, "0.0f"), ("STD", facts.std, "1.0f")):
            if values is None:
                lines.append(f"#define {name}(channel) ((void)(channel), {nothing})")
            else:
                numbers = ", ".join(map(_literal, values))
                lines.append(f"static const float {name.lower()}_of_channel[{len(values)}] = {{{numbers}}};")
                lines.append(f"#define {name}(channel) {name.lower()}_of_channel[channel]")
    return "\n".join(lines) + "\n\n"


def _buffers(about: Document, steps: Steps) -> tuple[str, int]:
    """The static buffers, and their bytes: what neighbouring layers give, and one neuron's sums and currents."""
    given, count = [prod(layer.out) * about.timesteps for layer in steps.layers], _buffer_count(steps)
    sizes = [max(given[n::count], default=1) for n in range(count)]
    lines = [f"static uint8_t buffers_{n}[{size}]; /* spike counts */" for n, size in enumerate(sizes)]
    lines.append(f"static uint8_t *const buffers[BUFFERS] = {{{', '.join(f'buffers_{n}' for n in range(count))}}};")
    lines += ["static float current[T];", "static int32_t sums[T];"]
    ram_bytes = sum(sizes) + 8 * about.timesteps
    if about.input.kind == "images":
        values = prod(steps.input.out)
        lines.append(f"static float normalised[{values}];")
        ram_bytes += 4 * values
    return "\n".join(lines) + "\n\n", ram_bytes


def _buffer_count(steps: Steps) -> int:
    """Layers whose spikes are held at a time: a shortcut begins one layer earlier."""
    return 3 if steps.has_shortcuts else 2


def _tables(network: PackedNetwork) -> tuple[str, int]:
    """The weights, constants and layers as C arrays, and their bytes."""
    steps = network.steps
    lines: list[str] = []
    rows: list[str] = []
    skips: list[str] = []
    numbers: dict[Input | LIFLayer, int] = {layer: number for number, layer in enumerate(steps.layers)}
    size_bytes = 0
    for number, layer in enumerate(steps.layers):
        weights = network.weights[layer.name]
        row, row_bytes = _row(lines, str(number), layer.currents[0], weights, layer.pool)
        rows.append(f"    {row},")
        size_bytes += row_bytes
        source, pointer, share, shortcut = -1, "0", 1, layer.shortcut
        if shortcut is not None:
            source, share = numbers[shortcut.source], shortcut.source.counts_to
            if shortcut.spec is not None:
                row, row_bytes = _row(lines, f"{number}_shortcut", shortcut, network.weights[shortcut.name], 1)
                lines.append(f"static const layer convolution_{number} = {row};")
                pointer = f"&convolution_{number}"
                size_bytes += row_bytes + _LAYER_BYTES
        skips.append(f"    {{{source}, {pointer}, {_literal(1 / share)}}},")
    for name, values in (("readout_weights", network.readout_weight), ("readout_bias", network.readout_bias)):
        lines.append(_floats(name, values))
        size_bytes += values.nbytes
    table = ["static const layer layers[LAYERS] = {", *rows, "};\n"]
    if steps.has_shortcuts:
        size_bytes += _SKIP_BYTES * len(rows)
        table += [_SKIP, "static const skip skips[LAYERS] = {", *skips, "};\n"]
    return "\n".join([_LAYER, *lines, *table, "\n"]), size_bytes + _LAYER_BYTES * len(rows)


def _row(lines: list[str], name: str, current: Current, weights: PackedWeights, pool: int) -> tuple[str, int]:
    """The entry of `layers` for the `weights` of `current`, whose arrays are added to `lines`, and the arrays' bytes."""
    spec, codes, row_bytes = weights.spec, "0", 0
    if spec.encoding == "fp32":
        lines.append(_floats("first_weights", weights.stored))
        size_bytes = weights.stored.nbytes
    else:
        rows_of_codes = _codes(weights)
        codes, row_bytes, size_bytes = f"codes_{name}", rows_of_codes.shape[1], rows_of_codes.nbytes
        lines.append(_bytes(codes, rows_of_codes))
    for constants, values in (("scale", weights.scale), ("shift", weights.shift)):
        lines.append(_floats(f"{constants}_{name}", values))
        size_bytes += values.nbytes
    inputs, height, width = current.source.out if current.is_conv else (spec.weight[1], 1, 1)
    kernel = spec.weight[-1] if current.is_conv else 1
    numbers = [inputs, spec.weight[0], height, width, kernel, spec.stride, pool, row_bytes]
    share = _literal(1 / current.source.counts_to)
    return f"{{{codes}, scale_{name}, shift_{name}, {', '.join(map(str, numbers))}, {share}}}", size_bytes


def _codes(weights: PackedWeights) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    ternary = weights.ternary()
    return pack(ternary.reshape(len(ternary), -1), ENCODINGS["ternary2"])


def _literal(value: float | np.float32) -> str:
    """A float constant: nine digits bring every fp32 number back exactly."""
    text = f"{np.float32(value):.9g}"
    return (text if any(mark in text for mark in ".e") else text + ".0") + "f"


def _floats(name: str, values: Floats) -> str:
    return f"static const float {name}[{values.size}] = {{\n{_columns([_literal(v) for v in values.flat], 8)}\n}};"


def _bytes(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    return f"static const uint8_t {name}[{values.size}] = {{\n{_columns([str(v) for v in values.flat], 24)}\n}};"


def _columns(numbers: list[str], width: int) -> str:
    return ",\n".join(", ".join(numbers[i : i + width]) for i in range(0, len(numbers), width))


def _header(about: Document, prefix: str, ram_bytes: int) -> str:
    upper, facts = prefix.upper(), about.input
    frames = "" if facts.kind == "images" else f"{about.timesteps} frames x "
    taken = f"{frames}{facts.channels} channels x {facts.size[0]} rows x {facts.size[1]} columns"
    inputs = facts.channels * prod(facts.size) * (1 if facts.kind == "images" else about.timesteps)
    labels = " ".join(f"{_text(label)}," for label in about.labels)
    pixels = ""
    if facts.kind == "images":
        pixels = f"""
/* The same for pixels from 0 to 255, in the same order; they are normalised first. */
#define {upper}_PIXELS 1
int {prefix}_classify(const uint8_t *pixels, float *logits);
"""
    kind = "normalised pixels" if facts.kind == "images" else "numbers of events"
    return f"""/* A spiking network with ternary weights. Written by tnacli {__version__}.
 *
 * Input: {kind}, {taken}, the last index running fastest.
 * It computes in static memory: one call at a time. Compile with -std=c99 or -ffp-contract=off: fused
 * multiplications and additions would round otherwise than the network was checked with. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_INPUTS {inputs}
#define {upper}_CLASSES {len(about.labels)}
#define {upper}_TIMESTEPS {about.timesteps}
#define {upper}_RAM_BYTES {ram_bytes} /* static buffers; the stack comes on top */

/* The names of the classes, UTF-8; costs no memory where it is not used. */
#define {upper}_LABELS {{{labels.rstrip(",")}}}

/* Writes {upper}_CLASSES logits; the class with the largest comes back. */
int {prefix}_run(const float *input, float *logits);
{pixels}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _text(label: str) -> str:
    """A C string: plain characters as they are, every other byte in octal."""
    plain = set(string.ascii_letters.encode() + string.digits.encode() + b" -_.,:+")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in label.encode()) + '"'
