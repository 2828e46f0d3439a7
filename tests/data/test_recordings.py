"""Reading event recordings: every format in its real bytes."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tnacli.data.events import Events
from tnacli.data.recordings import read_recording
from tnacli.errors import DataError

Write = Callable[..., Path]


def columns(events: Events) -> list[list[int]]:
    return [array.tolist() for array in events]


def in_time_order(rows: list[tuple[int, int, int, int]]) -> list[list[int]]:
    return [list(column) for column in zip(*sorted(rows, key=lambda row: row[2]), strict=True)]


def test_nmnist(tmp_path: Path, write_nmnist: Write) -> None:
    path = write_nmnist(tmp_path / "a.bin", [(3, 4, 7, 0), (33, 0, 100_000, 1), (0, 33, 300_000, 1)])
    events, sensor, _ = read_recording(str(path), (34, 34))
    assert columns(events) == [[3, 33, 0], [4, 0, 33], [7, 100_000, 300_000], [0, 1, 1]]
    assert sensor == (34, 34)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("signed", [False, True])
def test_arrays(tmp_path: Path, suffix: str, signed: bool) -> None:
    x, y, t = [3, 1], [0, 2], [9, 5]
    polarity = np.array([1, -1] if signed else [True, False])
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, x=np.array(x, np.uint16), y=np.array(y), t=np.array(t, float), p=polarity)
    else:
        kind = np.dtype([("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", polarity.dtype)])
        np.save(path, np.array(list(zip(t, x, y, polarity.tolist(), strict=True)), kind))
    events = read_recording(str(path), (4, 4)).events
    assert columns(events) == [[1, 3], [2, 0], [5, 9], [0, 1]]


def aedat4(rows: list[tuple[int, int, int, int]]) -> bytes:
    """AEDAT 4 without compression: a flatbuffers header, then packets, each one event table.

    Byte by byte after the flatbuffers format, since the package that reads these files does not write them.
    """

    def sized(body: bytes) -> bytes:
        return struct.pack("<I", len(body)) + body

    xml = (
        b'<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        b'<node name="0" path="/mainloop/Recorder/outInfo/0/">'
        b'<attr key="typeIdentifier" type="string">EVTS</attr>'
        b'<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        b'<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">96</attr>'
        b"</node></node></node></dv>"
    )
    text = struct.pack("<I", len(xml)) + xml + b"\0" * (4 - len(xml) % 4)
    # Root offset, identifier, vtable of three fields of which only the last is set, table, string.
    header = struct.pack("<I4sHHHHHxxiI", 20, b"IOHE", 10, 8, 0, 0, 4, 12, 4) + text
    packed = b"".join(struct.pack("<qhhBxxx", t, x, y, p) for x, y, t, p in rows)
    # The vector's structs are aligned to 8 bytes counted from the size in front.
    body = struct.pack("<I4sHHHxxiI", 16, b"EVTS", 6, 8, 4, 8, 4) + struct.pack("<I", len(rows)) + packed
    packet = sized(body)
    return b"#!AER-DAT4.0\r\n" + sized(header) + struct.pack("<II", 0, len(packet)) + packet


def test_aedat4(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="the optional package aedat reads .aedat4")
    rows = [(3, 4, 100, 1), (127, 0, 200, 0), (0, 95, 300, 1)]
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4(rows))
    events, sensor, _ = read_recording(str(path), None)
    assert columns(events) == in_time_order(rows)
    assert sensor == (96, 128)
    with pytest.raises(DataError, match=r"its camera has 96x128 pixels, and the data set is one of 128x128"):
        read_recording(str(path), (128, 128))
    path.write_bytes(aedat4([]))
    with pytest.raises(DataError, match=r"a\.aedat4: holds no events"):
        read_recording(str(path), None)
    path.write_bytes(aedat4(rows).replace(b"EVTS</attr>", b"IMUS</attr>"))
    with pytest.raises(DataError, match=r"a\.aedat4: holds no events"):
        read_recording(str(path), None)


def test_aedat4_without_its_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.aedat4").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.aedat4: .*pip install aedat"):
        read_recording(str(tmp_path / "a.aedat4"), (128, 128))


def test_damaged_recordings_are_named(tmp_path: Path, write_aedat2: Write, write_nmnist: Write) -> None:
    def message(path: Path, sensor: tuple[int, int] | None = (128, 128)) -> str:
        with pytest.raises(DataError) as caught:
            read_recording(str(path), sensor)
        assert str(path) in str(caught.value)
        return str(caught.value)

    whole = write_aedat2(tmp_path / "a.aedat", [0, 2, 4], [1, 2, 3])
    content = whole.read_bytes()
    cases = {
        "cut.aedat": (content[:-3], "cut short"),
        "header.aedat": (content[:20], "no events"),
        "other.aedat": (b"#!AER-DAT3.1\r\n" + content, "AEDAT 3 is not supported"),
        "foreign.aedat": (b"whatever", "not an AEDAT 2.0 recording"),
        "empty.aedat": (b"", "not an AEDAT 2.0 recording"),
        "cut.bin": (b"1234567", "cut short"),
        "empty.bin": (b"", "no events"),
        "foreign.npy": (b"whatever", "cannot be read"),
        "foreign.npz": (b"whatever", "cannot be read"),
    }
    for name, (bytes_, expected) in cases.items():
        (tmp_path / name).write_bytes(bytes_)
        assert expected in message(tmp_path / name)

    outside = write_nmnist(tmp_path / "outside.bin", [(34, 0, 1, 1)])
    assert "1 of 1 events are outside the camera's 34x34 pixels" in message(outside, (34, 34))
    unknown = write_nmnist(tmp_path / "unknown.bin", [(30, 20, 1, 1)])
    assert "data.sensor: [height, width] (this recording needs at least [21, 31])" in message(unknown, None)

    np.savez(tmp_path / "short.npz", x=np.zeros(2, int), y=np.zeros(2, int), t=np.zeros(2, int))
    assert "has no array p" in message(tmp_path / "short.npz")
    wrong: list[tuple[str, dict[str, list[float]], str]] = [
        ("uneven", {"x": [0, 0], "y": [0, 0], "t": [0, 0], "p": [0]}, "same length"),
        ("broken", {"x": [0.5], "y": [0], "t": [0], "p": [0]}, "x must be whole numbers"),
        ("nan", {"x": [0], "y": [0], "t": [np.nan], "p": [0]}, "t must be whole numbers"),
        ("polarity", {"x": [0], "y": [0], "t": [0], "p": [2]}, "polarities must be"),
        ("negative", {"x": [-1], "y": [0], "t": [0], "p": [0]}, "outside the camera's"),
    ]
    for name, arrays, expected in wrong:
        parts = {key: np.array(value) for key, value in arrays.items()}
        np.savez(tmp_path / f"{name}.npz", x=parts["x"], y=parts["y"], t=parts["t"], p=parts["p"])
        assert expected in message(tmp_path / f"{name}.npz")
    np.save(tmp_path / "plain.npy", np.zeros((3, 4)))
    assert "structured array" in message(tmp_path / "plain.npy")


def test_pickled_arrays_are_not_executed(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"evil\.npy cannot be read.*allow_pickle"):
        read_recording(str(tmp_path / "evil.npy"), (4, 4))
