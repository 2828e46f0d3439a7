"""Reads what `torch.save` makes of plain values and tensors, without executing any of it.

Such a file is a zip archive: a pickle that describes the values, and one record of bytes a tensor. Here the pickle is not
run. Its opcodes are walked one by one, those that `torch.save` uses for dictionaries, texts, numbers and tensors are
understood, and every other one is refused: no object is made but those, and no more memory is taken than a small multiple
of the file. Each tensor's type, shape and place is compared with the archive before its bytes are read.
"""

from __future__ import annotations

import pickletools
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tnacli.storage import is_archive

_TYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_LARGEST_DESCRIPTION = 64 << 20


class Malformed(ValueError):  # noqa: N818 - says what the file is
    """The file is not one that `torch.save` wrote of plain values and tensors, or no longer; the message says why."""


@dataclass(frozen=True)
class _Name:
    """A global that the pickle names: it stands for itself, nothing is imported."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """The bytes of a tensor: record `data/KEY` of the archive."""

    dtype: torch.dtype
    key: str
    numel: int


class _Mark:
    pass


def read_torch_file(path: Path) -> object:
    """The value saved in `path`: dictionaries, texts, numbers, None and CPU tensors. Raises Malformed or OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _value(archive, path.stat().st_size)
    except (Malformed, OSError):
        raise
    except zipfile.BadZipFile:
        # An archive's table of contents is at its end.
        if not is_archive(path):
            raise Malformed("it is no file that `torch.save` wrote") from None
        raise Malformed("its end is missing or overwritten, as when writing or copying it was cut short") from None
    except Exception as error:
        # zipfile and pickletools raise a dozen types for broken files; none of them is a bug of ours.
        raise Malformed(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def _value(archive: zipfile.ZipFile, size_bytes: int) -> object:
    items = archive.infolist()
    if any(item.file_size != item.compress_size for item in items):
        raise Malformed("its parts are compressed")
    records = {item.filename.partition("/")[2]: item for item in items}
    if len(records) != len(items) or len({item.filename.partition("/")[0] for item in items}) != 1:
        raise Malformed("its parts do not lie in one folder, each once")
    # Parts that overlap in the file could add up to any size.
    if sum(item.file_size for item in items) > size_bytes:
        raise Malformed("its parts are larger than the file")
    if "data.pkl" not in records or records["data.pkl"].file_size > _LARGEST_DESCRIPTION:
        raise Malformed("it holds no description, or one that is too long")
    if "byteorder" in records and archive.read(records["byteorder"]) != sys.byteorder.encode():
        raise Malformed("it was written on a machine with another byte order")
    used: set[str] = set()

    def tensor(arguments: tuple[Any, ...]) -> Tensor:
        return _tensor(archive, records, used, arguments)

    return _walk(archive.read(records["data.pkl"]), tensor)


def _walk(description: bytes, tensor: Callable[[tuple[Any, ...]], Tensor]) -> object:
    """The value that a pickle describes, by the few opcodes that `torch.save` needs for one of ours."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def pop(kind: type) -> Any:
        if not stack or type(stack[-1]) is not kind:
            raise Malformed("its description makes no sense")
        return stack.pop()

    def since_mark() -> list[Any]:
        items = []
        while stack and type(stack[-1]) is not _Mark:
            items.append(stack.pop())
        pop(_Mark)
        return items[::-1]

    argument: Any
    for opcode, argument, _ in pickletools.genops(description):
        match opcode.name:
            case "PROTO":
                pass
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                stack.append(_Mark())
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "GLOBAL":
                stack.append(_Name(argument))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "SETITEM" | "SETITEMS":
                items = since_mark() if opcode.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                _fill(stack, items)
            case "BINPERSID":
                stack.append(_storage(pop(tuple)))
            case "REDUCE":
                arguments = pop(tuple)
                stack.append(_reduced(pop(_Name), arguments, tensor))
            case "STOP":
                break
            case _:
                raise Malformed(f"its description uses {opcode.name}, which no checkpoint needs; it may be malicious")
    if len(stack) != 1:
        raise Malformed("its description makes no sense")
    return stack[0]


def _fill(stack: list[Any], items: list[Any]) -> None:
    target, keys = stack[-1], items[::2]
    if type(target) is not dict or len(items) % 2 or not all(type(key) is str for key in keys):
        raise Malformed("its description makes no sense")
    if len(set(keys)) != len(keys) or not target.keys().isdisjoint(keys):
        raise Malformed("a key occurs twice in its description")
    target.update(zip(keys, items[1::2], strict=True))


def _storage(arguments: tuple[Any, ...]) -> _Storage:
    match arguments:
        case ("storage", _Name(text), str(key), str(), int(numel)) if numel >= 0:
            module, _, name = text.partition(" ")
            if module == "torch" and name in _TYPES:
                return _Storage(_TYPES[name], key, numel)
    raise Malformed("its description of a tensor's bytes makes no sense")


def _reduced(function: _Name, arguments: tuple[Any, ...], tensor: Callable[[tuple[Any, ...]], Tensor]) -> object:
    if function.text == "torch._utils _rebuild_tensor_v2":
        return tensor(arguments)
    if function.text == "collections OrderedDict" and not arguments:
        return None  # the hooks of a tensor: always none
    raise Malformed(f"it wants {function.text.replace(' ', '.')} to be called, which no checkpoint needs; "
                    f"it may be malicious")  # fmt: skip


def _tensor(
    archive: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo], used: set[str], arguments: tuple[Any, ...]
) -> Tensor:
    """A tensor that fills its record, rows in order, as our own are written."""
    match arguments:
        case (_Storage() as storage, 0, tuple(shape), tuple(strides), False, None) if len(shape) == len(strides):
            record = records.get(f"data/{storage.key}")
        case _:
            raise Malformed("its description of a tensor makes no sense")
    if len(shape) > 8 or not all(type(side) is int and 0 <= side < 1 << 48 for side in shape):
        raise Malformed("a tensor's shape makes no sense")
    expected = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    places = zip(shape, strides, expected, strict=True)
    if prod(shape) and any(side > 1 and stride != want for side, stride, want in places):
        raise Malformed("a tensor's rows are not in order")
    if record is None or storage.key in used:
        raise Malformed("a tensor's bytes are missing, or belong to two")
    if not storage.numel == prod(shape) or record.file_size != prod(shape) * storage.dtype.itemsize:
        raise Malformed("a tensor's bytes are not as many as its shape says")
    used.add(storage.key)
    if not record.file_size:
        return torch.empty(shape, dtype=storage.dtype)
    return torch.frombuffer(bytearray(archive.read(record)), dtype=storage.dtype).reshape(shape)
