"""`tna compare` and the differences of `tna report`: any runs, over the seeds that they share."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy.stats import ttest_1samp

from tests.cli.conftest import TINY_RECIPE, Tna, loaded_by
from tests.cli.conftest import recipe as recipe
from tests.cli.conftest import shell as shell
from tests.cli.conftest import tna as tna
from tests.cli.test_contract import check, terminal
from tests.report.conftest import Finish
from tnacli.recipe.parse.load import load, plan
from tnacli.report.cells import cell_of_folder
from tnacli.report.settings import compared, settings_table
from tnacli.runs.ledger import record
from tnacli.runs.store import RunFolder

BASELINE = {0: 50.0, 1: 52.0, 2: 51.0, 3: 60.0}
TNA = {1: 53.0, 2: 53.0, 3: 60.5, 4: 90.0}
SHARED = [1.0, 2.0, 0.5]


def finished(finish: Finish, recipe: Path, accuracies: Mapping[str, Mapping[int, float]], **how: Any) -> None:
    """Store runs of the tiny recipe that came to `accuracies`, by run and seed."""
    loaded = load(recipe)
    for name, by_seed in accuracies.items():
        for run in plan(loaded, runs=[name], seeds=list(by_seed)):
            finish(run, by_seed[run.seed], **how)


def of_run(out: Path, name: str) -> list[Path]:
    return sorted((out / "tiny").glob(f"{name}-seed*"))


def test_folders_are_paired_over_the_seeds_that_they_share(tna: Tna, out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA})
    document = tna("compare", *of_run(out, "baseline"), *of_run(out, "tna_t_snn"), "--json").json
    check("compare", document)
    assert document["against"] == "baseline"
    assert [(run["run"], run["seeds"]) for run in document["runs"]] == [
        ("baseline", [0, 1, 2, 3]), ("tna_t_snn", [1, 2, 3, 4]),
    ]  # fmt: skip
    (found,) = document["differences"]
    expected = ttest_1samp(SHARED, 0)
    low, high = expected.confidence_interval(0.95)
    assert (found["run"], found["minus"], found["seeds"]) == ("tna_t_snn", "baseline", 3)
    assert found["difference"] == pytest.approx({"mean": fmean(SHARED), "std": stdev(SHARED), "count": 3})
    assert found["interval"] == pytest.approx({"low": low, "high": high})
    assert found["p_t"] == pytest.approx(expected.pvalue)
    assert found["p_signs"] == 2 / 2**3
    assert found["p_holm"] == found["p_t"]


def test_against_turns_a_difference_round(tna: Tna, out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA})
    for named in ("tna_t_snn", "tiny:tna_t_snn", of_run(out, "tna_t_snn")[0]):
        document = tna("compare", recipe, "--out", out, "--against", named, "--seed", 1, "--seed", 2, "--json").json
        (found,) = document["differences"]
        assert (found["run"], found["minus"]) == ("baseline", "tna_t_snn")
        assert found["difference"]["mean"] == pytest.approx(-1.5)
    missing = tna("compare", recipe, "--out", out, "--against", "tan")
    assert missing.code == 2
    assert "--against tan: the comparison has no such run; it has baseline, tna_t_snn" in missing.err


def test_p_is_corrected_for_the_differences_shown(tna: Tna, tmp_path: Path, out: Path, finish: Finish) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE + "  t_snn: {compression: {mode: ternary}}\n  never: {train: {epochs: 9}}\n")
    finished(finish, path, {"baseline": BASELINE, "tna_t_snn": TNA, "t_snn": {0: 48.0, 1: 51.5, 2: 49.0, 3: 57.0}})
    found = {one["run"]: one for one in tna("compare", path, "--out", out, *seeds(4), "--json").json["differences"]}
    p = sorted(one["p_t"] for one in found.values() if one["p_t"] is not None)
    assert len(p) == 2
    assert sorted(one["p_holm"] for one in found.values() if one["p_t"] is not None) == pytest.approx(
        sorted([2 * p[0], max(2 * p[0], p[1])])
    )
    assert (found["never"]["difference"], found["never"]["p_holm"]) == (None, None)
    assert "not finished" in found["never"]["notes"]


def seeds(count: int) -> list[object]:
    return [word for seed in range(count) for word in ("--seed", seed)]


@pytest.mark.parametrize(
    ("how", "why"), [({"fingerprint": "1"}, "learned from other data than"), ({"precision": "bf16"}, "trained in bf16")]
)
def test_results_of_other_data_or_precision_are_not_subtracted(
    tna: Tna, out: Path, recipe: Path, finish: Finish, how: dict[str, Any], why: str
) -> None:
    finished(finish, recipe, {"baseline": {0: 50.0, 1: 51.0}})
    finished(finish, recipe, {"tna_t_snn": {0: 60.0, 1: 61.0}}, **how)
    (found,) = tna("compare", recipe, "--out", out, *seeds(2), "--json").json["differences"]
    assert (found["difference"], found["seeds"]) == (None, 0)
    assert why in found["notes"]


def test_runs_without_a_seed_in_common_say_so(tna: Tna, out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": {0: 50.0}, "tna_t_snn": {1: 60.0}})
    (found,) = tna("compare", *of_run(out, "baseline"), *of_run(out, "tna_t_snn"), "--json").json["differences"]
    assert (found["difference"], found["notes"]) == (None, "no seed finished in both")


def test_one_seed_has_a_difference_and_no_p(tna: Tna, out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": {0: 50.0}, "tna_t_snn": {0: 60.0}})
    shown = tna("compare", "tiny.yaml:baseline", f"{recipe}:tna_t_snn", "--out", out)
    assert shown.code == 3, "a recipe is looked up where it is said to be"
    shown = tna("compare", f"{recipe}:baseline", f"{recipe}:tna_t_snn", "--out", out)
    assert shown.code == 0
    assert "+10.00" in shown.out
    assert " p (" not in shown.out
    assert "p is two-sided" not in shown.err


def test_runs_of_one_name_are_told_apart_and_others_keep_theirs(
    tna: Tna, out: Path, recipe: Path, finish: Finish
) -> None:
    finished(finish, recipe, {"baseline": {0: 50.0}, "tna_t_snn": {0: 55.0}})
    for run in plan(load(recipe, overrides=["train.epochs=5"]), runs=["baseline"]):
        finish(run, 60.0)
    document = tna("compare", out / "tiny", "--json").json
    assert [run["run"] for run in document["runs"]] == [
        "tiny:baseline (as it is)", "tiny:baseline (set train.epochs=5)", "tna_t_snn",
    ] or [run["run"] for run in document["runs"]] == [
        "tiny:baseline (set train.epochs=5)", "tiny:baseline (as it is)", "tna_t_snn",
    ]  # fmt: skip
    assert document["other_settings"]["train.epochs"] == {
        "tiny:baseline (as it is)": 3, "tiny:baseline (set train.epochs=5)": 5, "tna_t_snn": 3,
    }  # fmt: skip


def test_a_ledger_alone_and_failed_starts(tna: Tna, tmp_path: Path, out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA})
    ledger = tmp_path / "ledger.jsonl"
    record([RunFolder(path) for path in (out / "tiny").iterdir()], ledger)
    from_ledger = tna("compare", "--ledger", ledger, "--json")
    failed = out / "tiny" / "baseline-seed9-0123456789"
    failed.mkdir()
    from_folders = tna("compare", failed, *of_run(out, "baseline")[:4], *of_run(out, "tna_t_snn"), "--json")
    assert from_ledger.json == from_folders.json
    assert f"{failed}: its training never began; left out" in from_folders.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "name the runs to compare"),
        (["RECIPE:baseline"], 2, "a comparison takes two runs or more; here is tiny:baseline"),
        (["RECIPE:tan", "RECIPE"], 2, "tiny has no run 'tan'; runs: baseline, tna_t_snn"),
        (["nowhere"], 3, "recipe 'nowhere' not found"),
        (["RECIPE", "--format", "html"], 2, "--format is one of"),
        (["RECIPE", "-o", "x.doc"], 2, "known: .png, .svg, .pdf, .md, .csv, .tex, .json"),
        (["FOLDERS", "--set", "train.epochs=3"], 2, "run folders have settings and seeds of their own"),
    ],
)
def test_mistakes_are_explained(
    tna: Tna, out: Path, recipe: Path, finish: Finish, arguments: list[str], code: int, said: str
) -> None:
    finished(finish, recipe, {"baseline": {0: 50.0}, "tna_t_snn": {0: 60.0}})
    named = [word.replace("RECIPE", str(recipe)).replace("FOLDERS", str(out / "tiny")) for word in arguments]
    refused = tna("compare", *named, "--out", out)
    assert (refused.code, refused.out) == (code, "")
    assert said in refused.err


def test_files(tna: Tna, out: Path, recipe: Path, finish: Finish, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA})
    common = ("compare", recipe, "--out", out, *seeds(4), "-o")
    for name, has in [("a.png", b"\x89PNG"), ("a.svg", b"TNA, ternary"), ("a.md", b"| tna_t_snn | +1.17"),
                      ("a.tex", b"\\begin{table}"), ("a.json", b'"against": "baseline"')]:  # fmt: skip
        done = tna(*common, tmp_path / name)
        assert (done.code, done.out) == (0, ""), done.err
        assert has in (tmp_path / name).read_bytes()
        assert f"wrote {tmp_path / name}" in done.err


def test_in_a_pipe_each_row_is_whole(shell: Any, out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA}, source="generated")
    done = shell("compare", recipe, "--out", out, *seeds(4))
    assert done.returncode == 0
    assert "─" not in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("tna_t_snn  +")]
    assert "+1.17 ± 0.76" in row
    assert row.endswith("generated data")
    assert "all rows:" not in done.stdout + done.stderr


def test_on_a_terminal_of_80_columns_it_fits(out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA}, source="generated")
    seen = terminal("compare", recipe, "--out", out, *seeds(4), COLUMNS="80")
    shown = re.sub(r"\x1b\[[0-9;]*m|\r", "", seen)
    framed = [line for line in shown.splitlines() if line.startswith(" ")]
    assert max(map(len, framed)) <= 80
    assert shown.count("──") >= 3, "three tables, each with a rule"
    assert "+1.17 ± 0.76" in shown
    assert "all rows: generated data" in shown


def test_no_torch_is_loaded(out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA})
    loaded, _, code = loaded_by("compare", recipe, "--out", out)
    assert code == 0
    assert "torch" not in loaded


def test_a_report_has_the_same_differences(tna: Tna, out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": BASELINE, "tna_t_snn": TNA})
    common = (recipe, "--out", out, *seeds(5))
    document = tna("report", *common, "--json").json
    check("report", document)
    assert document["differences"] == tna("compare", *common, "--json").json["differences"]
    turned = tna("report", *common, "--against", "tna_t_snn", "--json").json["differences"]
    assert [(one["run"], one["minus"]) for one in turned] == [("baseline", "tna_t_snn")]
    assert tna("report", *common, "--against", "nothing").code == 2
    assert tna("report", *of_run(out, "baseline"), "--against", "tna_t_snn").code == 2
    rows = list(csv.DictReader(io.StringIO(tna("report", *common, "--format", "csv").out.split("\n\n")[-1])))
    assert [(row["run"], float(row["difference_mean"])) for row in rows] == [
        ("tna_t_snn", pytest.approx(fmean(SHARED)))
    ]


def test_a_report_without_results_has_no_differences(tna: Tna, out: Path, recipe: Path) -> None:
    assert tna("report", recipe, "--out", out, "--json").json["differences"] == []


def test_settings_are_told_from_those_of_the_reference(out: Path, recipe: Path, finish: Finish) -> None:
    finished(finish, recipe, {"baseline": {0: 50.0}, "tna_t_snn": {0: 60.0}})
    baseline, tna_t_snn = (cell_of_folder(RunFolder(of_run(out, name)[0])) for name in ("baseline", "tna_t_snn"))
    (row,) = settings_table([baseline, tna_t_snn], baseline, "").texts()
    assert row[0] == "tna_t_snn"
    assert set(row[1].split()) >= {"objective.kind=twin", "objective.alpha=0.01", "compression.delta=0.05"}
    assert not any(word.startswith(("train.", "model.", "data.", "runtime.")) for word in row[1].split())
    (note,) = settings_table([baseline, tna_t_snn], baseline, "").notes
    assert "model.layout=4C3-AP2-6C3-AP2-12FC" in note
    assert "train.epochs=3" in note
    found = compared({"a": baseline.settings, "b": tna_t_snn.settings})
    assert found.differing["objective.kind"] == {"a": "solo", "b": "twin"}
    assert found.differing["objective.alpha"] == {"b": 0.01}
    assert found.same["train.epochs"] == 3
    assert not any(key.startswith("runtime.") for key in (*found.same, *found.differing))
    everything = compared({"a": baseline.settings}, execution=True)
    assert everything.same["runtime.device"] == "auto"


def test_accuracies_on_held_out_samples(tna: Tna, out: Path, tmp_path: Path, finish: Finish) -> None:
    held = tmp_path / "held.yaml"
    held.write_text(
        """name: held
seeds: [0, 1]
data: {name: digits, validation_samples: 100}
runs: {baseline: {}, tna: {objective: {kind: twin, alpha: 0.1}}}
reproduces: {accuracy: {baseline: 90.0}, effects: [{run: tna, minus: baseline, paper: 1.0}]}
"""
    )
    for run in plan(load(held)):
        twin = run.name == "tna"
        # The test set says the other way round.
        finish(run, 80.0 - 5 * twin, validation=70.0 + run.seed + 2 * twin, **({"sibling1": 75.0} if twin else {}))
    document = tna("report", held, "--out", out, "--split", "validation", "--json").json
    check("report", document)
    assert (document["split"], document["effects"], document["counts"]["numbers"]["given"]) == ("validation", [], 0)
    (numbers,) = document["tables"]
    assert [row["ours"]["mean"] for row in numbers["rows"]] == [70.5, 72.5], (
        "no table of a twin, which is measured on the test set"
    )
    assert document["differences"][0]["difference"] == {"mean": 2.0, "std": 0.0, "count": 2}
    done = tna("report", held, "--out", out, "--split", "validation")
    shown = done.out + done.err
    assert "ours: validation accuracy" in shown
    assert "in validation accuracy" in shown
    assert "test accuracy" not in shown
    assert "paper" not in shown

    document = tna("compare", held, "--out", out, "--split", "validation", "--json").json
    check("compare", document)
    assert (document["split"], document["differences"][0]["difference"]["mean"]) == ("validation", 2.0)
    assert tna("compare", held, "--out", out, "--json").json["differences"][0]["difference"]["mean"] == -5.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "quickstart", "--split", "val"], "--split is test or validation, not 'val'"),
        (["report", "quickstart", "--split", "validation"], "holds no samples out of the training set"),
        (["report", "quickstart", "--split", "validation", "--check"], "the paper's numbers are of test sets"),
        (["report", "--split", "validation"], "the paper's numbers are of test sets"),
        (["compare", "quickstart", "--split", "validation"], "data.validation_samples"),
    ],
)
def test_mistakes_with_splits_are_explained(tna: Tna, arguments: list[str], message: str) -> None:
    result = tna(*arguments)
    assert result.code == 2
    assert message in " ".join(result.err.split())
