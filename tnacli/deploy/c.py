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
from tnacli.packed.model import Floats, PackedNetwork, PackedWeights
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
    about = network.about
    shares = _shares(about)
    for facts, share in zip(about.layers[1:], shares[:-1], strict=True):
        if facts.fan_in * share >= 1 << 31:
            raise UsageError(
                f"layer {facts.name} has {facts.fan_in} inputs: their sum does not fit the C export's 32 bits"
            )
    names = [facts.name for facts in about.layers]
    for number, facts in enumerate(about.layers):
        if facts.shortcut is not None and number - names.index(facts.shortcut.source) > 2:
            raise UsageError(
                f"layer {facts.name} has a shortcut from {facts.shortcut.source}, over more than one layer; the C export keeps "
                f"the spikes of three layers. Use --format packed, onnx or nir"
            )
    tables, table_bytes = _tables(network, shares)
    buffers, ram_bytes = _buffers(about)
    parts = [_preamble(prefix), _constants(about, shares[-1]), buffers, tables, _template("network.c", prefix)]
    if about.input.kind == "images":
        parts.append(_template("pixels.c", prefix))
    return CSource(prefix, _header(about, prefix, ram_bytes), "".join(parts), ram_bytes, table_bytes)


def harness(prefix: str) -> str:
    """A program that feeds files of inputs to the network, for tests: `PROGRAM INPUTS LOGITS [pixels]`."""
    return _template("harness.c", prefix).replace("@FILE@", prefix)


def _shares(about: Document) -> list[int]:
    """How many neurons each value behind each layer is the mean of."""
    return [facts.pool**2 for facts in about.layers]


def _template(name: str, prefix: str) -> str:
    text = (_HERE / name).read_text(encoding="ascii")
    return text.replace("@PREFIX_UPPER@", prefix.upper()).replace("@PREFIX@", prefix)


def _preamble(prefix: str) -> str:
    return f'/* Written by tnacli {__version__}; {prefix}.h says how to use it. */\n#include "{prefix}.h"\n\n'


def _constants(about: Document, readout_share: int) -> str:
    facts = about.input
    lines = [
        "/* images are the same at every timestep: one frame */",
        f"enum {{ T = {about.timesteps}, FRAMES = {1 if facts.kind == 'images' else about.timesteps}, "
        f"LAYERS = {len(about.layers)}, BUFFERS = {_buffer_count(about)}, FEATURES = {about.readout.weight[1]} }};",
        f"#define SHORTCUTS {int(_has_shortcuts(about))}",
        f"#define DECAY {_literal(about.neuron.decay)}",
        f"#define THRESHOLD {_literal(about.neuron.threshold)}",
        f"#define READOUT_LEAK {_literal(about.readout.leak)}",
        f"#define READOUT_SHARE {_literal(1 / readout_share)}",
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


def _buffers(about: Document) -> tuple[str, int]:
    """The static buffers, and their bytes: what neighbouring layers give, and one neuron's sums and currents."""
    given, count = [prod(shape) * about.timesteps for shape in about.out_shapes()], _buffer_count(about)
    sizes = [max(given[n::count], default=1) for n in range(count)]
    lines = [f"static uint8_t buffers_{n}[{size}]; /* spike counts */" for n, size in enumerate(sizes)]
    lines.append(f"static uint8_t *const buffers[BUFFERS] = {{{', '.join(f'buffers_{n}' for n in range(count))}}};")
    lines += ["static float current[T];", "static int32_t sums[T];"]
    ram_bytes = sum(sizes) + 8 * about.timesteps
    if about.input.kind == "images":
        values = about.input.channels * prod(about.input.size)
        lines.append(f"static float normalised[{values}];")
        ram_bytes += 4 * values
    return "\n".join(lines) + "\n\n", ram_bytes


def _has_shortcuts(about: Document) -> bool:
    return any(facts.shortcut is not None for facts in about.layers)


def _buffer_count(about: Document) -> int:
    """Layers whose spikes are held at a time: a shortcut begins one layer earlier."""
    return 3 if _has_shortcuts(about) else 2


def _tables(network: PackedNetwork, shares: list[int]) -> tuple[str, int]:
    """The weights, constants and layers as C arrays, and their bytes."""
    about = network.about
    lines: list[str] = []
    rows: list[str] = []
    skips: list[str] = []
    shapes: list[tuple[int, ...]] = [(about.input.channels, *about.input.size), *about.out_shapes()]
    names = [facts.name for facts in about.layers]
    size_bytes = 0
    for number, layer in enumerate(network.layers):
        share = shares[number - 1] if number else 1
        row, row_bytes = _row(lines, str(number), layer, shapes[number], layer.facts.pool, share)
        rows.append(f"    {row},")
        size_bytes += row_bytes
        source, pointer, share = -1, "0", 1
        if layer.facts.shortcut is not None:
            source = names.index(layer.facts.shortcut.source)
            share = shares[source]
        if layer.shortcut is not None:
            row, row_bytes = _row(lines, f"{number}_shortcut", layer.shortcut, shapes[source + 1], 1, share)
            lines.append(f"static const layer convolution_{number} = {row};")
            pointer = f"&convolution_{number}"
            size_bytes += row_bytes + _LAYER_BYTES
        skips.append(f"    {{{source}, {pointer}, {_literal(1 / share)}}},")
    for name, values in (("readout_weights", network.readout_weight), ("readout_bias", network.readout_bias)):
        lines.append(_floats(name, values))
        size_bytes += values.nbytes
    table = ["static const layer layers[LAYERS] = {", *rows, "};\n"]
    if _has_shortcuts(about):
        size_bytes += _SKIP_BYTES * len(rows)
        table += [_SKIP, "static const skip skips[LAYERS] = {", *skips, "};\n"]
    return "\n".join([_LAYER, *lines, *table, "\n"]), size_bytes + _LAYER_BYTES * len(rows)


def _row(
    lines: list[str], name: str, weights: PackedWeights, shape: tuple[int, ...], pool: int, share: int
) -> tuple[str, int]:
    """The entry of `layers` for weights on inputs of `shape`, whose arrays are added to `lines`, and the arrays' bytes."""
    facts, codes, row_bytes = weights.facts, "0", 0
    if facts.encoding == "fp32":
        lines.append(_floats("first_weights", weights.stored))
        size_bytes = weights.stored.nbytes
    else:
        rows_of_codes = _codes(weights)
        codes, row_bytes, size_bytes = f"codes_{name}", rows_of_codes.shape[1], rows_of_codes.nbytes
        lines.append(_bytes(codes, rows_of_codes))
    for constants, values in (("scale", weights.scale), ("shift", weights.shift)):
        lines.append(_floats(f"{constants}_{name}", values))
        size_bytes += values.nbytes
    is_fc = len(facts.weight) == 2
    inputs, height, width = (facts.weight[1], 1, 1) if is_fc else (shape[0], shape[1], shape[2])
    kernel = 1 if is_fc else facts.weight[-1]
    numbers = [inputs, facts.weight[0], height, width, kernel, facts.stride, pool, row_bytes]
    return f"{{{codes}, scale_{name}, shift_{name}, {', '.join(map(str, numbers))}, {_literal(1 / share)}}}", size_bytes


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
