"""Reading one event recording, whatever format it is in.

    .bin             N-MNIST and N-Caltech101: 5 bytes an event, with tonic's reader
    .aedat           AEDAT 2.0 of a DVS128 camera (CIFAR10-DVS) or a DAVIS346
    .aedat4          AEDAT 4, with the package `aedat`
    .npy, .npz       arrays x, y, t and p: fields of one structured array, or members of the archive

Events are put in order of time (stably) where a file holds them in another: cameras send in packets, which
may overlap. tonic is imported on first use, since it takes seconds to.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnacli.data.aedat2 import read_aedat2
from tnacli.data.events import Columns, Events, UnreadableError, checked
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.schema.data import Data

RECORDING_SUFFIXES = frozenset({".bin", ".aedat", ".aedat4", ".npy", ".npz"})
DECODING = "events 2"
"""Names what reading and binning compute; to be raised when that changes, so that no old entry is used."""


class Recording(NamedTuple):
    """One recording: its events, the camera's (height, width), and how many events outside it were left out."""

    events: Events
    sensor: tuple[int, int]
    outside: int


def needs_tonic(path: str) -> bool:
    """Whether tonic reads the recording at `path`."""
    return Path(path).suffix.lower() == ".bin"


def read_recording(path: str, sensor: tuple[int, int] | None, *, on_its_side: bool = False) -> Recording:
    """The recording at `path`, of a camera of `sensor`, (height, width), or of what the file says.

    AEDAT 2.0 of a camera that lay `on_its_side` is turned upright: x and y are exchanged.

    Raises DataError naming the file if it is damaged, empty, of an unknown kind, of a camera other than
    `sensor`, or has events that `tnacli.data.events.checked` refuses; or if neither `sensor` nor the file says
    what camera it was.
    """
    suffix = Path(path).suffix.lower()
    own_sensor: tuple[int, int] | None = None
    try:
        if suffix == ".bin":
            columns = _bin(path)
        elif suffix == ".aedat":
            columns, own_sensor = read_aedat2(path, sensor)
        elif suffix == ".aedat4":
            columns, own_sensor = _aedat4(path)
        else:
            columns = _arrays(path, suffix)
        if sensor and own_sensor and sensor != own_sensor:
            raise UnreadableError(
                f"says that its camera has {own_sensor[0]}x{own_sensor[1]} pixels, and the data set is one of "
                f"{sensor[0]}x{sensor[1]} (data.sensor, or what its first recording says). Keep recordings of "
                "different cameras apart."
            )
        used = sensor or own_sensor
        events, outside = checked(columns, used)
        assert used is not None  # else it was refused
        if on_its_side and suffix == ".aedat":
            events = events._replace(x=events.y, y=events.x)
        return Recording(events, used, outside)
    except UnreadableError as error:
        raise DataError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:
        # Readers meet damage in many ways (OSError, ValueError, AssertionError, UnboundLocalError, aedat's
        # own); whatever it was, the user needs the file's name, and the cause stays attached for a bug
        # report.
        raise DataError(f"{path} cannot be read ({error}). Replace it or take it out of the folder.") from error


def frame_size(data: Data, first: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the camera of the recordings that `data` describes, and of the frames that are made of them.

    One camera made all recordings: what the `first` one says, or does not say, stands for all. Raises DataError where it does
    not say it, and where frames would be larger.
    """
    spec = DATASETS[data.name]
    sensor = data.sensor or spec.camera or read_recording(first, None).sensor
    size = data.size or spec.size or sensor
    if size[0] > sensor[0] or size[1] > sensor[1]:
        raise DataError(
            f"data.size {list(size)} is larger than the camera's {list(sensor)}: events can only be brought "
            "closer together."
        )
    return sensor, size


def _bin(path: str) -> Columns:
    from tonic.io import events_struct, read_mnist_file

    length = Path(path).stat().st_size
    if length % 5:
        raise UnreadableError(f"cut short: {length:,} bytes are no whole number of 5-byte events. Get the file again.")
    return _fields(read_mnist_file(path, dtype=events_struct))


def _aedat4(path: str) -> tuple[Columns, tuple[int, int]]:
    """The events of the first stream of events, and the size that the file gives it."""
    if importlib.util.find_spec("aedat") is None:
        raise UnreadableError("reading .aedat4 needs one more package: `pip install aedat`.")
    import aedat

    decoder = aedat.Decoder(path)
    streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    if not streams:
        raise UnreadableError("holds no events. Take it out of the folder.")
    first = min(streams)
    packets = [packet["events"] for packet in decoder if packet["stream_id"] == first]
    if not packets:
        raise UnreadableError("holds no events. Take it out of the folder.")
    return _fields(np.concatenate(packets)), (int(streams[first]["height"]), int(streams[first]["width"]))


def _arrays(path: str, suffix: str) -> Columns:
    loaded = np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with loaded:
            missing = [name for name in "xytp" if name not in loaded]
            if missing:
                raise UnreadableError(f"has no array {', '.join(missing)}; it needs x, y, t and p.")
            return {name: loaded[name] for name in "xytp"}
    if loaded.dtype.names is None:
        raise UnreadableError("a plain array; events are a structured array with the fields x, y, t and p.")
    return _fields(loaded)


def _fields(events: NDArray[Any]) -> Columns:
    names = events.dtype.names or ()
    # The aedat package says "on" for polarity.
    aliases = {"x": "x", "y": "y", "t": "t", "p": "p" if "p" in names else "on"}
    missing = [name for name, alias in aliases.items() if alias not in names]
    if missing:
        raise UnreadableError(f"no field {', '.join(missing)}; events need x, y, t and p.")
    return {name: events[alias] for name, alias in aliases.items()}
