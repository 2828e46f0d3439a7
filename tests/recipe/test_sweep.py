"""Several values where the schema takes one make a run each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tnacli.errors import RecipeError, UsageError
from tnacli.recipe.parse.load import Loaded, load, plan

Load = Callable[..., Loaded]
TWO = "runs: {baseline: , tna: {objective: {kind: twin, alpha: 1}}}\n"


def test_values_make_runs_and_keys_their_product(load_text: Load) -> None:
    loaded = load_text(TWO, "objective.alpha=[1e-2,1e-6]", "runs.tna.train.epochs=[3,4]")
    assert list(loaded.recipe.runs) == [
        "baseline", "tna[alpha=0.01,epochs=3]", "tna[alpha=0.01,epochs=4]", "tna[alpha=1e-6,epochs=3]",
        "tna[alpha=1e-6,epochs=4]",
    ]  # fmt: skip
    last = loaded.recipe.runs["tna[alpha=1e-6,epochs=4]"]
    assert (last.objective.alpha, last.train.epochs) == (1e-6, 4)  # type: ignore[union-attr]
    (sweep,) = loaded.sweeps
    assert (sweep.name, sweep.keys) == ("tna", ("objective.alpha", "train.epochs"))
    assert sweep.points["tna[alpha=1e-6,epochs=4]"] == (1e-6, 4)
    in_file = load_text("runs: {tna: {objective: {kind: twin, alpha: [1e-2, 1e-3]}}}\n")
    alone = load_text("runs: {tna: {objective: {kind: twin, alpha: 1e-3}}}\n")
    assert plan(in_file)[1].identity == plan(alone)[0].identity
    assert plan(in_file)[1].folder_name.startswith("tna-alpha-0.001-seed0-")


def test_what_takes_a_list_is_swept_by_lists_of_lists(load_text: Load) -> None:
    runs = load_text(
        "data: {name: cifar10}\nruns: {a: }\n", "data.size=[[16,16],[8,8]]", "model.layout=8FC"
    ).recipe.runs
    assert {name: run.data.size for name, run in runs.items()} == {"a[size=16x16]": (16, 16), "a[size=8x8]": (8, 8)}
    one = load_text("data: {name: cifar10}\nruns: {a: }\n", "data.size=[16,16]", "model.layout=8FC").recipe.runs
    assert one["a"].data.size == (16, 16)
    args = load_text("runs: {a: {model: {build: 'm:f', args: {x: [1, 2]}}}}\n").recipe.runs
    assert args["a"].model.args == {"x": [1, 2]}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "objective.alpha=[1, 1.0]",
            "--set: objective.alpha: holds 1 twice; each value makes a run, so give each once",
        ),
        ("objective.alpha=[]", "--set: objective.alpha: holds no values; give one, or several for a run each"),
        ("runtime.threads=[1, 2]", "runtime changes nothing of the result"),
        ("objective.alhpa=[1, 2]", "unknown key"),
        ("objective.alpha=[1, x]", "must be a number (above 0), not 'x' (in run tna[alpha=x])"),
    ],
)
def test_what_is_no_sweep(load_text: Load, override: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_text(TWO, override)
    assert says in str(caught.value)


def test_runs_of_a_sweep_are_picked_by_its_name_and_by_patterns(load_text: Load) -> None:
    loaded = load_text(TWO, "objective.alpha=[1, 2]")
    assert [run.name for run in plan(loaded, runs=["tna"])] == ["tna[alpha=1]", "tna[alpha=2]"]
    assert [run.name for run in plan(loaded, runs=["*=2]"])] == ["tna[alpha=2]"]
    assert [run.name for run in plan(loaded, runs=["tna[alpha=1]"])] == ["tna[alpha=1]"]
    with pytest.raises(UsageError, match="has no run 'tan'"):
        plan(loaded, runs=["tan"])


def test_what_the_paper_says_of_a_run_is_not_said_of_its_sweep() -> None:
    loaded = load("table1_cifar10", overrides=["objective.alpha=[1e-2,1e-3]"])
    assert loaded.recipe.reproduces.accuracy == {"baseline": 93.57}
    assert loaded.recipe.reproduces.effects == ()
