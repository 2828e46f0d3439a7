"""A second `tna train` of the same recipe trains what is free, and ends with 75 only for what stays busy."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Tna
from tnacli.cli.running import train_in_turn
from tnacli.cli.trained import Done, Ending
from tnacli.experiment import Experiment
from tnacli.recipe.identity import Run
from tnacli.recipe.parse import load, plan
from tnacli.runs.store import RunFolder


def planned(recipe: Path) -> tuple[Run, ...]:
    return plan(load(str(recipe), overrides=["train.epochs=1"]))


def test_what_is_free_is_trained_beside_what_is_busy(tna: Tna, recipe: Path, out: Path) -> None:
    arguments = ("train", recipe, "--out", out, "--set", "train.epochs=1", "--json")
    with RunFolder.of(out, planned(recipe)[0]).locked():
        done = tna(*arguments)
    assert done.code == 75
    assert [run["run"] for run in done.json["runs"]] == ["tna_t_snn"]
    assert done.json["error"]["kind"] == "RunBusyError"
    assert "1 of 2 runs are being trained by another process: baseline seed 0;" in done.json["error"]["message"]
    again = tna(*arguments)
    assert (again.code, [(run["run"], run["trained"]) for run in again.json["runs"]]) == (
        0, [("baseline", True), ("tna_t_snn", False)],
    )  # fmt: skip


def test_what_becomes_free_meanwhile_is_trained_after_the_others(recipe: Path, out: Path) -> None:
    runs = planned(recipe)
    busy = RunFolder.of(out, runs[0]).locked()
    busy.__enter__()
    begun: list[str] = []
    ended: list[Ending] = []

    def begin(run: Run) -> None:
        begun.append(run.name)
        if run is runs[1]:
            busy.__exit__(None, None, None)

    train_in_turn(Experiment(out), runs, fresh=False, export=False, begin=begin, end=ended.append)
    assert begun == ["baseline", "tna_t_snn", "baseline"]
    assert [(type(one), one.run.name) for one in ended] == [(Done, "tna_t_snn"), (Done, "baseline")]


def test_with_fresh_nobody_trains_anew_what_another_has_just_finished(tna: Tna, recipe: Path, out: Path) -> None:
    first = planned(recipe)[0]
    with RunFolder.of(out, first).locked():
        done = tna("train", recipe, "--out", out, "--set", "train.epochs=1", "--fresh", "-v")
    assert done.code == 75
    assert done.err.count("run 1 of 2") == 1
