"""Packed files: written whole, read with every byte accounted for.

The SHA-256 in a file covers its document and all tensors, so that no weight, threshold or label can change
unnoticed. docs/packed-format.md is the description of the format; this is its implementation.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tnacli.errors import FileFormatError
from tnacli.packed import container
from tnacli.packed.document import VERSIONS, Document, WrongVersionError, body_of, parse, seal, unseal
from tnacli.packed.network import PackedNetwork, PackedWeights
from tnacli.storage import write_atomically


def write_packed(path: Path, network: PackedNetwork) -> None:
    """Write `network` to `path`, whole or not at all. Raises StorageError."""
    write_atomically(path, to_bytes(network))


def to_bytes(network: PackedNetwork) -> bytes:
    """The file of `network`; the same network gives the same bytes."""
    return container.to_bytes(seal(body_of(network.about), digest(network)), network.arrays)


def digest(network: PackedNetwork) -> str:
    """SHA-256, in hexadecimal, over the document and all tensors: the content of a packed file."""
    return digest_of(body_of(network.about), network.arrays)


def read_packed(path: Path) -> PackedNetwork:
    """Read and check a packed file, without torch.

    Raises FileFormatError if it is not there, truncated, altered, of another version or not a packed file.
    Nothing is allocated beyond what the file's own length justifies.
    """
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file; packed files are made by `tna export CKPT -o FILE`")
    try:
        with path.open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror or error}") from None


def from_bytes(data: bytes, name: str = "packed file") -> PackedNetwork:
    """What `read_packed` reads, from memory; `name` stands for the file in errors. Raises FileFormatError."""
    return _read(io.BytesIO(data), len(data), name)


def _read(file: BinaryIO, size_bytes: int, name: str) -> PackedNetwork:
    text, arrays = container.read(file, size_bytes, name)
    try:
        body, sha256 = unseal(text)
        altered = digest_of(body, arrays) != sha256
    except WrongVersionError as error:
        known = f"{', '.join(map(str, VERSIONS[:-1]))} and {VERSIONS[-1]}"
        raise FileFormatError(
            f"{name}: packed file of version {error}; this tnacli reads versions {known}. Use the tnacli "
            f"that wrote it, or export the checkpoint again."
        ) from None
    except ValueError as error:
        raise container.damaged(name, f"its description cannot be read: {error}") from None
    if altered:
        raise container.damaged(name, "or altered, its contents do not match its SHA-256")
    try:
        return _assemble(parse(body), arrays)
    except ValueError as error:
        raise FileFormatError(
            f"{name}: not a valid packed file: {error}. Export the checkpoint again with `tna export`."
        ) from None


def _assemble(about: Document, arrays: dict[str, NDArray[Any]]) -> PackedNetwork:
    """The network that `about` describes, from exactly its tensors. Raises ValueError."""
    expected = _expected(about)
    if arrays.keys() != expected.keys():
        odd = min(arrays.keys() ^ expected.keys())
        raise ValueError(f"tensor {odd!r} is {'in no layer' if odd in arrays else 'missing'}")
    checked: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in expected.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"tensor {name!r} is {array.dtype} {array.shape}, not {dtype} {shape}")
        # A copy, for fp32 alone: another program may have written it at an odd place in the file.
        checked[name] = array.astype(np.float32) if dtype == np.float32 else array
        if dtype == np.float32 and not np.isfinite(checked[name]).all():
            raise ValueError(f"tensor {name!r} holds a NaN or an infinity")
    network = PackedNetwork(about, checked)
    for name, weights in network.weights.items():
        _check_weights(name, weights)
    return network


def _expected(about: Document) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Type and shape of every tensor that the file must hold."""
    expected: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {}
    for name, spec in about.steps().weights.items():
        expected[f"{name}.weight"] = (np.float32 if spec.encoding == "fp32" else np.uint8, spec.stored)
        for constants in ("scale", "shift"):
            expected[f"{name}.{constants}"] = (np.float32, spec.weight[:1])
    expected["readout.weight"] = (np.float32, about.readout.weight)
    expected["readout.bias"] = (np.float32, about.readout.weight[:1])
    return expected


def _check_weights(name: str, weights: PackedWeights) -> None:
    try:
        counts = weights.counts
    except ValueError as error:
        raise ValueError(f"layer {name}: {error}") from None
    if counts is not None and weights.spec.binary and counts.zero:
        raise ValueError(f"layer {name}: {counts.zero} weights are zero, but it is called binary")


def digest_of(body: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """The digest of a file whose document has `body` and whose tensors are `arrays`."""
    hasher = hashlib.sha256()
    # Each part after its own length, so that no two files share one stream of bytes.
    parts: list[Any] = [body.encode()]
    for name in sorted(arrays):
        little_endian = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), order="C", copy=False)
        parts += [name.encode(), little_endian.reshape(-1).view(np.uint8).data]
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()
