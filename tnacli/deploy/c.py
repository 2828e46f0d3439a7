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

from tnacli.deploy.c_memory import LANES
from tnacli.deploy.c_tables import literal, tables
from tnacli.errors import UsageError
from tnacli.packed.document import Document
from tnacli.packed.network import PackedNetwork
from tnacli.packed.steps import Steps
from tnacli.version import __version__

_HERE = Path(__file__).parent
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_NORMALISED = """static float normalised(uint8_t pixel, int32_t channel)
{
    const float share = (float)pixel / 255.0f;
    const float centred = share - mean[channel];
    return centred / std[channel];
}"""


@dataclass(frozen=True)
class CSource:
    """The two files of a network, and how much memory they take.

    `ram_bytes` are what a call computes in; `table_bytes` the constant tables, without the code (a few KB).
    """

    prefix: str
    header: str
    source: str
    ram_bytes: int
    table_bytes: int


def c_source(network: PackedNetwork, prefix: str = "tna_net") -> CSource:
    """C99 for `network`; every name in it begins with `prefix`, and the source includes "`prefix`.h".

    Raises UsageError if `prefix` is not a C name, a layer's sums would not fit 32 bits, or a scale is too small to divide.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"the C files cannot be called {prefix!r}: names in them begin with it, so it has to be a letter followed by "
            f"letters, digits and '_', 41 at most; choose another name with -o"
        )
    about, steps = network.about, network.steps
    found, memory = tables(network, prefix.upper())
    ram_bytes = 4 * memory.words
    source = "\n".join([_preamble(prefix), _constants(about, steps), *found.lines, "", _template("network.c", prefix)])
    return CSource(prefix, _header(about, steps, prefix, ram_bytes), source, ram_bytes, found.size_bytes)


def harness(prefix: str) -> str:
    """A program that feeds files of inputs to the network, for tests: `PROGRAM INPUTS LOGITS [bytes]`."""
    return _template("harness.c", prefix).replace("@FILE@", prefix)


def _template(name: str, prefix: str) -> str:
    text = (_HERE / name).read_text(encoding="ascii")
    return text.replace("@PREFIX_UPPER@", prefix.upper()).replace("@PREFIX@", prefix)


def _preamble(prefix: str) -> str:
    return _template("preamble.c", prefix).replace("@VERSION@", __version__)


def _constants(about: Document, steps: Steps) -> str:
    facts = about.input
    lines = [
        "/* images are the same at every timestep: one frame */",
        f"enum {{ T = {about.timesteps}, WORDS = {-(-about.timesteps // LANES)}, "
        f"FRAMES = {steps.input.frames}, LAYERS = {len(steps.layers)} }};",
        f"#define SHORTCUTS {int(steps.has_shortcuts)}",
        f"#define DECAY {literal(about.neuron.decay)}",
        f"#define THRESHOLD {literal(about.neuron.threshold)}",
        f"#define READOUT_LEAK {literal(about.readout.leak)}",
        f"#define READOUT_SHARE {literal(1 / steps.readout.source.counts_to)}",
    ]
    if facts.kind == "events":
        lines.append("#define BYTE_VALUE(byte, place) ((float)(byte))")
    elif facts.mean is None or facts.std is None:
        lines.append("#define BYTE_VALUE(byte, place) ((float)(byte) / 255.0f)")
    else:
        for name, values in (("mean", facts.mean), ("std", facts.std)):
            lines.append(f"static const float {name}[{len(values)}] = {{{', '.join(map(literal, values))}}};")
        lines.append(_NORMALISED)
        lines.append(f"#define BYTE_VALUE(byte, place) normalised(byte, (place) / {prod(facts.size)})")
    return "\n".join(lines) + "\n"


def _header(about: Document, steps: Steps, prefix: str, ram_bytes: int) -> str:
    facts = about.input
    is_image = facts.kind == "images"
    frames = "" if is_image else f"{about.timesteps} frames x "
    filled = {
        "VERSION": __version__,
        "INPUT": f"{frames}{facts.channels} channels x {facts.size[0]} rows x {facts.size[1]} columns",
        "INPUTS": prod(steps.input.out) * steps.input.frames,
        "CLASSES": len(about.labels),
        "TIMESTEPS": about.timesteps,
        "RAM_BYTES": ram_bytes,
        "LABELS": ", ".join(map(_text, about.labels)),
        "FLOATS": "normalised pixels" if is_image else "numbers of events",
        "BYTES": "pixels from 0 to 255, which are normalised first" if is_image else "numbers of events up to 255",
    }
    text = _template("network.h", prefix)
    for name, value in filled.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def _text(label: str) -> str:
    """A C string: plain characters as they are, every other byte in octal."""
    plain = set(string.ascii_letters.encode() + string.digits.encode() + b" -_.,:+")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in label.encode()) + '"'
