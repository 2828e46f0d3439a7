"""Test vectors as files that Verilog's $readmemh reads: hexadecimal words, one value each."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY_ENDINGS = ("_vectors_inputs.mem", "_vectors_spikes.mem", "_vectors_logits.mem", "_vectors_classes.mem")
"""What is added to the network's name: a file for each kind of value, since each is of another width."""

_A_LINE = 32
_ORDER = "the last index runs fastest"
_ENCODINGS = {"f": "IEEE 754", "i": "two's complement", "u": "unsigned"}


def memory_files(arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """The files by `MEMORY_ENDINGS`, and what each holds, for a manifest.

    `arrays` are "inputs", "logits", "classes" and "spikes_LAYER" (0 or 1) for each layer, of any shapes. The layers lie one
    after another in one file, each from the word that the manifest calls "first_word".
    """
    files: dict[str, bytes] = {}
    contents: dict[str, dict[str, Any]] = {}
    for ending in MEMORY_ENDINGS:
        kind = ending.removeprefix("_vectors_").removesuffix(".mem")
        held = {name: values for name, values in arrays.items() if name.split("_")[0] == kind}
        bits = 1 if kind == "spikes" else 8 * held[kind].dtype.itemsize
        lines, first_word, places = list[str](), 0, dict[str, Any]()
        for name, values in held.items():
            lines += [f"// {name}", f"@{first_word:x}", *_words(values, bits)]
            places[name] = {"first_word": first_word, "shape": values.shape}
            first_word += prod(values.shape)
        encoding = _ENCODINGS[next(iter(held.values())).dtype.kind]
        files[ending] = ("\n".join(lines) + "\n").encode("ascii")
        contents[ending] = {
            "bits": bits, "words": first_word, "encoding": encoding, "order": _ORDER, "arrays": places,
        }  # fmt: skip
    return files, contents


def _words(values: NDArray[Any], bits: int) -> list[str]:
    """Lines of hexadecimal words, the bits of each value as they are."""
    digits = -(-bits // 4)
    flat = np.ascontiguousarray(values).reshape(-1).view(f"u{values.dtype.itemsize}")
    words = [f"{word:0{digits}x}" for word in flat.tolist()]
    return [" ".join(words[at : at + _A_LINE]) for at in range(0, len(words), _A_LINE)]
