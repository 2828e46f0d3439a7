from __future__ import annotations

import io
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tnacli.errors import FileFormatError
from tnacli.packed import container

U8 = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
F32 = {"dtype": "F32", "shape": [1, 2], "data_offsets": [4, 12]}
DATA = b"abcd" + struct.pack("<2f", 0.5, -2.0)


def file_of(header: dict[str, Any] | str, data: bytes = DATA, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, str) else json.dumps({"__metadata__": {"tnacli": "text"}} | header)
    raw = text.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def read(data: bytes) -> tuple[str, container.Arrays]:
    return container.read(io.BytesIO(data), len(data), "net.tna")


def test_what_was_written_is_read() -> None:
    arrays: container.Arrays = {
        "b.bytes": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "a": np.array([1.5, -0.0], dtype=np.float32),
    }
    text, found = read(container.to_bytes('é "quoted" \n', arrays))
    assert text == 'é "quoted" \n'
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_the_safetensors_library_reads_what_is_written() -> None:
    arrays: container.Arrays = {
        "a": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "b": np.ones((1, 4), dtype=np.float32),
    }
    found = safetensors.numpy.load(container.to_bytes("text", arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_tensors_may_be_in_any_order_and_place() -> None:
    text, found = read(file_of({"z": F32, "y": U8}))
    assert text == "text"
    assert found["y"].tobytes() == b"abcd"
    np.testing.assert_array_equal(found["z"], np.array([[0.5, -2.0]], dtype=np.float32), strict=True)
    shifted = {"y": U8 | {"shape": [3], "data_offsets": [0, 3]}, "z": F32 | {"data_offsets": [3, 11]}}
    np.testing.assert_array_equal(read(file_of(shifted, DATA[1:]))[1]["z"], found["z"])


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (U8 | {"dtype": "I8"}, "does not describe tensor 'a' properly"),
        (U8 | {"dtype": ["U8"]}, "does not describe"),
        (U8 | {"shape": [5]}, "does not describe"),
        (U8 | {"shape": [4.0]}, "does not describe"),
        (U8 | {"shape": [True, 4]}, "does not describe"),
        (U8 | {"shape": [-2, -2]}, "does not describe"),
        (U8 | {"shape": [1] * 9}, "does not describe"),
        (U8 | {"shape": 4}, "does not describe"),
        (U8 | {"shape": [2**40, 2**40], "data_offsets": [0, 2**80]}, "does not describe"),
        (U8 | {"data_offsets": [4, 0]}, "does not describe"),
        (U8 | {"data_offsets": [0, 4, 4]}, "does not describe"),
        (U8 | {"data_offsets": [-4, 0]}, "does not describe"),
        (U8 | {"more": 1}, "does not describe"),
        ({"dtype": "U8", "shape": [4]}, "does not describe"),
        ([], "does not describe"),
        (U8 | {"data_offsets": [1, 5]}, "begins at byte"),
        (U8 | {"shape": [3], "data_offsets": [0, 3]}, "begins at byte 4 of the data, not at 3"),
        (U8 | {"shape": [5], "data_offsets": [0, 5]}, "begins at byte 4 of the data, not at 5"),
        (U8 | {"data_offsets": [12, 16]}, "begins at byte 4 of the data, not at 0"),
    ],
)
def test_tensors_must_tile_the_data(entry: object, what: str) -> None:
    with pytest.raises(FileFormatError, match=f"net.tna: damaged: .*{what}"):
        read(file_of({"a": entry, "b": F32}))


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ('{"a": {}', "not valid JSON"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": {}, "a": {}}', "a key occurs twice"),
        ('{"__metadata__": {"tnacli": "1", "tnacli": "2"}}', "a key occurs twice"),
        ('{"a": ' + "[" * 200_000, "nested too deeply"),
        ('{"a": ' + "9" * 10_000 + "}", "not valid JSON"),
        ('{"__metadata__": {"tnacli": 1}}', "its metadata is not one text"),
        ('{"__metadata__": {"tnacli": "1", "more": "2"}}', "its metadata is not one text"),
        ("{}", "not a packed file of tnacli.* not one that `tna export` wrote"),
        ('{"__metadata__": {"format": "pt"}}', "not a packed file of tnacli"),
        ('{"__metadata__": null}', "not a packed file of tnacli"),
        ('[{"a": 1}]', "does not begin as a safetensors file"),
    ],
)
def test_a_header_has_one_meaning(header: str, what: str) -> None:
    with pytest.raises(FileFormatError, match=what):
        read(file_of(header))


def test_a_header_is_utf8() -> None:
    with pytest.raises(FileFormatError, match="not valid JSON"):
        read(file_of({"a": U8, "b": F32}).replace(b'"a"', b'"\xff"'))


def test_files_of_other_kinds_are_told_apart() -> None:
    with pytest.raises(FileFormatError, match=r"checkpoint or another zip archive.*`tna export net.tna -o FILE`"):
        read(b"PK\x03\x04" + bytes(100))
    for other in (
        b"",
        b"{",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        bytes(8) + b"{}",
        file_of({"a": U8, "b": F32}, length=1),
    ):
        with pytest.raises(FileFormatError, match="not a packed file of tnacli"):
            read(other)


def test_a_length_is_not_trusted() -> None:
    good = file_of({"a": U8, "b": F32})
    read(good)
    for length in (len(good) - 7, 1 << 20):
        with pytest.raises(FileFormatError, match="truncated"):
            read(struct.pack("<Q", length) + good[8:])
    for length in (1 << 23, (1 << 64) - 1):
        with pytest.raises(FileFormatError, match="not a packed file"):
            read(struct.pack("<Q", length) + good[8:])
    with pytest.raises(FileFormatError, match="3 bytes too many"):
        read(good + b"end")
    for kept in range(len(good) - len(DATA), len(good)):
        with pytest.raises(FileFormatError, match="truncated"):
            read(good[:kept])


def test_nothing_is_allocated_for_tensors_that_are_not_there() -> None:
    giant = U8 | {"shape": [1 << 40], "data_offsets": [12, 12 + (1 << 40)]}
    data = file_of({"a": U8, "b": F32, "giant": giant})
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="truncated"):
            read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
