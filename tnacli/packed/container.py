"""The safetensors container: one text and named arrays in one file, checked in full before anything is
allocated for it.

Writing is left to the safetensors library. Reading is not: the library takes duplicate and unknown keys, and
its errors do not tell a truncated file from a foreign one. The format: eight bytes, little-endian, with the
length of a JSON header; the header, which gives each tensor's type, shape and place; then the tensors' bytes,
back to back.
"""

from __future__ import annotations

import json
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from tnacli.errors import FileFormatError

TEXT_KEY = "tnacli"
"""The only key of the header's `__metadata__`. The library writes several keys in random order; one keeps
files equal.
"""

Arrays = dict[str, NDArray[Any]]

_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}
_LENGTH_BYTES = 8
_LONGEST_HEADER = 4 << 20
_METADATA = "__metadata__"


def to_bytes(text: str, arrays: Arrays) -> bytes:
    """A safetensors file with `text` under its one metadata key, and float32 and uint8 `arrays`."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {TEXT_KEY: text})


def read(file: BinaryIO, size_bytes: int, name: str) -> tuple[str, Arrays]:
    """The text and arrays of a container of `size_bytes`; `name` stands for it in errors.

    Memory: the file's own length, and a small multiple of its header. Raises FileFormatError.
    """
    header, start = _read_header(file, size_bytes, name)
    text = _text(header.pop(_METADATA, None), name)
    places = _places(header, size_bytes - start, name)
    data = file.read(size_bytes - start)
    if len(data) != size_bytes - start:
        raise _truncated(name)
    return text, {
        tensor: np.frombuffer(data, dtype, prod(shape), offset).reshape(shape)
        for tensor, (dtype, shape, offset) in places.items()
    }


def _read_header(file: BinaryIO, size_bytes: int, name: str) -> tuple[dict[str, Any], int]:
    prefix = file.read(_LENGTH_BYTES + 1)
    if prefix.startswith(b"PK\x03\x04"):
        raise FileFormatError(
            f"{name}: this is a checkpoint or another zip archive, not a packed file; `tna export {name} -o FILE` packs "
            f"a ternary checkpoint"
        )
    length = int.from_bytes(prefix[:_LENGTH_BYTES], "little")
    if prefix[_LENGTH_BYTES:] != b"{" or not 2 <= length <= _LONGEST_HEADER:
        raise _foreign(name, "it does not begin as a safetensors file does")
    if _LENGTH_BYTES + length > size_bytes:
        raise _truncated(name)
    raw = prefix[_LENGTH_BYTES:] + file.read(length - 1)
    try:
        header = parse_json(raw.decode())
    except ValueError as error:
        raise FileFormatError(f"{name}: damaged: its header is not valid JSON ({error}). {_GET_ANOTHER}") from None
    return header, _LENGTH_BYTES + length


def parse_json(text: str) -> dict[str, Any]:
    """A JSON object with one meaning: no duplicate keys, no NaN or infinity. Raises ValueError."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _text(metadata: object, name: str) -> str:
    if not isinstance(metadata, dict) or TEXT_KEY not in metadata:
        raise _foreign(name, "it is a safetensors file, but not one that `tna export` wrote")
    if len(metadata) != 1 or not isinstance(text := metadata[TEXT_KEY], str):
        raise FileFormatError(f"{name}: damaged: its metadata must be one text named {TEXT_KEY}. {_GET_ANOTHER}")
    return text


Place = tuple["np.dtype[Any]", tuple[int, ...], int]


def _places(entries: dict[str, Any], data_bytes: int, name: str) -> dict[str, Place]:
    """Type, shape and offset of each tensor, once they are known to tile the `data_bytes` without gap or
    overlap.
    """
    places: dict[str, Place] = {}
    ends: dict[str, tuple[int, int]] = {}
    for tensor, entry in entries.items():
        bad = FileFormatError(f"{name}: damaged: its header does not describe tensor {tensor!r} properly. {_GET_ANOTHER}")
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise bad
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _TYPES or not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
            raise bad
        begin, end = offsets
        if end - begin != prod(shape) * _TYPES[dtype].itemsize:
            raise bad
        places[tensor] = (_TYPES[dtype], tuple(shape), begin)
        ends[tensor] = (begin, end)
    reached = 0
    for tensor, (begin, end) in sorted(ends.items(), key=lambda item: item[1]):
        if begin != reached:
            raise FileFormatError(
                f"{name}: damaged: tensor {tensor!r} begins at byte {begin} of the data, not at {reached}. {_GET_ANOTHER}"
            )
        reached = end
    if reached > data_bytes:
        raise _truncated(name)
    if reached < data_bytes:
        raise FileFormatError(f"{name}: damaged: {data_bytes - reached} bytes too many at its end. {_GET_ANOTHER}")
    return places


def _counts(value: object) -> bool:
    """Whether `value` is a list of whole numbers from 0 up that a shape or an offset can be."""
    return isinstance(value, list) and len(value) <= 8 and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


_GET_ANOTHER = "Copy it again, or export it again with `tna export`."


def _truncated(name: str) -> FileFormatError:
    return FileFormatError(f"{name}: truncated: the file is shorter than its header says. {_GET_ANOTHER}")


def _foreign(name: str, why: str) -> FileFormatError:
    return FileFormatError(f"{name}: not a packed file of tnacli: {why}. Packed files are made by `tna export CKPT -o FILE`.")
