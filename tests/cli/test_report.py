"""`tna report` over real runs of seconds."""

from __future__ import annotations

import csv
import io
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import TINY_RECIPE, Tna
from tnacli.runs.store import RunFolder

REPRODUCES = "reproduces: {tables: [1], figures: ['2'], accuracy: {baseline: %s, tna_t_snn: %s}, tolerance: 5}\n"


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe, trained for one of its two seeds."""
    from tnacli.experiment import Experiment
    from tnacli.recipe.parse.load import load, plan

    folder = tmp_path_factory.mktemp("report")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY_RECIPE.replace("seeds: [0]", "seeds: [0, 1]"))
    experiment = Experiment(folder / "runs")
    for run in plan(load(recipe), seeds=[0]):
        experiment.execute(run)
    return folder


def accuracy(folder: Path, name: str) -> float:
    (path,) = (folder / "runs" / "tiny").glob(f"{name}-seed0-*")
    result = RunFolder(path).result
    assert result is not None
    return result.accuracy["base"]


def with_paper(folder: Path, baseline: float, tna: float, seeds: str = "[0, 1]") -> Path:
    recipe = folder / "with_paper.yaml"
    recipe.write_text(f"extends: tiny.yaml\nname: with_paper\nseeds: {seeds}\n{REPRODUCES % (baseline, tna)}")
    return recipe


def test_unfinished_cells_say_how_many_seeds_there_are(tna: Tna, trained_runs: Path) -> None:
    shown = tna("report", trained_runs / "tiny.yaml", "--out", trained_runs / "runs")
    assert shown.code == 0
    assert "1 of 2 seeds" in shown.out
    assert f"{accuracy(trained_runs, 'baseline'):.2f}" in shown.out
    whole = tna("report", trained_runs / "tiny.yaml", "--seed", 0, "--out", trained_runs / "runs")
    assert "1 seed" in whole.out
    assert "1 of 2" not in whole.out


@pytest.mark.parametrize(("off", "code"), [(4.9, 0), (5.1, 6)])
def test_check_judges_finished_cells(tna: Tna, trained_runs: Path, off: float, code: int) -> None:
    paper = (accuracy(trained_runs, "baseline") + off, accuracy(trained_runs, "tna_t_snn"))
    common = ("report", with_paper(trained_runs, *paper), "--out", trained_runs / "runs", "--check")
    for few in ((), ("--seed", 0), ("--set", "seeds=[0]")):  # a seed of the recipe is missing: nothing to judge
        refused = tna(*common, *few)
        assert refused.code == 6
        assert "none of 2 numbers could be judged" in refused.err
    with_paper(trained_runs, *paper, seeds="[0]")
    judged = tna(*common)
    assert judged.code == code
    assert ("2 of 2 numbers were judged, all within tolerance" in judged.err) == (code == 0)
    assert ("1 of 2 judged numbers" in judged.err) == (code == 6)
    assert ("baseline is -5.10 points from the paper's" in judged.err) == (code == 6)
    assert "tna_t_snn is" not in judged.err
    assert "not a shipped recipe" in judged.out


def test_every_format_says_the_same(tna: Tna, trained_runs: Path) -> None:
    common = ("report", with_paper(trained_runs, 50, 50), "--seed", 0, "--out", trained_runs / "runs", "--format")
    document = tna(*common, "json").json
    assert document["command"] == "report"
    rows = {row["run"]: row for row in document["tables"][0]["rows"]}
    assert rows["baseline"]["ours"] == {"mean": accuracy(trained_runs, "baseline"), "std": None, "count": 1}
    table = tna(*common, "csv").out.split("\n\n")[0]
    read = {row["run"]: row for row in csv.DictReader(io.StringIO(table))}
    assert float(read["tna_t_snn"]["ours_mean"]) == rows["tna_t_snn"]["ours"]["mean"]
    shown = f"{accuracy(trained_runs, 'tna_t_snn'):.2f}"
    assert shown in tna(*common, "md").out
    assert shown in tna(*common, "latex").out
    assert shown in tna(*common, "rich").out
    assert tna(*common, "html").code == 2


def test_the_title_of_a_picture_and_a_page(tna: Tna, trained_runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for command in ("report", "compare"):
        common = (command, trained_runs / "tiny.yaml", "--seed", 0, "--out", trained_runs / "runs", "-o")
        usual = {"report": ">tiny<", "compare": ">baseline, tna_t_snn<"}[command]
        for title, has, has_not in ((None, usual, ">mine<"), ("mine", ">mine<", usual), ("", "</svg>", usual)):
            file = tmp_path / "a.svg"
            assert tna(*common, file, *([] if title is None else ["--title", title])).code == 0
            assert has in file.read_text()
            assert has_not not in file.read_text()
    assert tna("report", trained_runs / "tiny.yaml", "-o", tmp_path / "a.html", "--title", "mine").code == 0
    assert "<h1>mine</h1>" in (tmp_path / "a.html").read_text()


def test_curves_that_are_missing_are_named(tna: Tna, trained_runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    recipe = trained_runs / "more.yaml"
    recipe.write_text("extends: tiny.yaml\nname: more\nruns: {never: {train: {epochs: 9}}}\n")
    for command in ("report", "compare"):
        said = tna(command, recipe, "--seed", 0, "--out", trained_runs / "runs", "-o", tmp_path / "a.png").err
        assert re.findall("no curve of .*", said) == ["no curve of never: no epoch yet"]


def test_pictures_pages_and_tables_are_written(tna: Tna, trained_runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    common = ("report", with_paper(trained_runs, 50, 50), "--out", trained_runs / "runs", "--save")
    for name, start in [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.html", b"<!doctype html>"), ("a.md", b"**"),
                        ("a.tex", b"\\begin{table}"), ("a.json", b"{")]:  # fmt: skip
        done = tna(*common, tmp_path / name)
        assert (done.code, done.out) == (0, ""), done.err
        assert (tmp_path / name).read_bytes().startswith(start)
    assert tna(*common, tmp_path / "fig2.png", "--figure", "2").code == 0
    written = tna(*common, tmp_path / "a.csv").err
    files = sorted(tmp_path.glob("a-*.csv"))
    assert f"wrote {', '.join(map(str, files))}" in written
    assert [file.read_text().split(",")[0] for file in files] == ["data", "recipe", "recipe"], "one table a file"
    assert all(len({len(row) for row in csv.reader(io.StringIO(file.read_text()))}) == 1 for file in files)
    assert not (tmp_path / "a.csv").exists()
    assert json.loads((tmp_path / "a.json").read_text())["command"] == "report"
    assert "conv2" in (tmp_path / "a.html").read_text()
    refused = tna(*common, tmp_path / "a.doc")
    assert refused.code == 2
    assert "known: .png" in refused.err
    assert not (tmp_path / "a.doc").exists()


def test_runs_under_an_overlay_must_be_asked_for(tna: Tna, tmp_path: Path, trained_runs: Path) -> None:
    out = tmp_path / "runs"
    recipe, common = trained_runs / "tiny.yaml", ("--set", "train.epochs=2", "--set", "seeds=[0]", "--out", out)
    assert tna("train", recipe, "--run", "baseline", *common, "-q").code == 0
    missed = tna("report", recipe, "--out", out)
    assert "0 of 2 seeds" in missed.out
    assert "set train.epochs=2, set seeds=[0]; give the same --with and --set" in missed.err
    found = tna("report", recipe, *common)
    assert "set train.epochs=2; set seeds=[0]" in found.out
    assert "give the same" not in found.err


def test_a_run_folder_is_reported_alone(tna: Tna, trained_runs: Path, tmp_path: Path) -> None:
    (path,) = (trained_runs / "runs" / "tiny").glob("tna_t_snn-seed0-*")
    assert f"{accuracy(trained_runs, 'tna_t_snn'):.2f}" in tna("report", path).out
    assert tna("report", path, "--with", "laptop").code == 2


needs_matplotlib = pytest.mark.skipif(
    find_spec("matplotlib") is None, reason="matplotlib (extra: plots) is not installed"
)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "4"], "no Table 4"),
        (["--figure", "5"], "--figure takes 2, 3a, 3b"),
        (["--table", "1", "--figure", "2"], "exclude each other"),
        (["table1_cifar10", "--table", "2"], "does not say that it reproduces Table 2"),
        pytest.param(["--figure", "2", "--save", "x.png"], "nothing to draw", marks=needs_matplotlib),
        (["table1_cifar10", "--run", "tan"], "did you mean 'tna'"),
    ],
)
def test_mistakes_are_explained(
    tna: Tna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = tna("report", *arguments)
    assert refused.code == 2
    assert said in refused.err
    assert list(tmp_path.iterdir()) == []


def test_the_whole_paper_without_a_run(tna: Tna, tmp_path: Path) -> None:
    shown = tna("report", "--out", tmp_path / "none", "--json").json
    assert [len(table["rows"]) for table in shown["tables"]] == [8, 20]
    rows = [row for table in shown["tables"] for row in table["rows"]]
    assert all((row["seeds"], row["planned_seeds"]) == (0, 5) for row in rows)
    assert [row["alpha"] for row in rows[:2]] == [None, 1e-3]
    assert [row["tolerance"] for row in rows[:2]] == [1.0, 1.0]
    # Table 1: TNA against the baseline and the twin; Table 2: the four differences of its rows.
    assert [row["table"] for row in shown["effects"]] == [1] * 8 + [2] * 16
    assert all((row["seeds"], row["ours"], row["verdict"]) == (0, None, None) for row in shown["effects"])
    assert [row["paper"] for row in shown["effects"][8:12]] == [0.82, 0.28, 0.64, -0.62]
    assert shown["counts"]["effects"] == {"given": 24, "judged": 0, "hold": 0, "not_shown": 0, "contradicted": 0}
    table3 = tna("report", "--table", 3, "--out", tmp_path / "none", "--json").json["tables"][0]
    assert sum("not the paper's" in row["source"] for row in table3["rows"]) == 32
    assert not (tmp_path / "none").exists()


def test_train_shows_no_mean_of_two_precisions(tna: Tna, recipe: Path, out: Path) -> None:
    common = ("train", recipe, "--run", "tna_t_snn", "--seed", 0, "--seed", 1, "--set", "train.epochs=2", "--out", out)
    assert "±" in tna(*common).out
    (path,) = out.glob("tiny/tna_t_snn-seed1-*/result.json")
    path.write_text(path.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    shown = tna(*common)
    assert "seed 0 trained in fp32, seed 1 trained in bf16: no mean" in shown.out
    assert "±" not in shown.out


def test_a_start_that_failed_is_left_out_of_many_folders(tna: Tna, trained_runs: Path, tmp_path: Path) -> None:
    """`tna report runs/X/*` where a run found no data, or was killed at once."""
    recipe = trained_runs / "tiny.yaml"
    recipe.with_name("lost.yaml").write_text(
        recipe.read_text().replace("digits, train_samples: 120, test_samples: 60", f"cifar10, root: {tmp_path}")
    )
    assert tna("train", recipe.with_name("lost.yaml"), "--run", "baseline", "--seed", 0, "--out", tmp_path).code == 4
    (failed,) = (tmp_path / "tiny").iterdir()
    good = sorted((trained_runs / "runs" / "tiny").iterdir())
    shown = tna("report", failed, *good, "--json")
    assert (shown.code, len(shown.json["tables"])) == (0, len(tna("report", *good, "--json").json["tables"]))
    assert f"{failed}: its training never began; left out" in shown.err
    alone = tna("report", failed)
    assert (alone.code, alone.out) == (2, "")
    assert "no training began in any of these folders" in alone.err


def test_without_a_number_of_the_paper_there_is_nothing_to_check(tna: Tna, trained_runs: Path) -> None:
    refused = tna("report", trained_runs / "tiny.yaml", "--seed", 0, "--out", trained_runs / "runs", "--check")
    assert refused.code == 6
    assert "nothing to check: these recipes name no number of the paper" in refused.err


def with_thresholds(folder: Path, thresholds: str, seeds: str = "[0]") -> Path:
    recipe = folder / "with_thresholds.yaml"
    recipe.write_text(f"extends: tiny.yaml\nname: with_thresholds\nseeds: {seeds}\nthresholds: {thresholds}\n")
    return recipe


@pytest.mark.parametrize(("off", "code"), [(-5, 0), (0, 0), (0.01, 6)])
def test_thresholds_of_ones_own_are_one_sided_and_not_the_papers(
    tna: Tna, trained_runs: Path, off: float, code: int
) -> None:
    recipe = with_thresholds(trained_runs, f"{{baseline: {accuracy(trained_runs, 'baseline') + off}}}")
    judged = tna("report", recipe, "--out", trained_runs / "runs", "--check")
    assert judged.code == code
    assert ("the threshold is reached" in judged.err) == (code == 0)
    assert ("1 of 1 judged thresholds are not reached" in judged.err) == (code == 6)
    assert "paper %" not in judged.out
    assert "paper" not in judged.err.splitlines()[-1]
    document = tna("report", recipe, "--out", trained_runs / "runs", "--json").json
    assert document["counts"]["thresholds"] == {"given": 1, "judged": 1, "reached": int(code == 0)}
    rows = {row["run"]: row for row in document["tables"][0]["rows"]}
    assert (rows["baseline"]["reached"], rows["tna_t_snn"]["reached"]) == (code == 0, None)


def test_thresholds_need_every_seed_asked_for_and_hold_in_any_setting(tna: Tna, trained_runs: Path) -> None:
    common = (
        "report",
        with_thresholds(trained_runs, "{baseline: 0, tna_t_snn: 0}", "[0, 1]"),
        "--out",
        trained_runs / "runs",
    )
    refused = tna(*common, "--check")
    assert refused.code == 6
    assert "2 of 2 thresholds could not be judged: seeds asked for are missing" in refused.err
    judged = tna(*common, "--check", "--seed", 0)
    assert (judged.code, "2 thresholds are reached" in judged.err) == (0, True)


def test_thresholds_name_runs_and_percentages(tna: Tna, trained_runs: Path) -> None:
    wrong = tna("report", with_thresholds(trained_runs, "{baselin: 90}"), "--out", trained_runs / "runs")
    assert wrong.code == 3
    assert "thresholds.baselin" in wrong.err
    assert "did you mean 'baseline'" in wrong.err
    assert tna("report", with_thresholds(trained_runs, "{baseline: 101}")).code == 3


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [("figure", "1", "2, 3a, 3b"), ("figure", "3c", "2, 3a, 3b"), ("section", "9", "5.3.1, 5.3.3")],
)
def test_what_no_recipe_reproduces_is_answered_by_what_they_do(tna: Tna, option: str, value: str, known: str) -> None:
    refused = tna("report", f"--{option}", value)
    assert refused.code == 2
    assert (
        refused.err == f"error: no shipped recipe reproduces {option} {value} of the paper; --{option} takes {known}\n"
    )
