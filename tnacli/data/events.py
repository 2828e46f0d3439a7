"""What a recording's events must be before they are counted: whole numbers, in order of time, within the camera."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]
"""x, y, t and p of each event as a file has them, [n]."""

LONGEST_OVERLAP = 100_000
"""Microseconds by which an event may come after a later one: cameras send in packets, which overlap by less."""

ONE_OUTSIDE_IN = 1000
"""A recording may have one event in so many outside its camera: transmission errors. More is another camera."""


class UnreadableError(Exception):
    """What is wrong with a recording, without the recording's name."""


class Events(NamedTuple):
    """The events of one recording in order of time, each array int64, [n].

    `x` counts columns from the left and `y` rows from the top, `t` microseconds; `p` is 1 where it became
    brighter and 0 where darker.
    """

    x: Integers
    y: Integers
    t: Integers
    p: Integers


def checked(columns: Columns, sensor: tuple[int, int] | None) -> tuple[Events, int]:
    """The events within `sensor`, (height, width), in order of time, and how many lay outside.

    A clock of 32 bits that passes its end is continued, not taken for one that goes back. Raises UnreadableError
    without events or sensor, with numbers that are not whole, with polarities other than 0 and 1 or -1 and 1,
    with more events outside than one in ONE_OUTSIDE_IN, or with a clock that begins again.
    """
    lengths = {array.shape for array in columns.values()}
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        raise UnreadableError("x, y, t and p must be lists of the same length.")
    if not len(columns["t"]):
        raise UnreadableError("holds no events. Take it out of the folder.")
    whole = {name: _whole(name, array) for name, array in columns.items()}
    polarities = set(np.unique(whole["p"]).tolist())
    if not (polarities <= {0, 1} or polarities <= {-1, 1}):
        shown = ", ".join(map(str, sorted(polarities)[:4]))
        raise UnreadableError(f"polarities must be 0 and 1, or -1 and 1; here they are {shown}.")
    whole["p"] = (whole["p"] > 0).astype(np.int64)
    inside = _inside(whole, sensor)
    t = _continued(columns["t"][inside])
    _refuse_a_second_start(t)
    order = np.argsort(t, kind="stable")
    x, y, p = (whole[name][inside][order] for name in "xyp")
    return Events(x, y, t[order], p), int((~inside).sum())


def _whole(name: str, array: NDArray[Any]) -> Integers:
    with np.errstate(invalid="ignore"):  # what is not a number is refused below
        integers = array.astype(np.int64)
    if not np.array_equal(integers, array):
        raise UnreadableError(f"{name} must be whole numbers (t in microseconds).")
    return integers


def _inside(events: dict[str, Integers], sensor: tuple[int, int] | None) -> NDArray[np.bool_]:
    """Which events lie within `sensor`: bool, [n]."""
    x, y = events["x"], events["y"]
    if sensor is None:
        raise UnreadableError(
            "the file does not say how large the camera's picture is. Say so: data.sensor: [height, width] "
            f"(this recording needs at least [{y.max() + 1}, {x.max() + 1}]), or --sensor of `tna data prepare`."
        )
    height, width = sensor
    inside: NDArray[np.bool_] = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    outside = int((~inside).sum())
    if outside * ONE_OUTSIDE_IN > len(inside):
        raise UnreadableError(
            f"{outside:,} of {len(inside):,} events are outside the camera's {height}x{width} pixels: rows {y.min()} "
            f"to {y.max()}, columns {x.min()} to {x.max()}. The file is damaged or from another camera (one event in "
            f"{ONE_OUTSIDE_IN:,} may be outside, and is left out)."
        )
    return inside


def _continued(clock: NDArray[Any]) -> Integers:
    """`clock` as int64, [n]; one of 32 bits that goes back is taken to have passed its end at steps over 2^31."""
    t = clock.astype(np.int64)
    if clock.dtype.kind not in "iu" or clock.dtype.itemsize != 4 or not (t[1:] < t[:-1]).any():
        return t
    steps = np.diff(clock.astype(np.uint32)).view(np.int32)  # differences wrap as the clock does
    t[1:] = t[0] + np.cumsum(steps, dtype=np.int64)
    return t


def _refuse_a_second_start(t: Integers) -> None:
    """Raise UnreadableError where `t`, in order of arrival, goes back by more than LONGEST_OVERLAP."""
    if int(t.max()) - int(t.min()) >= 2**63:
        raise UnreadableError(f"t runs from {t.min()} to {t.max()}, which no clock of 64 bits does.")
    latest = np.maximum.accumulate(t)
    late = latest - t > LONGEST_OVERLAP
    if late.any():
        event = int(late.argmax())
        raise UnreadableError(
            f"its clock goes back from {latest[event]:,} to {t[event]:,} microseconds at event {event + 1:,} of "
            f"{len(t):,}: it began again, or events of several recordings stand one after another (packets of one "
            f"overlap by {LONGEST_OVERLAP:,} at most). Cut the recording there, or save its events in order of time "
            "as .npz."
        )
