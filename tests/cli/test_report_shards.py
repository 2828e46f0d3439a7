"""Runs spread over machines: every run in one share, and a job-array script that a shell understands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.conftest import Tna
from tnacli.cli.shards import shard
from tnacli.errors import UsageError
from tnacli.recipe.identity import Run
from tnacli.recipe.parse.load import load, plan
from tnacli.training.branches import stem_of

# A seed's pupils have one teacher, and Table 2's five runs two stems.
PIECES = {"table2_cifar10": 10, "fig3a_cifar100_kd_alpha": 3, "fig3b_cifar100_kd": 9, "quickstart": 2}


@cache
def plans(recipe: str) -> tuple[Sequence[Run], Sequence[Run]]:
    """The runs of a recipe, as two machines plan them each by itself."""
    return plan(load(recipe)), plan(load(recipe))


@given(st.sampled_from(list(PIECES)), st.integers(1, 30))
def test_the_shares_are_all_runs_each_once(recipe: str, count: int) -> None:
    runs, planned_elsewhere = plans(recipe)
    pieces = PIECES[recipe]
    shares = [shard(runs, f"{number}/{count}") for number in range(1, min(count, pieces) + 1)]
    for number in range(pieces + 1, count + 1):
        with pytest.raises(UsageError, match="are empty"):
            shard(runs, f"{number}/{count}")
    assert sorted(run.folder_name for share in shares for run in share) == sorted(run.folder_name for run in runs)
    assert shard(runs, f"1/{count}") == shard(planned_elsewhere, f"1/{count}")
    # A teacher is trained in one place only.
    teachers = [{run.teacher.identity for run in share if run.teacher} for share in shares]
    assert sum(map(len, teachers)) == len(set().union(*teachers))
    # So is what several runs begin with: as a run of its own, and as the stem of compressed ones.
    begun = [{found[0].identity if (found := stem_of(run)) else run.identity for run in share} for share in shares]
    assert sum(map(len, begun)) == len(set().union(*begun))


def test_positions_take_turns() -> None:
    runs = plan(load("table1_cifar10"))
    assert shard(runs, "2/3") == runs[1::3]


def test_compressed_runs_stay_with_the_run_that_they_begin_with() -> None:
    runs = plan(load("table2_cifar10"), seeds=[0])
    assert [{run.name for run in shard(runs, f"{number}/2")} for number in (1, 2)] == [
        {"baseline", "b_snn", "t_snn"}, {"tna", "tna_t_snn"}
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "1/3/5", "-1/3", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 1/4"):
        shard(plan(load("quickstart")), text)


def test_a_share_is_planned_and_refused(tna: Tna) -> None:
    planned = tna("train", "table1_cifar10", "--shard", "1/5", "--dry-run", "--json").json
    assert [(run["run"], run["seed"]) for run in planned["runs"]] == [("baseline", 0), ("tna", 2)]
    assert tna("train", "quickstart", "--shard", "9/9").code == 2


def test_the_shares_of_a_sweep_are_all_its_runs_and_none_names_a_best_of_its_own(
    tna: Tna, recipe: Path, tmp_path: Path
) -> None:
    swept = ("train", recipe, "--run", "tna_t_snn*", "--set", "objective.alpha=[1e-1,1e-2,1e-3]", "--set",
             "data.validation_samples=20", "--set", "train.epochs=1", "--out", tmp_path / "runs", "--json")  # fmt: skip
    whole = tna(*swept, "--dry-run").json["runs"]
    shares = [tna(*swept, "--dry-run", "--shard", f"{number}/2").json["runs"] for number in (1, 2)]
    assert [len(share) for share in shares] == [2, 1]
    assert sorted(run["identity"] for share in shares for run in share) == sorted(run["identity"] for run in whole)
    first, second = (tna(*swept, "--shard", f"{number}/2") for number in (1, 2))
    assert "the best by validation is named when all values have all seeds" in first.err
    assert "best by validation: " not in first.err
    assert "best by validation: " in second.err  # where the first share lies below the same --out
    trained = {run["identity"]: run["validation"]["base"] for part in (first, second) for run in part.json["runs"]}
    assert f"({max(trained.values()):.2f} %, mean of 1 seed)" in second.err
