"""AEDAT 2.0, as jAER and v2e write it: lines of text, then big-endian address and time of each event, 4 bytes each.

The layout of addresses is the one in inivation's description of its file formats, and in jAER's classes of cameras.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tnacli.data.events import Columns, Integers, UnreadableError


class _Camera(NamedTuple):
    title: str
    chips: tuple[str, ...]  # how jAER's classes for it begin, in lower case
    size: tuple[int, int]  # height, width
    decode: Callable[[Integers], tuple[Columns, Integers]]  # addresses to x, y and p, and which words are pixels


def read_aedat2(path: str, sensor: tuple[int, int] | None) -> tuple[Columns, tuple[int, int]]:
    """The events at `path` as the camera saw them, upright, and the (height, width) of the camera.

    The camera is what the header's AEChip line says; without one, it is the camera whose size is `sensor`. Times
    are the camera's 32-bit clock. Raises UnreadableError for another format or camera, or a file that was cut.
    """
    content = Path(path).read_bytes()
    if not content.startswith(b"#!AER-DAT2"):
        raise UnreadableError(
            "not an AEDAT 2.0 recording: those begin with #!AER-DAT2.0. AEDAT 3 is not supported; AEDAT 4 "
            "has the suffix .aedat4."
        )
    header = _header(content)
    length = len(content) - len(header)
    if length < 8:
        raise UnreadableError("holds no events. Take it out of the folder.")
    if length % 8:
        raise UnreadableError(
            f"cut short: {length:,} bytes after the header are no whole number of 8-byte events. Get the file again."
        )
    camera = _camera(header, sensor)
    words = np.frombuffer(content, ">u4", offset=len(header)).reshape(-1, 2)
    columns, pixels = camera.decode(words[:, 0].astype(np.int64))
    # Signed, as jAER writes it: a recording may begin before its zero.
    columns["t"] = words[:, 1].astype(np.uint32).view(np.int32)
    return {name: column[pixels] for name, column in columns.items()}, camera.size


_END = re.compile(rb"^# ?End Of ASCII Header\r?\n", re.MULTILINE)
_LINES = re.compile(rb"(?:#[^\x00-\x08\x0a-\x1f\x7f]*\r?\n)+")
_CHIP = re.compile(rb"^#[ \t]*AEChip:[ \t]*([\w.$]+)", re.MULTILINE)


def _header(content: bytes) -> bytes:
    """What comes before the events: up to its end line, or, of files without one, all leading lines of text.

    A line of text has no control characters, so that a first event whose byte happens to be that of # is none.
    """
    end = _END.search(content) or _LINES.match(content)
    return content[: end.end()] if end else content


def _camera(header: bytes, sensor: tuple[int, int] | None) -> _Camera:
    sizes = " or ".join(f"{list(camera.size)} for a {camera.title}" for camera in _CAMERAS)
    found = _CHIP.search(header)
    if found is None:
        for camera in _CAMERAS:
            if camera.size == sensor:
                return camera
        raise UnreadableError(
            f"its header has no AEChip line, which says what camera it was. Say so: data.sensor: {sizes}; other "
            "cameras' AEDAT 2.0 is not supported. Save x, y, t and p as .npz."
        )
    chip = found[1].decode().rpartition(".")[2]
    for camera in _CAMERAS:
        if chip.lower().startswith(camera.chips):
            return camera
    titles = " and ".join(camera.title for camera in _CAMERAS)
    raise UnreadableError(
        f"from a camera that its AEChip line calls {chip}; AEDAT 2.0 is read of {titles}. Save x, y, t and p as .npz."
    )


def _dvs128(address: Integers) -> tuple[Columns, Integers]:
    # Bit 0 is 0 for brighter, bits 1-7 and 8-14 are the coordinates; bits 15 and 31 mark words that are no pixel
    # events (external triggers). Bits 16-30 are unused: they are read as part of the row, so that an address of
    # another camera lies outside.
    row = (address >> 8 & 0x7F) + ((address >> 16 & 0x7FFF) << 7)
    columns: Columns = {"x": 127 - (address >> 1 & 0x7F), "y": 127 - row, "p": 1 - (address & 1)}
    return columns, np.flatnonzero((address & 0x80008000) == 0)


def _davis346(address: Integers) -> tuple[Columns, Integers]:
    # Bit 31 marks image sensor and motion samples, bit 10 external triggers.
    columns: Columns = {
        "x": 345 - (address >> 12 & 0x3FF),
        "y": 259 - (address >> 22 & 0x1FF),
        "p": address >> 11 & 1,
    }
    return columns, np.flatnonzero((address & 0x80000400) == 0)


_CAMERAS = (
    _Camera("DVS128", ("dvs128", "tmpdiff128"), (128, 128), _dvs128),
    _Camera("DAVIS346", ("davis346",), (260, 346), _davis346),
)
