"""A packed network as C99 source: one header and one source file, no library, no allocation.

The arithmetic is that of docs/packed-format.md. Hidden layers add and subtract spike counts in 32-bit integers where
2-bit codes say so; the first layer, potentials and the readout are in float (`floats.c`) or in whole numbers (`integers.c`).
`network.c` beside this file is the part that is the same for every network; this module writes what stands above it.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from math import prod
from pathlib import Path

from tnacli.deploy.c_integers import Integers, integers
from tnacli.deploy.c_memory import LANES
from tnacli.deploy.c_tables import LEAST, literal, tables
from tnacli.errors import UsageError
from tnacli.evaluation.energy import Activity
from tnacli.packed.document import Document
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import Origin
from tnacli.packed.steps import Steps
from tnacli.version import __version__

_HERE = Path(__file__).parent
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_FLOAT_FILES, _INTEGER_FILES = ("floats.c", "network.c", "run.c"), ("integers.c", "network.c")
_FLOAT_WORDS = {"NUMBER": "float", "WEIGHT": "float", "READ": "FLOAT"}
_INTEGER_WORDS = {"NUMBER": "int32_t", "WEIGHT": "int8_t", "READ": "WORD"}
_NORMALISED = """static float normalised(uint8_t pixel, int32_t channel)
{
    const float share = (float)pixel / 255.0f;
    const float centred = share - mean[channel];
    return centred / std[channel];
}"""


@dataclass(frozen=True)
class CSource:
    """The two files of a network, and how much memory they take.

    `ram_bytes` are what a call computes in; `table_bytes` the constant tables, without the code (a few KB). `unit` is what one
    of the logits stands for where they are whole numbers; None where they are floats.
    """

    prefix: str
    header: str
    source: str
    ram_bytes: int
    table_bytes: int
    unit: float | None = None


def c_source(
    network: PackedNetwork, prefix: str = "tna_net", *, integer: bool = False, activity: Activity | None = None
) -> CSource:
    """C99 for `network`; every name in it begins with `prefix`, and the source includes "`prefix`.h".

    With `integer` it computes in whole numbers alone, which is near the network, not equal to it (`c_integers`). The header
    says which operations `activity` counted, if given.

    Raises UsageError if `prefix` is not a C name, a layer's sums would not fit 32 bits, or a scale is too small to divide.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"the C files cannot be called {prefix!r}: names in them begin with it, so it has to be a letter followed by "
            f"letters, digits and '_', 41 at most; choose another name with -o"
        )
    about, steps = network.about, network.steps
    whole = integers(network) if integer else None
    found, memory = tables(network, prefix.upper(), whole)
    ram_bytes, unit = 4 * memory.words, None if whole is None else whole.unit
    numbers = _numbers(about, steps) if whole is None else _whole_numbers(whole, steps)
    parts = [_template("preamble.c", prefix, integer), _constants(about, steps), *numbers, "", *found.lines, ""]
    parts += [_template(name, prefix, integer) for name in (_INTEGER_FILES if integer else _FLOAT_FILES)]
    header = _header(about, steps, prefix, ram_bytes=ram_bytes, unit=unit, activity=activity)
    return CSource(prefix, header, "\n".join(parts), ram_bytes, found.size_bytes, unit)


def harness(source: CSource) -> str:
    """A program that feeds files of inputs to the network, for tests: `PROGRAM INPUTS LOGITS [bytes]`.

    A network of whole numbers takes bytes alone.
    """
    return _template("harness.c", source.prefix, source.unit is not None)


def _template(name: str, prefix: str, integer: bool) -> str:
    """The file `name`, filled in; of its lines from @FLOATS@ to @END@ and from @INTEGERS@ to @END@ those that apply."""
    text = (_HERE / name).read_text(encoding="ascii")
    left_out, kept = ("FLOATS", "INTEGERS") if integer else ("INTEGERS", "FLOATS")
    text = (
        re.sub(rf"@{left_out}@\n.*?@END@\n", "", text, flags=re.DOTALL)
        .replace(f"@{kept}@\n", "")
        .replace("@END@\n", "")
    )
    filled = _INTEGER_WORDS if integer else _FLOAT_WORDS
    for word, value in {"PREFIX_UPPER": prefix.upper(), "PREFIX": prefix, "VERSION": __version__, **filled}.items():
        text = text.replace(f"@{word}@", value)
    return text


def _constants(about: Document, steps: Steps) -> str:
    lines = [
        "/* images are the same at every timestep: one frame */",
        f"enum {{ T = {about.timesteps}, WORDS = {-(-about.timesteps // LANES)}, "
        f"FRAMES = {steps.input.frames}, LAYERS = {len(steps.layers)} }};",
        f"#define SHORTCUTS {int(steps.has_shortcuts)}",
        f"#define MAXIMA {int(steps.has_maxima)}",
        f"#define SUMS {int(steps.has_sums)}",
        f"#define SOFT_RESETS {int(steps.has_soft_resets)}",
    ]
    return "\n".join(lines)


def _whole_numbers(whole: Integers, steps: Steps) -> list[str]:
    first, plane = whole.decays[steps.layers[0].name], prod(steps.input.spec.size)
    lines = [
        f"#define POTENTIAL_BITS {whole.potential_bits}",
        "#define THRESHOLD (1 << POTENTIAL_BITS)",
        f"#define DECAY {'(l->decay)' if steps.neurons_differ else first.numerator}",
        f"#define DECAY_BITS {'(l->decay_bits)' if steps.neurons_differ else first.bits}",
        f"#define SUBTRACT {'(l->subtract)' if steps.neurons_differ else whole.subtracts[steps.layers[0].name]}",
        f"#define LOWEST {'(l->lowest)' if steps.neurons_differ else whole.lowest[steps.layers[0].name]}",
        _most_spikes(steps),
        f"#define FIRST_DROPPED {whole.first_dropped}",
        f"#define READOUT_LEAK {whole.leak.numerator}",
        f"#define READOUT_LEAK_BITS {whole.leak.bits}",
        f"#define READOUT_ONE {whole.readout_one}",
    ]
    if len(set(whole.offsets)) == 1:
        return [*lines, f"#define BYTE_VALUE(byte, place) ((int32_t)(byte) - ({whole.offsets[0]}))"]
    offsets = ", ".join(map(str, whole.offsets))
    return [
        *lines,
        f"static const int32_t offsets[{len(whole.offsets)}] = {{{offsets}}};",
        f"#define BYTE_VALUE(byte, place) ((int32_t)(byte) - offsets[(place) / {plane}])",
    ]


def _most_spikes(steps: Steps) -> str:
    return f"#define MOST_SPIKES {'(l->most_spikes)' if steps.neurons_differ else steps.layers[0].neuron.most_spikes}"


def _numbers(about: Document, steps: Steps) -> list[str]:
    spec, neuron = about.input, steps.layers[0].neuron
    lines = [
        f"#define DECAY {'(l->decay)' if steps.neurons_differ else literal(neuron.decay)}",
        f"#define THRESHOLD {'(l->threshold)' if steps.neurons_differ else literal(neuron.threshold)}",
        f"#define SUBTRACT {'(l->subtract)' if steps.neurons_differ else literal(neuron.subtract or 0.0)}",
        f"#define LOWEST {'(l->lowest)' if steps.neurons_differ else literal(LEAST if neuron.lowest is None else neuron.lowest)}",
        _most_spikes(steps),
        f"#define READOUT_LEAK {literal(about.readout.leak)}",
        f"#define READOUT_DIVISOR {literal(steps.readout.source.divisor)}",
    ]
    if spec.kind == "events":
        lines.append("#define BYTE_VALUE(byte, place) ((float)(byte))")
    elif spec.mean is None or spec.std is None:
        lines.append("#define BYTE_VALUE(byte, place) ((float)(byte) / 255.0f)")
    else:
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            lines.append(f"static const float {name}[{len(values)}] = {{{', '.join(map(literal, values))}}};")
        lines.append(_NORMALISED)
        lines.append(f"#define BYTE_VALUE(byte, place) normalised(byte, (place) / {prod(spec.size)})")
    return lines


def _header(
    about: Document, steps: Steps, prefix: str, *, ram_bytes: int, unit: float | None, activity: Activity | None
) -> str:
    spec = about.input
    is_image = spec.kind == "images"
    frames = "" if is_image else f"{about.timesteps} frames x "
    filled = {
        "ORIGIN": origin_text(about.origin),
        "OPERATIONS": " *" if activity is None else _operations(activity),
        "UNIT": "" if unit is None else f"{unit:.9g}",
        "INPUT": f"{frames}{spec.channels} channels x {spec.size[0]} rows x {spec.size[1]} columns",
        "INPUTS": prod(steps.input.out) * steps.input.frames,
        "CLASSES": len(about.labels),
        "TIMESTEPS": about.timesteps,
        "RAM_BYTES": ram_bytes,
        "LABELS": ", ".join(map(_text, about.labels)),
        "FLOATING": "normalised pixels" if is_image else "numbers of events",
        "BYTES": "pixels from 0 to 255" if is_image else "numbers of events up to 255",
    }
    text = _template("network.h", prefix, unit is not None)
    for name, value in filled.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def _operations(activity: Activity) -> str:
    """Lines of a comment: the operations of each layer, and what they were counted on."""
    on = (
        f"on average over {activity.samples} samples"
        if activity.samples
        else "at most (every neuron spikes at every timestep)"
    )
    counts = ("macs", "additions_nonzero", "additions")
    rows = [["layer", "multiply-adds", "additions", "with those of weights that are 0"]]
    rows += [[layer.name, *(f"{getattr(layer, of):,.0f}" for of in counts)] for layer in activity.layers]
    rows.append(["sum", *(f"{activity.total(of):,.0f}" for of in counts)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    title = f" * Operations of a sample, as `tna evaluate --activity` counts them, {on}:"
    return "\n".join([" *", title, *(f" *   {line}" for line in lines), " *"])


def origin_text(origin: Origin) -> str:
    """Where a network came from, in ASCII that a C comment can hold."""
    parts = [f"data {origin.data_set}", f"recipe {origin.recipe}", f"run {origin.run}", f"seed {origin.seed}"]
    parts += [f"identity {origin.identity}"]
    if origin.accuracy is not None:
        parts.append(f"{origin.accuracy:.2f} % of its test samples right")
    text = ", ".join(parts).encode("ascii", "backslashreplace").decode()
    return re.sub(r"[^ -~]", "?", text).replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


def _text(label: str) -> str:
    """A C string: plain characters as they are, every other byte in octal."""
    plain = set(string.ascii_letters.encode() + string.digits.encode() + b" -_.,:+")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in label.encode()) + '"'
