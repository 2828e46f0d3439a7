"""From a recording's events to T frames of counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnacli.data.cache import Bytes

Integers = NDArray[np.int64]

SATURATION = 255
"""The largest count a frame can hold: frames are kept as bytes."""


class Events(NamedTuple):
    """The events of one recording in order of time, each array int64, [n].

    `x` counts columns from the left and `y` rows from the top, `t` microseconds; `p` is 1 where it became
    brighter and 0 where darker.
    """

    x: Integers
    y: Integers
    t: Integers
    p: Integers


def to_frames(events: Events, *, sensor: tuple[int, int], timesteps: int, size: tuple[int, int], binning: str) -> Bytes:
    """Count `events` in T frames of two polarities: uint8, [timesteps, 2, *size], darker first.

    With `binning` "count", event i of n falls into frame floor(i * T / n): every frame gets the same number
    of events but for one. That is the field's custom for CIFAR10-DVS, and the default, since no frame is left
    empty where little moves. With "time" the frames are equally long instead. Coordinates are scaled from
    `sensor` to `size`, both (height, width), by floor(x * width / sensor width). A count stops at 255.
    """
    number = len(events.t)
    if binning == "count":
        frame = np.arange(number) * timesteps // max(number, 1)
    else:
        start = events.t[0] if number else 0
        duration = (events.t[-1] - start + 1) if number else 1
        frame = (events.t - start) * timesteps // duration
    height, width = size
    rows = events.y * height // sensor[0]
    columns = events.x * width // sensor[1]
    cells = ((frame * 2 + events.p) * height + rows) * width + columns
    counts = np.bincount(cells, minlength=timesteps * 2 * height * width)
    return np.minimum(counts, SATURATION).astype(np.uint8).reshape(timesteps, 2, height, width)
