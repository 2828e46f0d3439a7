"""The disk cache of decoded samples: right or not at all."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from tnacli.data.cache import Bytes, SourceFile, _say_once, cached, entry_name
from tnacli.errors import DataError
from tnacli.places import cache_folder


class Decoder:
    """Counts how often it is asked."""

    def __init__(self, array: Bytes) -> None:
        self.array, self.calls = array, 0

    def __call__(self, remarks: list[str]) -> Bytes:
        self.calls += 1
        return self.array


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(np.arange(600, dtype=np.uint8).reshape(10, 3, 4, 5))


def test_decoded_once(tmp_path: Path, decoder: Decoder) -> None:
    for _ in range(3):
        np.testing.assert_array_equal(cached(tmp_path / "new" / "folder", "a.safetensors", decoder), decoder.array)
    assert decoder.calls == 1
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "header", "foreign"])
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, decoder: Decoder, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cached(tmp_path, "a.safetensors", decoder)
    path = tmp_path / "a.safetensors"
    whole = path.read_bytes()
    damaged = {
        "truncated": whole[:-1],
        "emptied": b"",
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "header": whole.replace(b"crc32", b"crc33"),
        "foreign": b"something else altogether",
    }[damage]
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(cached(tmp_path, "a.safetensors", decoder), decoder.array)
    assert str(path) in caplog.text
    assert decoder.calls == 2
    assert path.read_bytes() == whole


def test_what_there_was_to_remark_is_said_once_in_a_process_but_in_every_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def decode(remarks: list[str]) -> Bytes:
        remarks.append(f"something to remark in {tmp_path}")
        return np.zeros((2, 3), np.uint8)

    def said() -> list[str]:
        caplog.clear()
        cached(tmp_path, "a.safetensors", decode)
        return [record.getMessage() for record in caplog.records]

    expected = [f"something to remark in {tmp_path}"]
    assert said() == expected
    assert said() == []
    _say_once.cache_clear()  # another process, which reads the entry
    assert said() == expected


def test_failing_to_decode_leaves_nothing(tmp_path: Path) -> None:
    def fail(remarks: list[str]) -> Bytes:
        raise DataError("damaged.png")

    with pytest.raises(DataError, match=r"damaged\.png"):
        cached(tmp_path, "a.safetensors", fail)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_cache_is_not_fatal(tmp_path: Path, decoder: Decoder, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("a file where the cache folder should be")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(cached(tmp_path / "file" / "cache", "a", decoder), decoder.array)
    assert "not kept" in caplog.text
    np.testing.assert_array_equal(cached(None, "a", decoder), decoder.array)
    assert decoder.calls == 2


def test_the_name_depends_on_every_file_and_setting() -> None:
    first, second = SourceFile("/a/b", 3, 5), SourceFile("/a/c", 3, 5)
    cases = [
        ([first, second], "x"),
        ([second, first], "x"),
        ([first], "x"),
        ([first, second], "y"),
        ([first, second._replace(size_bytes=4)], "x"),
        ([first, second._replace(changed_ns=6)], "x"),
    ]
    names = {entry_name("set", files, settings) for files, settings in cases}
    assert len(names) == len(cases)
    assert entry_name("set", [first, second], "x") in names


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TNA_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.delenv("TNA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tnacli"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if os.name == "posix":
        assert cache_folder() == tmp_path / "home" / ".cache" / "tnacli"
