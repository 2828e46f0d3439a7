"""AEDAT 2.0 in its real bytes: headers of different writers, cameras, and real recordings."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tnacli.data.recordings import Recording, read_recording
from tnacli.errors import DataError

Write = Callable[..., Path]

BEGIN = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
DVS128 = b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
DAVIS346 = b"# AEChip: eu.seebetter.ini.chips.davis.Davis346blue\r\n"
END = b"#End Of ASCII Header\r\n"
V2E = (
    b"#!AER-DAT2.0\r\n"
    b"# This is a raw AE data file created by AEDat2Output in v2e\r\n"
    b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
    b"# Timestamps tick is 1 us\r\n"
    b"# Creation time: 01:57PM January 26 2021\r\n"
    b"# Creation time: System.currentTimeMillis() 1611669426000\r\n"
    b"# User name: jos\xc3\xa9\r\n"
)


def davis346(x: int, y: int, p: int = 0) -> int:
    return (345 - x) << 12 | (259 - y) << 22 | p << 11


def place(recording: Recording) -> list[tuple[int, int]]:
    return list(zip(recording.events.x.tolist(), recording.events.y.tolist(), strict=True))


coordinate = st.integers(0, 127)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(st.integers(-5000, 1 << 30), coordinate, coordinate, st.integers(0, 1)), min_size=1, max_size=50
    )
)
def test_a_dvs128_is_upright(rows: list[tuple[int, int, int, int]], tmp_path: Path, write_aedat2: Write) -> None:
    rows.sort()
    address = [(127 - y) << 8 | (127 - x) << 1 | (1 - p) for _, x, y, p in rows]
    path = write_aedat2(tmp_path / "a.aedat", address, [row[0] for row in rows], BEGIN + DVS128 + END)
    events, sensor, outside = read_recording(str(path), None)
    assert (sensor, outside) == ((128, 128), 0)
    assert list(zip(*(getattr(events, name).tolist() for name in "txyp"), strict=True)) == rows


def test_a_dvs128_equals_spikingjelly_but_for_its_axes(
    tmp_path: Path, write_aedat2: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That library reads CIFAR10-DVS alone, whose camera lay on its side."""
    pytest.importorskip("spikingjelly", reason="the peer library is part of the dev extra")
    # Its data sets import torchaudio for speech, which fails where its build is not of the very CUDA version
    # of torch's.
    monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    peer = importlib.import_module("spikingjelly.datasets.cifar10_dvs")
    rng = np.random.default_rng(0)
    path = write_aedat2(tmp_path / "a.aedat", rng.integers(0, 1 << 15, 500), np.sort(rng.integers(0, 1 << 20, 500)))
    expected = peer._load_origin_data(str(path))
    events = read_recording(str(path), (128, 128)).events
    for ours, theirs in zip("xytp", "yxtp", strict=True):
        np.testing.assert_array_equal(getattr(events, ours), expected[theirs].astype(np.int64))


def test_a_davis_equals_tonic(tmp_path: Path, write_aedat2: Write) -> None:
    from tonic.io import read_davis_346

    rng = np.random.default_rng(1)
    x, y, p = rng.integers(0, 346, 300), rng.integers(0, 260, 300), rng.integers(0, 2, 300)
    address = (345 - x) << 12 | (259 - y) << 22 | p << 11
    path = write_aedat2(tmp_path / "a.aedat", address, np.arange(300), BEGIN + DAVIS346)
    events, sensor, _ = read_recording(str(path), None)
    _, _, peer = read_davis_346(str(path))
    assert sensor == (260, 346)
    for name in "xytp":
        np.testing.assert_array_equal(getattr(events, name), peer[name].astype(np.int64))


def test_words_that_are_no_pixels_are_left_out(tmp_path: Path, write_aedat2: Write) -> None:
    path = write_aedat2(tmp_path / "a.aedat", [0, 0x8000, 0x80000000, 2], [0, 1, 2, 3])
    assert read_recording(str(path), (128, 128)).events.t.tolist() == [0, 3]
    path = write_aedat2(tmp_path / "b.aedat", [0, 0x400, 0x80000000, 2], [0, 1, 2, 3], BEGIN + DAVIS346)
    assert read_recording(str(path), None).events.t.tolist() == [0, 3]


@pytest.mark.parametrize("end", [END, END.replace(b"\r", b""), b""])
def test_a_first_event_that_begins_with_a_number_sign_is_an_event(
    tmp_path: Path, write_aedat2: Write, end: bytes
) -> None:
    first = davis346(100, 118)
    assert first >> 24 == ord("#")
    path = write_aedat2(tmp_path / "a.aedat", [first, davis346(1, 2)], [ord("\n"), 11], BEGIN + DAVIS346 + end)
    assert place(read_recording(str(path), None)) == [(100, 118), (1, 2)]


def test_after_the_end_of_the_header_nothing_is_text(tmp_path: Path, write_aedat2: Write) -> None:
    """Eight bytes that look like a line of text are an event where the header says that it has ended."""
    word, time = int.from_bytes(b"#AAA", "big"), int.from_bytes(b"AA\r\n", "big")
    path = write_aedat2(tmp_path / "a.aedat", [word, davis346(1, 2)], [time, time + 1], BEGIN + DAVIS346 + END)
    events = read_recording(str(path), None).events
    assert events.t.tolist() == [time, time + 1]


@pytest.mark.parametrize(
    ("header", "sensor", "expected"),
    [
        (BEGIN + DVS128, None, (128, 128)),
        (BEGIN + DVS128, (128, 128), (128, 128)),
        (BEGIN + DAVIS346 + END, None, (260, 346)),
        # Only the AEChip line counts: not a host, not a comment, not a preference.
        (BEGIN + b"# Host: davis346-laptop\r\n" + DVS128 + END, None, (128, 128)),
        (BEGIN + b"# User name: dvs128\r\n" + DAVIS346 + b"# davis240\r\n" + END, None, (260, 346)),
        (BEGIN + b'# <entry key="x" value="AEChip: Davis346"/>\r\n' + DVS128 + END, None, (128, 128)),
        (BEGIN + b"# AEChip: ch.unizh.ini.jaer.chip.retina.Tmpdiff128\r\n", None, (128, 128)),
        # Where there is none, data.sensor decides.
        (BEGIN, (128, 128), (128, 128)),
        (BEGIN + b"# recorded beside a davis346\r\n", (128, 128), (128, 128)),
        (V2E, (260, 346), (260, 346)),
    ],
)
def test_what_camera_it_was(
    tmp_path: Path,
    write_aedat2: Write,
    header: bytes,
    sensor: tuple[int, int] | None,
    expected: tuple[int, int],
) -> None:
    address = {(128, 128): (127 - 90) << 8 | (127 - 100) << 1, (260, 346): davis346(100, 90)}[expected]
    recording = read_recording(str(write_aedat2(tmp_path / "a.aedat", [address], [1], header)), sensor)
    assert (recording.sensor, place(recording)) == (expected, [(100, 90)])


@pytest.mark.parametrize(
    ("header", "sensor", "message"),
    [
        (BEGIN, None, r"no AEChip line.*data\.sensor: \[128, 128\] for a DVS128 or \[260, 346\] for a DAVIS346"),
        (V2E, (180, 240), "no AEChip line"),
        (
            BEGIN + b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n",
            None,
            "calls DAVIS240C; .*DVS128 and DAVIS346",
        ),
        (BEGIN + DVS128, (260, 346), "its camera has 128x128 pixels, and the data set is one of 260x346"),
        (BEGIN + DAVIS346, (128, 128), "its camera has 260x346 pixels, and the data set is one of 128x128"),
    ],
)
def test_a_camera_that_is_not_known_or_another(
    tmp_path: Path, write_aedat2: Write, header: bytes, sensor: tuple[int, int] | None, message: str
) -> None:
    path = write_aedat2(tmp_path / "a.aedat", [2], [1], header)
    with pytest.raises(DataError, match=rf"a\.aedat: .*{message}"):
        read_recording(str(path), sensor)


def test_addresses_of_another_camera_are_outside(tmp_path: Path, write_aedat2: Write) -> None:
    path = write_aedat2(tmp_path / "a.aedat", [1 << 16, 0], [1, 2], BEGIN + DVS128)
    with pytest.raises(DataError, match="1 of 2 events are outside the camera's 128x128 pixels"):
        read_recording(str(path), None)
    few = write_aedat2(tmp_path / "b.aedat", [1 << 30, *[0] * 1999], range(2000), BEGIN + DVS128)
    assert read_recording(str(few), None).outside == 1


@pytest.mark.parametrize("end", [1 << 31, 1 << 32])
def test_a_clock_that_passes_its_end(tmp_path: Path, write_aedat2: Write, end: int) -> None:
    true = [end - 30, end - 5, end + 10, end - 2, end + 20]
    x = [1, 2, 3, 4, 5]
    address = [(127 - column) << 1 for column in x]
    path = write_aedat2(tmp_path / "a.aedat", address, [t & 0xFFFFFFFF for t in true], BEGIN + DVS128)
    events = read_recording(str(path), None).events
    assert events.x.tolist() == [1, 2, 4, 3, 5]
    assert np.diff(events.t).tolist() == [25, 3, 12, 10]


def real_recordings(place: Path) -> Iterator[Path]:
    for folder in sorted((place / "DVS128Objects" / "train").iterdir()):
        yield min(folder.iterdir())


def test_real_recordings_are_read_upright(real_dvs128: Path) -> None:
    """Against the layout of jAER's addresses; the header's end is looked for as text here."""
    paths = list(real_recordings(real_dvs128))
    assert len(paths) == 7
    for path in paths:
        content = path.read_bytes()
        words = content[content.index(b"#End Of ASCII Header\r\n") + 22 :]
        address = np.frombuffer(words, ">u4")[0::2].astype(np.int64)
        time = np.frombuffer(words, ">u4")[1::2].astype(np.int64)
        events, sensor, outside = read_recording(str(path), None)
        assert (sensor, outside, len(events.t)) == ((128, 128), 0, 6000)
        np.testing.assert_array_equal(events.x, 127 - (address >> 1 & 127))
        np.testing.assert_array_equal(events.y, 127 - (address >> 8 & 127))
        np.testing.assert_array_equal(events.p, 1 - (address & 1))
        np.testing.assert_array_equal(events.t - events.t[0], time - time[0])
