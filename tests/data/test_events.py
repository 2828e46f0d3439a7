"""What is made of a recording's raw columns: order, clock, polarities, and events outside the camera."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tnacli.data.events import LONGEST_OVERLAP, Columns, UnreadableError, checked


def columns(t: object, *, p: object = 1, x: object = 0, y: object = 0) -> Columns:
    times = np.asarray(t)
    others = {name: np.broadcast_to(np.asarray(value), times.shape) for name, value in (("x", x), ("y", y), ("p", p))}
    return {"t": times, **others}


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, LONGEST_OVERLAP)), min_size=1, max_size=60))
def test_packets_that_overlap_are_put_in_order_and_equal_times_stay_as_they_came(rows: list[tuple[int, int]]) -> None:
    t = [begin + late for begin, late in sorted(rows)]
    number = list(range(len(t)))
    events, outside = checked(columns(t, x=number), (1, len(t)))
    assert list(zip(events.t.tolist(), events.x.tolist(), strict=True)) == sorted(zip(t, number, strict=True))
    assert outside == 0


def test_a_clock_that_begins_again_is_refused_and_the_event_named() -> None:
    t = [0, LONGEST_OVERLAP, 0, 5]
    assert checked(columns(t), (1, 1))[0].t.tolist() == [0, 0, 5, LONGEST_OVERLAP]
    message = r"goes back from 100,001 to 0 microseconds at event 3 of 4: it began again"
    with pytest.raises(UnreadableError, match=message):
        checked(columns([0, LONGEST_OVERLAP + 1, 0, 5]), (1, 1))
    slowly = np.arange(0, -2 * LONGEST_OVERLAP, -1000)  # each step within an overlap, and all of them not
    with pytest.raises(UnreadableError, match="at event 102 of 200"):
        checked(columns(slowly), (1, 1))
    with pytest.raises(UnreadableError, match=r"goes back from 1,600,000,000,000,000,001 to 0 .* at event 3 of 4"):
        checked(columns([16 * 10**17, 16 * 10**17 + 1, 0, 16 * 10**17 + 2]), (1, 1))


@pytest.mark.parametrize("kind", [np.uint32, np.int32, ">u4"])
@pytest.mark.parametrize("end", [1 << 31, 1 << 32])
def test_a_clock_of_32_bits_is_continued_past_its_end(kind: Any, end: int) -> None:
    """Also where packets overlap at the end, and where the clock passes it twice."""
    true = np.array([-70_000, -40, 10, -20, 30, 3 << 29, 6 << 29, (1 << 32) - 5, (1 << 32) + 10, (1 << 32) + 2]) + end
    clock: NDArray[np.uint32] = true.astype(np.uint64).astype(np.uint32)
    events, _ = checked(columns(clock.view(np.int32) if kind is np.int32 else clock.astype(kind)), (1, 1))
    assert np.diff(events.t).tolist() == np.diff(np.sort(true)).tolist()
    assert (events.t[0] - true[0]) % (1 << 32) == 0


def test_times_of_32_bits_in_order_stay_what_they_are() -> None:
    t = np.array([0, 3_000_000_000, 3_000_000_001], np.uint32)
    assert checked(columns(t), (1, 1))[0].t.tolist() == [0, 3_000_000_000, 3_000_000_001]


def test_a_span_beyond_64_bits_is_refused() -> None:
    t = np.array([-(1 << 63), (1 << 63) - 1])
    with pytest.raises(UnreadableError, match="no clock of 64 bits does"):
        checked(columns(t), (1, 1))
    assert len(checked(columns(t // 2), (1, 1))[0].t) == 2


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        ([0, 1], [0, 1]),
        ([-1, 1], [0, 1]),
        ([1, 1], [1, 1]),
        ([0, 0], [0, 0]),
        ([-1, -1], [0, 0]),
        ([True, False], [1, 0]),
        ([-1.0, 1.0], [0, 1]),
    ],
)
def test_polarities(given_: list[int], read: list[int]) -> None:
    assert checked(columns([1, 2], p=given_), (1, 1))[0].p.tolist() == read


@pytest.mark.parametrize("wrong", [[-1, 0, 1], [-1, 0, 0], [0, 1, 2], [1, 2, 1], [255, 0, 1]])
def test_polarities_that_are_no_pair(wrong: list[int]) -> None:
    shown = ", ".join(map(str, sorted(set(wrong))))
    with pytest.raises(UnreadableError, match=f"must be 0 and 1, or -1 and 1; here they are {shown}"):
        checked(columns([1, 2, 3], p=wrong), (1, 1))


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("wrong", [-1, 4, 60_000])
def test_one_event_in_a_thousand_may_be_outside(axis: str, wrong: int) -> None:
    place = np.zeros(1000, int)
    place[17] = wrong
    events, outside = checked(columns(np.arange(1000), x=place * (axis == "x"), y=place * (axis == "y")), (4, 4))
    assert outside == 1
    assert events.t.tolist() == [t for t in range(1000) if t != 17]
    with pytest.raises(UnreadableError, match="1 of 999 events are outside the camera's 4x4 pixels"):
        checked(columns(np.arange(999), x=place[:999] * (axis == "x"), y=place[:999] * (axis == "y")), (4, 4))


def test_an_event_outside_does_not_decide_about_the_clock() -> None:
    t, x = np.arange(2000) + 10**7, np.zeros(2000, int)
    t[1000], x[1000] = 0, 99
    assert checked(columns(t, x=x), (1, 1))[1] == 1
    # Nor about whether a clock of 32 bits has passed its end.
    t[1000], t[1001] = t[999] + (1 << 31) - 1, t[999] - 5
    events, outside = checked(columns(t.astype(np.uint32), x=x), (1, 1))
    assert (outside, events.t.tolist()) == (1, sorted(np.delete(t, 1000).tolist()))
