"""From events to frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnacli.data.events import Events
from tnacli.data.frames import to_frames

SENSOR = (12, 20)


@st.composite
def recordings(draw: st.DrawFn) -> Events:
    count = draw(st.integers(1, 80))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    begin, span = draw(st.sampled_from([(-50, 5000), (0, 1), (0, 16 * 10**17), (-(1 << 62), (1 << 63) - 1)]))
    t = np.sort(begin + rng.integers(0, draw(st.integers(1, span)), count))
    return Events(rng.integers(0, SENSOR[1], count), rng.integers(0, SENSOR[0], count), t, rng.integers(0, 2, count))


@given(
    recordings(),
    st.integers(1, 16),
    st.tuples(st.integers(1, SENSOR[0]), st.integers(1, SENSOR[1])),
    st.sampled_from(["count", "time"]),
)
def test_frames_equal_a_written_out_loop(events: Events, timesteps: int, size: tuple[int, int], binning: str) -> None:
    frames = to_frames(events, sensor=SENSOR, timesteps=timesteps, size=size, binning=binning)
    expected = np.zeros((timesteps, 2, *size), int)
    first, last = int(events.t[0]), int(events.t[-1])
    for index, (x, y, t, p) in enumerate(zip(*(array.tolist() for array in events), strict=True)):
        share, whole = (index, len(events.t)) if binning == "count" else (t - first, last - first + 1)
        frame = share * timesteps // whole
        expected[frame, p, y * size[0] // SENSOR[0], x * size[1] // SENSOR[1]] += 1
    np.testing.assert_array_equal(frames, expected)
    assert frames.dtype == np.uint8


@given(recordings(), st.integers(1, 9))
def test_equal_counts_differ_by_one_at_most(events: Events, timesteps: int) -> None:
    frames = to_frames(events, sensor=SENSOR, timesteps=timesteps, size=SENSOR, binning="count")
    totals = frames.sum(axis=(1, 2, 3), dtype=int)
    assert totals.sum() == len(events.t)
    assert totals.max() - totals.min() <= 1


@pytest.mark.parametrize("timesteps", range(1, 17))
def test_equal_times_over_an_absurd_span_are_exact(timesteps: int) -> None:
    """One glitch at 0 among stamps in nanoseconds: it has the first frame, the others are all in the last."""
    t = np.array([0, 16 * 10**17, 16 * 10**17 + 1, 16 * 10**17 + 2])
    nothing = np.zeros(4, np.int64)
    events = Events(nothing, nothing, t, nothing)
    frames = to_frames(events, sensor=(1, 1), timesteps=timesteps, size=(1, 1), binning="time")
    counts = [0] * timesteps
    counts[0] += 1
    counts[-1] += 3
    assert frames[:, 0, 0, 0].tolist() == counts


def test_counts_stop_at_255() -> None:
    many = np.zeros(1000, np.int64)
    frames = to_frames(Events(many, many, many, many), sensor=(1, 1), timesteps=1, size=(1, 1), binning="count")
    assert frames.ravel().tolist() == [255, 0]


@pytest.mark.parametrize("timesteps", [1, 3, 5])
def test_equal_times_are_tonics_time_windows(timesteps: int) -> None:
    """tonic's windows reach up to the last event, which it drops: it gets one event more, to be dropped."""
    from tonic.io import make_structured_array
    from tonic.transforms import ToFrame

    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 1500, 401))
    t[0], t[-2], t[-1] = 0, 1499, 1500
    x, y, p = rng.integers(0, 20, 401), rng.integers(0, 12, 401), rng.integers(0, 2, 401)
    peer = ToFrame(sensor_size=(20, 12, 2), n_time_bins=timesteps)(make_structured_array(x, y, t, p))
    events = Events(x[:-1], y[:-1], t[:-1], p[:-1])
    ours = to_frames(events, sensor=SENSOR, timesteps=timesteps, size=SENSOR, binning="time")
    np.testing.assert_array_equal(ours, peer)
