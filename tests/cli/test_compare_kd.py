"""`tna compare-kd` over real runs of seconds."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from tests.cli.conftest import TINY_RECIPE, Tna
from tnacli.errors import UsageError
from tnacli.recipe.parse.load import load, plan
from tnacli.recipe.schema.objective import Distill, Twin
from tnacli.report.distillation import PAPER_ALPHAS, methods
from tnacli.runs.store import RunFolder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE.replace("seeds: [0]", "seeds: [0, 1]").replace("epochs: 3", "epochs: 2"))
    return path


def test_everything_is_trained_once_and_set_side_by_side(tna: Tna, recipe: Path, out: Path) -> None:
    common = ("compare-kd", recipe, "--out", out, "--alpha", "1e-2", "--alpha", "1e-4", "--json")
    first = tna(*common)
    assert first.code == 0, first.err
    schema = json.loads(files("tnacli.cli").joinpath("schemas", "compare_kd.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(first.json)
    for key, part in (("methods", "ComparedMethod"), ("differences", "Difference")):
        described = schema["$defs"][part]["properties"]
        assert all(row.keys() == described.keys() for row in first.json[key])
    rows = {(row["method"], row["alpha"]): row for row in first.json["methods"]}
    swept = [("KD + CE", 1e-2), ("KD + CE", 1e-4)]
    assert list(rows) == [("baseline", None), ("teacher", None), ("KD", 1.0), *swept, ("TNA", 1e-4)]
    folders = sorted(path.name for path in (out / "tiny").iterdir())
    assert len(folders) == 12  # six methods, two seeds: one teacher a seed, whatever the number of its pupils
    assert sum(name.startswith("teacher-seed100") for name in folders) == 2
    # What is printed is what the folders hold, and the difference is paired over seeds.
    stored = {
        name: [RunFolder(path).result.accuracy["base"] for path in sorted((out / "tiny").glob(f"{name}-seed*"))]  # type: ignore[index]
        for name in ("baseline", "tna", "kd")
    }
    assert rows["TNA", 1e-4]["accuracy"]["mean"] == pytest.approx(sum(stored["tna"]) / 2)
    gaps = [a - b for a, b in zip(stored["tna"], stored["baseline"], strict=True)]
    assert rows["TNA", 1e-4]["difference"]["mean"] == pytest.approx(sum(gaps) / 2)
    assert rows["baseline", None]["difference"] is None
    # A twin and a teacher are one more network of the same size; the baseline has none.
    parameters = {row["extra_parameters"] for key, row in rows.items() if key[0] in ("KD", "KD + CE", "TNA")}
    assert len(parameters) == 1
    assert parameters.pop() > 100
    assert rows["baseline", None]["extra_parameters"] == 0
    if Path("/proc/self/clear_refs").exists():
        # Python and torch hold some hundred MB, and networks of this size next to nothing.
        assert all(0 <= row["peak_beyond_start_mb"] < 200 for row in first.json["methods"])
    differences = {(row["first"], row["second"]): row for row in first.json["differences"]}
    assert differences["TNA", "KD"]["paper"] == 3.93
    assert differences["TNA", "KD"]["ours"]["mean"] == pytest.approx((sum(stored["tna"]) - sum(stored["kd"])) / 2)
    assert sum("best α, chosen on the test set" in row["notes"] for row in first.json["methods"]) == 1

    again = tna(*common)
    assert [row["accuracy"] for row in again.json["methods"]] == [row["accuracy"] for row in first.json["methods"]]
    assert again.err.count("finished before") == 12


def test_a_finished_baseline_and_teacher_are_reused(tna: Tna, recipe: Path, out: Path) -> None:
    assert tna("train", recipe, "--run", "baseline", "--seed", 0, "--out", out, "-q").code == 0
    done = tna(
        "compare-kd", recipe, "--seed", 0, "--alpha", "1e-3", "--out", out, "--match", "kl", "--temperature", "2"
    )
    assert done.code == 0, done.err
    assert done.err.count("finished before") == 1
    assert "TNA against knowledge distillation" in done.out


def test_what_hangs_on_a_diverged_run_says_so(tna: Tna, recipe: Path, out: Path) -> None:
    recipe.write_text(recipe.read_text().replace("baseline: {}", "baseline: {train: {learning_rate: 1e30}}"))
    found = tna("compare-kd", recipe, "--seed", 0, "--alpha", "1e-3", "--set", "train.epochs=1", "--out", out, "--json")
    assert found.code == 7
    rows = {row["method"]: row for row in found.json["methods"]}
    assert rows["baseline"]["notes"].startswith("seed 0 diverged")
    for method in ("KD", "KD + CE"):
        assert rows[method]["accuracy"] is None
        assert "its teacher diverged (teacher seed 1000)" in rows[method]["notes"]
    assert {row["run"] for row in found.json["diverged"]} == {"baseline", "teacher", "kd", "kd_ce_1e-3", "tna"}
    assert all("diverged" in row["notes"] for row in found.json["differences"])


def test_figure_3b_is_taken_as_it_stands() -> None:
    loaded = load("fig3b_cifar100_kd")
    found = {m.label: m for m in methods(loaded)}
    own = {run.name: run.identity for run in plan(loaded, seeds=[2])}
    shared = {run.name: run.identity for run in plan(load("fig3a_cifar100_kd_alpha"), seeds=[2])}

    def identity(label: str) -> str:
        (run,) = [run for run in found[label].runs if run.seed == 2]
        return run.identity

    assert identity("baseline") == own["baseline"]
    assert identity("KD") == own["kd"]
    assert identity("TNA, α 1e-4") == own["tna"]
    assert [identity(f"KD + CE, α 1e-{n}") for n in range(2, 7)] == list(shared.values())
    assert len(found["teacher"].runs) == 3


def test_one_matching_loss_for_all(recipe: Path) -> None:
    found = methods(load(recipe), match="kl", temperature=2.0, alphas=[0.5])
    objectives = [m.runs[0].settings.objective for m in found if m.kind not in ("baseline", "teacher")]
    assert len(objectives) == 3
    for objective in objectives:
        assert isinstance(objective, Twin | Distill)
        assert (objective.match, objective.temperature) == ("kl", 2.0)
    assert [m.alpha for m in methods(load(recipe)) if m.kind == "KD + CE"] == list(PAPER_ALPHAS)
    # Only full precision is compared: the recipe's only twin run is ternary, and its alpha is no business of this.
    (tna,) = [m for m in methods(load(recipe)) if m.kind == "TNA"]
    assert (tna.alpha, tna.runs[0].settings.compression) == (1e-4, None)


def test_without_a_baseline_there_is_nothing_to_compare() -> None:
    with pytest.raises(UsageError, match="has no baseline"):
        methods(load("fig2_cifar100_alpha"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--match", "cosine"], "mse or kl"),
        (["--temperature", "2"], "no effect without --match kl"),
        (["--alpha", "0"], "above 0"),
        (["--alpha", "nan"], "above 0"),
        (["--tna-alpha", "-1"], "above 0"),
        (["--alpha", "1e-3", "--alpha", "0.001"], "twice"),
    ],
)
def test_mistakes_are_explained(tna: Tna, recipe: Path, out: Path, arguments: list[str], said: str) -> None:
    refused = tna("compare-kd", recipe, "--out", out, *arguments)
    assert refused.code == 2
    assert said in refused.err
    assert not out.exists()
