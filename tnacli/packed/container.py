"""The safetensors container: one text and named arrays in one file, checked in full before it is read.

Writing is left to the safetensors library. Reading is not: the library takes duplicate and unknown keys, and
its errors do not tell a truncated file from a foreign one. The format: eight bytes, little-endian, with the
length of a JSON header; the header, which gives each tensor's type, shape and place; then the tensors' bytes,
back to back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tnacli.errors import FileFormatError
from tnacli.storage import kind_of

TEXT_KEY = "tnacli"
"""The only key of the header's `__metadata__`. The library writes several keys in random order; one keeps
files equal.
"""

Arrays = dict[str, NDArray[Any]]

_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}
_LENGTH_BYTES = 8
_LONGEST_HEADER = 4 << 20
_METADATA = "__metadata__"


def to_bytes(text: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file with `text` under its one metadata key, and float32 and uint8 `arrays`."""
    from safetensors.numpy import save  # who only reads does not need it

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
            f"{name}: this is a checkpoint or another zip archive, not a packed file. A ternary checkpoint "
            f"is packed by `tna export {name} -o FILE`."
        )
    length = int.from_bytes(prefix[:_LENGTH_BYTES], "little")
    if prefix[_LENGTH_BYTES:] != b"{" or not 2 <= length <= _LONGEST_HEADER:
        what = "" if prefix[_LENGTH_BYTES:] == b"{" else f", it is {kind_of(prefix)}"
        raise _foreign(name, f"it does not begin as a safetensors file does{what}")
    if _LENGTH_BYTES + length > size_bytes:
        raise _truncated(name)
    raw = prefix[_LENGTH_BYTES:] + file.read(length - 1)
    try:
        header = parse_json(raw.decode())
    except ValueError as error:
        raise damaged(name, f"its header is not valid JSON: {error}") from None
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
        raise damaged(name, f"its metadata is not one text named {TEXT_KEY}")
    return text


Place = tuple["np.dtype[Any]", tuple[int, ...], int]


def _places(entries: dict[str, Any], data_bytes: int, name: str) -> dict[str, Place]:
    """Type, shape and offset of each tensor, once they are known to tile the `data_bytes` without gap or
    overlap.
    """
    places: dict[str, Place] = {}
    ends: dict[str, tuple[int, int]] = {}
    for tensor, entry in entries.items():
        place = _place(entry)
        if place is None:
            raise damaged(name, f"its header does not describe tensor {tensor!r} properly")
        dtype, shape, begin = places[tensor] = place
        ends[tensor] = (begin, begin + prod(shape) * dtype.itemsize)
    reached = 0
    for tensor, (begin, end) in sorted(ends.items(), key=lambda item: item[1]):
        if begin != reached:
            raise damaged(name, f"tensor {tensor!r} begins at byte {begin} of the data, not at {reached}")
        reached = end
    if reached > data_bytes:
        raise _truncated(name)
    if reached < data_bytes:
        raise damaged(name, f"there are {data_bytes - reached} bytes too many at its end")
    return places


def _place(entry: object) -> Place | None:
    """Type, shape and offset from a tensor's entry in the header, or None if they do not go together."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return None
    dtype = _TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    shape, offsets = entry["shape"], entry["data_offsets"]
    if dtype is None or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        return None
    begin, end = offsets
    return (dtype, tuple(shape), begin) if end - begin == prod(shape) * dtype.itemsize else None


def _are_counts(value: object) -> bool:
    """Whether `value` is a list of whole numbers from 0 up, such as a shape or an offset can be."""
    if not isinstance(value, list) or len(value) > 8:
        return False
    return all(type(number) is int and 0 <= number < 1 << 48 for number in value)


def damaged(name: str, what: str) -> FileFormatError:
    """The error for a packed file `name` of which `what` is wrong."""
    return FileFormatError(f"{name}: damaged: {what}. Copy it again, or export it again with `tna export`.")


def _truncated(name: str) -> FileFormatError:
    return damaged(name, "truncated, the file is shorter than its header says")


def _foreign(name: str, why: str) -> FileFormatError:
    return FileFormatError(
        f"{name}: not a packed file of tnacli: {why}. Packed files are made by `tna export CKPT -o FILE`."
    )
