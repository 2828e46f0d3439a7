"""Test vectors of an exported C network: samples and all that it makes of them, for a test bench of a device or a circuit.

As C with a `main` that compares, as .npz, as .mem for $readmemh, and a manifest of them in JSON. The C is compiled with the
network and run here before it is given out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tnacli.deploy import c_build
from tnacli.deploy.c import c_source, origin_text
from tnacli.deploy.c_tables import literal
from tnacli.deploy.memories import MEMORY_ENDINGS, memory_files
from tnacli.deploy.whole_numbers import whole_run
from tnacli.errors import FileFormatError
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork
from tnacli.version import __version__

VECTOR_ENDINGS = ("_vectors.c", "_vectors.npz", *MEMORY_ENDINGS, "_vectors.json")
"""What is added to the network's name."""

_MAIN = """
/* Returns how many samples are classified otherwise, or have a logit that is further away than it may be. */
int main(void)
{
    static @NUMBER@ found[@UPPER@_CLASSES];
    int wrong = 0, n, k;
    for (n = 0; n < @PREFIX@_samples; n++) {
        int bad = @PREFIX@_classify(@PREFIX@_inputs + (long)n * @UPPER@_INPUTS, found) != @PREFIX@_classes[n];
        for (k = 0; k < @UPPER@_CLASSES; k++) {
            const @NUMBER@ expected = @PREFIX@_logits[n * @UPPER@_CLASSES + k];
            const @NUMBER@ apart = found[k] > expected ? found[k] - expected : expected - found[k];
            bad |= !(apart <= @MARGIN@);
        }
        wrong += bad;
    }
    return wrong > 255 ? 255 : wrong; /* an exit code has eight bits */
}
"""


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Inputs uint8 [N, ...]; spikes uint8 0 or 1 [N, T, ...] by layer, before pooling; logits, float32 or whole int32 numbers
    [N, classes]; classes int32 [N]."""

    inputs: NDArray[np.uint8]
    spikes: dict[str, NDArray[np.uint8]]
    logits: NDArray[Any]
    classes: NDArray[np.int32]

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        spikes = {f"spikes_{name}": values for name, values in self.spikes.items()}
        return {"inputs": self.inputs, **spikes, "logits": self.logits, "classes": self.classes}


def vectors(network: PackedNetwork, inputs: NDArray[np.uint8], *, integer: bool) -> Vectors:
    """What `network`, the packed engine's or in whole numbers, makes of bytes [N, ...]."""
    if integer:
        run = whole_run(network, inputs)
        logits: NDArray[Any] = run.logits.astype(np.int32)
        return Vectors(inputs, run.spikes, logits, logits.argmax(1).astype(np.int32))
    engine, parts = PackedSNN(network), {layer.name: list[torch.Tensor]() for layer in network.steps.layers}
    given = engine(engine.normalise(torch.from_numpy(inputs)), lambda name, fired: parts[name].append(fired.clone()))
    spikes = {name: torch.cat(found, 1).transpose(0, 1).contiguous().numpy() for name, found in parts.items()}
    return Vectors(inputs, spikes, given.numpy().copy(), given.argmax(1).numpy().astype(np.int32))


def vector_files(network: PackedNetwork, inputs: NDArray[np.uint8], prefix: str, *, integer: bool) -> dict[str, bytes]:
    """The files of `inputs`, bytes [N, ...], by `VECTOR_ENDINGS`; the C one belongs to the network called `prefix`.

    Raises FileFormatError if the compiled network does not compute what they say.
    """
    found = vectors(network, inputs, integer=integer)
    text = _as_c(network, found, prefix)
    wrong = _mismatches(network, text, prefix, integer=integer)
    if wrong:
        raise FileFormatError(
            f"{wrong} of {len(inputs)} vectors are not what the compiled network computes; nothing was written; without "
            f"--vectors the network itself can be; please report this"
        )
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **found.arrays)
    memories, contents = memory_files(found.arrays)
    files = {"_vectors.c": text.encode("ascii"), "_vectors.npz": stream.getvalue(), **memories}
    manifest = {
        "format": "tnacli-vectors",
        "version": 1,
        "created_by": f"tnacli {__version__}",
        "network": prefix,
        "integer": integer,
        "unit": c_source(network, prefix, integer=integer).unit,
        "timesteps": network.about.timesteps,
        "labels": network.about.labels,
        "origin": network.about.origin.model_dump(mode="json"),
        "arrays": {name: {"shape": a.shape, "dtype": str(a.dtype)} for name, a in found.arrays.items()},
        "memories": {prefix + ending: content for ending, content in contents.items()},
        "sha256": {prefix + ending: hashlib.sha256(data).hexdigest() for ending, data in files.items()},
    }
    return {**files, "_vectors.json": (json.dumps(manifest, indent=1) + "\n").encode()}


def _as_c(network: PackedNetwork, found: Vectors, prefix: str) -> str:
    whole = found.logits.dtype.kind == "i"
    kind = "int32_t" if whole else "float"
    lines = [
        f"/* Test vectors of {prefix}.h. Written by tnacli {__version__}.",
        f" * From: {origin_text(network.about.origin)}",
        " * Spikes are those of the first sample at the first timestep, then of the next, channel by channel and row by row,",
        " * before pooling: a bit a neuron, the lowest bit of a byte first; each sample begins with a new byte. */",
        f'#include "{prefix}.h"',
        "",
        f"enum {{ {prefix}_samples = {len(found.inputs)} }};",
        _array("static const uint8_t", f"{prefix}_inputs", found.inputs),
    ]
    for name, spikes in found.spikes.items():
        bits = np.packbits(spikes.reshape(len(spikes), -1), axis=1, bitorder="little")
        shape = " x ".join(map(str, spikes.shape))
        declared = f"{prefix}_spikes_{name}"
        lines += [f"/* {shape} */", f"extern const uint8_t {declared}[];", _array("const uint8_t", declared, bits)]
    lines.append(_array(f"static const {kind}", f"{prefix}_logits", found.logits))
    lines.append(_array("static const int32_t", f"{prefix}_classes", found.classes))
    margin = "0" if whole else literal(1e-4 * max(1.0, float(np.abs(found.logits).max())))
    filled = {"NUMBER": kind, "PREFIX": prefix, "UPPER": prefix.upper(), "MARGIN": margin}
    text = _MAIN
    for word, value in filled.items():
        text = text.replace(f"@{word}@", value)
    return "\n".join(lines) + "\n" + text


def _array(kind: str, name: str, values: NDArray[Any]) -> str:
    numbers = [literal(v) if values.dtype.kind == "f" else str(v) for v in values.flat]
    rows = ",\n".join(", ".join(numbers[at : at + 20]) for at in range(0, len(numbers), 20))
    return f"{kind} {name}[{len(numbers)}] = {{\n{rows}\n}};"


def _mismatches(network: PackedNetwork, text: str, prefix: str, *, integer: bool) -> int:
    """What the `main` of the vectors returns, on this machine; the compiler has been found before."""
    with tempfile.TemporaryDirectory() as name:
        folder, program = Path(name), c_build.compiler()
        assert program is not None
        (folder / "vectors.c").write_text(text, encoding="ascii")
        c_build.write(c_source(network, prefix, integer=integer), folder)
        executable = folder / "vectors"
        c_build.compile_files([folder / f"{prefix}.c", folder / "vectors.c"], executable, "-O2", program=program)
        return subprocess.run([str(executable)], check=False).returncode
