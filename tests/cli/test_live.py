"""The live view: what it says of each run and of all, at every width."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rich.console import Console

from tnacli.cli.console import Output
from tnacli.cli.live import Board, left_text
from tnacli.cli.progress import TrainingView
from tnacli.recipe.identity import Run
from tnacli.recipe.parse import load, plan
from tnacli.training import events as ev

RECIPE = """\
name: seen
seeds: [0]
data: {name: digits, train_samples: 120, test_samples: 60}
model: {layout: 4C3-AP2-6C3-AP2-12FC, timesteps: 3}
train: {epochs: 10, batch_size: 40}
runs:
  baseline: {}
  tna_with_quite_a_long_name: {objective: {kind: twin, alpha: 1e-2}}
  held_out: {data: {validation_samples: 20}}
"""


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, ...]:
    path = tmp_path / "seen.yaml"
    path.write_text(RECIPE)
    return plan(load(str(path)))


def started(epochs: int = 10, at: int = 0) -> ev.Started:
    return ev.Started(epochs, 4, 120, 700, "cpu", "fp32", at)


def epoch(number: int, measured_on: str, accuracy: float, **parts: float) -> ev.EpochDone:
    return ev.EpochDone(
        epoch=number, learning_rate=0.1, train_loss=9.0, train_parts=parts, train_accuracy={"base": 50.0},
        measured_on=measured_on, loss={"base": 1.0}, accuracy={"base": accuracy}, firing_rate={}, compressed=None, shares={},
        seconds=1.0, samples_per_second=100.0,
    )  # fmt: skip


def drawn(board: Board, width: int) -> list[str]:
    console = Console(width=width, height=30, color_system=None)
    with console.capture() as captured:
        console.print(board)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.fixture
def view(runs: tuple[Run, ...], monkeypatch: pytest.MonkeyPatch) -> TrainingView:
    """Two in training and one that waits."""
    monkeypatch.setattr(Output, "live", property(lambda output: True))
    view = TrainingView(Output(quiet=True), runs)
    view.emit(runs[1], started())
    view.emit(runs[1], epoch(3, "test", 81.5, cross_entropy=1.25, sibling_cross_entropy=1.5, matching=0.0123))
    view.emit(
        runs[1],
        ev.Progress(3, 2, 8.0, {"cross_entropy": 1.125, "sibling_cross_entropy": 1.5, "matching": 0.01}, 50, 321),
    )
    view.emit(runs[2], started())
    view.emit(runs[2], epoch(5, "validation", 77.5, cross_entropy=0.5))
    return view


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_it_fits_and_says_what_each_number_is(view: TrainingView, width: int) -> None:
    lines = drawn(view._board, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 5, "one line a run, one for the head, one for all"
    head, waiting, twin, held_out, everything = lines
    for name in ("run", "seed", "epoch", "base loss", "besides", "validation %", "test %", "time"):
        assert name in head or (width == 80 and name == "besides")
    assert waiting.split()[-1] == "waiting"
    assert "4/10" in twin
    assert "1.12" in twin, "the base's loss, not the sum"
    assert " 8 " not in twin
    assert ("sibling 1.5 match 0.01" in twin) == ("besides" in head)
    assert head.index("test %") <= twin.index("81.50") < head.index("test %") + 6
    assert head.index("validation %") + 6 <= held_out.index("77.50") < head.index("validation %") + 12
    assert twin.startswith("tna_with_quite_a_long_name" if width == 160 else "tna_wit…ng_name")
    assert ("321" in twin) == ("samples/s" in head) == (width >= 120)
    assert everything.startswith("all runs 0 of 3 ended")


def test_the_result_is_of_the_test_set(view: TrainingView, runs: tuple[Run, ...]) -> None:
    view.emit(runs[2], ev.Finished({"base": 70.25}, {"base": 1.0}, 10, "last", None, 125.0, 1.0))
    head, *_, held_out, everything = drawn(view._board, 120)
    assert head.index("test %") <= held_out.index("70.25") < head.index("test %") + 6
    assert held_out.endswith("2:05 min")
    assert "77.50" in held_out
    assert everything.startswith("all runs 1 of 3 ended")


def test_time_left_is_that_of_all_runs(runs: tuple[Run, ...]) -> None:
    """Equal work: one done in 10 s and another halfway in 5 s more leave half a run and the third."""
    same = [Run("seen", "a", seed, runs[0].settings) for seed in range(3)]
    board, now = Board(same), time.monotonic()
    first, second = board.row(same[0]), board.row(same[1])
    first.begin(10, 4, 0)
    first.status, first.epoch, first.began = "done", 10, now - 15
    second.begin(10, 4, 0)
    second.epoch, second.began = 5, now - 5
    assert board.progress(now) == (pytest.approx(0.5), pytest.approx(15.0))
    assert second.left(now) == pytest.approx(5.0)
    assert Board(same, [same[0].identity, same[1].identity]).progress(now) == (pytest.approx(2 / 3), None)
    # One that goes on from epoch 8 is not taken for a fast one.
    third = board.row(same[2])
    third.begin(10, 4, 8)
    third.epoch, third.began = 9, now - 4
    assert third.left(now) == pytest.approx(4.0)


def test_a_compressed_run_begins_where_its_stem_ends(tmp_path: Path) -> None:
    path = tmp_path / "seen.yaml"
    path.write_text(RECIPE + "  ternary: {compression: {mode: ternary, start: 6}}\n")
    baseline, *_, ternary = plan(load(str(path)))
    assert Board([baseline, ternary]).row(ternary).coming == pytest.approx(0.4)
    assert Board([ternary]).row(ternary).coming == 1.0


def test_of_many_runs_those_in_training_are_seen(runs: tuple[Run, ...]) -> None:
    many = [Run("seen", f"run{number}", number, runs[0].settings) for number in range(60)]
    board = Board(many)
    for number in range(30):
        board.row(many[number]).status = "done"
    board.row(many[59]).begin(10, 4, 0)
    board.row(many[30]).begin(10, 4, 0)
    lines = drawn(board, 100)
    assert len(lines) <= 30
    seen = [line.split()[0] for line in lines]
    assert {"run29", "run30", "run31", "run59"} <= set(seen)
    assert lines[-1].startswith("all runs 30 of 60 ended")


def test_time_left_in_words() -> None:
    assert [left_text(seconds) for seconds in (0.2, 59.4, 59.9, 3700)] == [
        "0 s left", "59 s left", "1:00 min left", "1:01:40 h left",
    ]  # fmt: skip
