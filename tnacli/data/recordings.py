"""Reading one event recording, whatever format it is in, with tonic's readers where there are any.

    .bin             N-MNIST and N-Caltech101: 5 bytes an event
    .aedat           AEDAT 2.0 of a DVS128 camera (CIFAR10-DVS) or a DAVIS346
    .aedat4          AEDAT 4, with the package `aedat`
    .npy, .npz       arrays x, y, t and p: fields of one structured array, or members of the archive

Events are put in order of time (stably) where a file holds them in another: cameras send in packets, which
may overlap. tonic is imported on first use, since it takes seconds to.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.data.frames import Events
from tnacli.errors import DataError

RECORDING_SUFFIXES = frozenset({".bin", ".aedat", ".aedat4", ".npy", ".npz"})
DECODING = "events 1"
"""Names what reading and binning compute; to be raised when that changes, so that no old entry is used."""

# The DVS128's address word: bit 0 is 0 for brighter, bits 1-7 and 8-14 the coordinates; bits 15 and 31 mark
# words that are no pixel events (external triggers), bits 16-30 are unused.
_DVS128_SPECIAL = 0x80008000
_DVS128_UNUSED = 0x7FFF0000


class _UnreadableError(Exception):
    """What is wrong with a recording, told without its name."""


def needs_tonic(path: str) -> bool:
    """Whether tonic reads the recording at `path`; arrays are read without it."""
    return Path(path).suffix.lower() not in (".npy", ".npz")


def read_recording(path: str, sensor: tuple[int, int] | None) -> tuple[Events, tuple[int, int]]:
    """The events of the recording at `path`, and the camera's (height, width): `sensor`, or the file's.

    Raises DataError naming the file if it is damaged, empty, of an unknown kind, or has coordinates outside
    the camera; or if neither `sensor` nor the file says what camera it was.
    """
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".bin":
            raw, own_sensor = _bin(path), None
        elif suffix == ".aedat":
            raw, own_sensor = _aedat2(path)
        elif suffix == ".aedat4":
            raw, own_sensor = _aedat4(path), None
        else:
            raw, own_sensor = _arrays(path, suffix), None
        events = _checked(raw)
        return events, _within(events, sensor or own_sensor)
    except _UnreadableError as error:
        raise DataError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:
        # Readers meet damage in many ways (OSError, ValueError, AssertionError, UnboundLocalError, aedat's
        # own); whatever it was, the user needs the file's name, and the cause stays attached for a bug
        # report.
        raise DataError(f"{path} cannot be read ({error}). Replace it or take it out of the folder.") from error


def _bin(path: str) -> dict[str, NDArray[Any]]:
    from tonic.io import events_struct, read_mnist_file

    length = Path(path).stat().st_size
    if length % 5:
        raise _UnreadableError(f"cut short: {length:,} bytes are no whole number of 5-byte events. Get the file again.")
    return _fields(read_mnist_file(path, dtype=events_struct))


def _aedat2(path: str) -> tuple[dict[str, NDArray[Any]], tuple[int, int]]:
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    with open(path, "rb") as file:
        beginning = file.read(4096)
    if not beginning.startswith(b"#!AER-DAT2"):
        raise _UnreadableError(
            "not an AEDAT 2.0 recording: those begin with #!AER-DAT2.0. AEDAT 3 is not supported; AEDAT 4 "
            "has the suffix .aedat4."
        )
    version, start = read_aedat_header_from_file(path)[:2]
    length = Path(path).stat().st_size - start
    if length < 8:  # where nothing follows the header, tonic takes its last byte for the beginning of the events
        raise _UnreadableError("holds no events. Take it out of the folder.")
    if length % 8:
        raise _UnreadableError(
            f"cut short: {length:,} bytes after the header are no whole number of 8-byte events. Get the file again."
        )
    words = get_aer_events_from_file(path, version, start)
    address = words["address"].astype(np.int64)
    # Signed, as jAER writes it: a recording may begin before its zero.
    time = words["timeStamp"].astype(np.uint32).view(np.int32).astype(np.int64)
    if b"davis346" in beginning.lower():
        return _davis346(address, time), (260, 346)
    if (address & _DVS128_UNUSED).any():
        raise _UnreadableError(
            "not from a DVS128 camera, nor does its header name a DAVIS346; other cameras' AEDAT 2.0 is "
            "not supported. Save x, y, t and p as .npz."
        )
    pixel = (address & _DVS128_SPECIAL) == 0
    address, time = address[pixel], time[pixel]
    # CIFAR10-DVS was recorded with the camera on its side; with x and y in exchange and counted from the
    # other end its pictures are upright, and as SpikingJelly has them. (tonic's own read_dvs_128 raises on
    # every file in 1.7.0: it unpacks two of three values.)
    x, y = 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F)
    return {"x": x, "y": y, "t": time, "p": 1 - (address & 1)}, (128, 128)


def _davis346(address: NDArray[np.int64], time: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    # jAER's DAVIS word: bit 31 marks image sensor and motion samples, bit 10 external triggers.
    pixel = (address & 0x80000400) == 0
    address = address[pixel]
    return {
        "x": 345 - (address >> 12 & 0x3FF),
        "y": 259 - (address >> 22 & 0x1FF),
        "t": time[pixel],
        "p": address >> 11 & 1,
    }


def _aedat4(path: str) -> dict[str, NDArray[Any]]:
    from tonic.io import read_aedat4

    if importlib.util.find_spec("aedat") is None:
        raise _UnreadableError("reading .aedat4 needs one more package: `pip install aedat`.")
    return _fields(read_aedat4(path))


def _arrays(path: str, suffix: str) -> dict[str, NDArray[Any]]:
    loaded = np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with loaded:
            missing = [name for name in "xytp" if name not in loaded]
            if missing:
                raise _UnreadableError(f"has no array {', '.join(missing)}; it needs x, y, t and p.")
            return {name: loaded[name] for name in "xytp"}
    if loaded.dtype.names is None:
        raise _UnreadableError("a plain array; events are a structured array with the fields x, y, t and p.")
    return _fields(loaded)


def _fields(events: NDArray[Any]) -> dict[str, NDArray[Any]]:
    names = events.dtype.names or ()
    # The aedat package says "on" for polarity.
    aliases = {"x": "x", "y": "y", "t": "t", "p": "p" if "p" in names else "on"}
    missing = [name for name, alias in aliases.items() if alias not in names]
    if missing:
        raise _UnreadableError(f"no field {', '.join(missing)}; events need x, y, t and p.")
    return {name: events[alias] for name, alias in aliases.items()}


def _checked(raw: dict[str, NDArray[Any]]) -> Events:
    """Whole numbers, as many of each, at least one, polarities 0 and 1, in order of time."""
    lengths = {array.shape for array in raw.values()}
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        raise _UnreadableError("x, y, t and p must be lists of the same length.")
    if not len(raw["t"]):
        raise _UnreadableError("holds no events. Take it out of the folder.")
    integers = {}
    for name, array in raw.items():
        with np.errstate(invalid="ignore"):  # what is no number is told below
            integers[name] = array.astype(np.int64)
        if not np.array_equal(integers[name], array):
            raise _UnreadableError(f"{name} must be whole numbers (t in microseconds).")
    p = integers["p"]
    if not np.isin(p, (-1, 0, 1)).all():
        raise _UnreadableError("polarities must be 0 and 1, or -1 and 1.")
    integers["p"] = (p > 0).astype(np.int64)
    t = integers["t"]
    if (t[1:] < t[:-1]).any():
        order = np.argsort(t, kind="stable")
        integers = {name: array[order] for name, array in integers.items()}
    return Events(**integers)


def _within(events: Events, sensor: tuple[int, int] | None) -> tuple[int, int]:
    rows, columns = int(events.y.max()) + 1, int(events.x.max()) + 1
    if sensor is None:
        raise _UnreadableError(
            "the file does not say how large the camera's picture is. Say so: data.sensor: [height, width] "
            f"(this recording needs at least [{rows}, {columns}])."
        )
    if rows > sensor[0] or columns > sensor[1] or events.x.min() < 0 or events.y.min() < 0:
        raise _UnreadableError(
            f"events outside the camera's {sensor[0]}x{sensor[1]} pixels: rows {events.y.min()} to "
            f"{rows - 1}, columns {events.x.min()} to {columns - 1}. The file is damaged or from another "
            "camera."
        )
    return sensor
