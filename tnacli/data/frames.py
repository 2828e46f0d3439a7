"""From a recording's events to T frames of counts."""

from __future__ import annotations

import numpy as np

from tnacli.data.cache import Bytes
from tnacli.data.events import Events

SATURATION = 255
"""The largest count a frame can hold: frames are kept as bytes."""


def to_frames(events: Events, *, sensor: tuple[int, int], timesteps: int, size: tuple[int, int], binning: str) -> Bytes:
    """Count `events` in T frames of two polarities: uint8, [timesteps, 2, *size], darker first.

    With `binning` "count", event i of n falls into frame floor(i * T / n): every frame gets the same number
    of events but for one. That is the field's custom for CIFAR10-DVS, and the default, since no frame is left
    empty where little moves. With "time" the frames are equally long instead: of D microseconds, microsecond d
    falls into frame floor(d * T / D), exactly, for any D below 2^63. Coordinates are scaled from `sensor` to
    `size`, both (height, width), by floor(x * width / sensor width). A count stops at 255.
    """
    number = len(events.t)
    if binning == "count":
        frame = np.arange(number) * timesteps // max(number, 1)
    else:
        elapsed = events.t - events.t[:1]
        duration = int(elapsed[-1]) + 1 if number else 1
        # Frame f begins at the first whole microsecond from f * D / T on; d * T itself may exceed 64 bits.
        beginnings = [-(-f * duration // timesteps) for f in range(1, timesteps)]
        frame = np.searchsorted(np.array(beginnings, np.int64), elapsed, side="right")
    height, width = size
    rows = events.y * height // sensor[0]
    columns = events.x * width // sensor[1]
    cells = ((frame * 2 + events.p) * height + rows) * width + columns
    counts = np.bincount(cells, minlength=timesteps * 2 * height * width)
    return np.minimum(counts, SATURATION).astype(np.uint8).reshape(timesteps, 2, height, width)
