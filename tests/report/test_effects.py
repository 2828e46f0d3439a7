"""A report tells the method from its absence: made-up results with the paper's effects pass, those without any fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.conftest import Tna, tna  # noqa: F401
from tests.report.conftest import Finish
from tnacli.recipe.parse.load import Loaded, load, plan
from tnacli.report.cells import cells_of
from tnacli.report.distillation import Outcomes, comparison_table, differences_table, methods
from tnacli.report.effects import Effect, effects_of, effects_table, judged
from tnacli.report.published import kd_differences
from tnacli.report.table import rows_by_key
from tnacli.runs.store import RunFolder

NOISE = (0.04, -0.04, 0.02, -0.02, 0.0)
SCHEMA = json.loads(files("tnacli.cli").joinpath("schemas", "report.json").read_text(encoding="utf-8"))
Made = Callable[..., None]


@pytest.fixture
def made(finish: Finish) -> Made:
    """Finish all runs of a recipe: each the mean that `means` has for its name, over the seeds with a little noise.

    Twins are as good as their bases. `different` are arguments of `finish` by run and seed.
    """

    def made(
        loaded: Loaded, means: Mapping[str, float], *, different: Mapping[tuple[str, int], dict[str, Any]] | None = None,
        seeds: tuple[int, ...] = (), source: str = "official",
    ) -> None:  # fmt: skip
        names = list(loaded.recipe.runs)
        for run in plan(loaded, seeds=seeds):
            if run.name not in means:
                continue
            # Seeds are good or bad for all runs alike, which pairing takes out; what is left differs from run to run.
            noise = run.seed / 2 + NOISE[(run.seed + names.index(run.name)) % 5]
            twins = {f"sibling{n}": means[run.name] + run.seed / 2 + NOISE[(run.seed + 3 + n) % 5] for n in (1, 2)}
            objective = run.settings.objective
            networks = {k: twins[k] for k in list(twins)[: len(getattr(objective, "siblings", ()))]}
            others = (different or {}).get((run.name, run.seed), {})
            finish(run, means[run.name] + noise, **{"source": source, **networks, **others})

    return made


def centred(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Means over the five seeds that come out as `accuracies`."""
    return {name: value - 1.0 for name, value in accuracies.items()}


def effects(loaded: Loaded, out: Path, **asked: Any) -> dict[str, Effect]:
    return {one.name: one for one in judged(effects_of(loaded, cells_of(loaded, out, **asked)))}


PAPER = {
    "fig3b_cifar100_kd": {"baseline": 72.6, "kd": 71.1, "kd_ce": 73.33, "tna": 75.03},
    "sec531_cifar100_three_networks": {"baseline": 72.6, "tna": 75.0, "three_networks": 75.0},
}


@pytest.mark.parametrize(
    ("table", "recipe"),
    [(1, f"table1_{data}") for data in ("cifar10", "cifar100", "fashion_mnist", "cifar10dvs")]
    + [(2, f"table2_{data}") for data in ("cifar10", "cifar100", "fashion_mnist", "cifar10dvs")]
    + [(None, name) for name in PAPER],
)
def test_the_papers_effects_pass(tna: Tna, out: Path, made: Made, table: int | None, recipe: str) -> None:  # noqa: F811
    loaded = load(recipe)
    made(loaded, centred(PAPER.get(recipe) or loaded.recipe.reproduces.accuracy))
    checked = tna("report", recipe, "--out", out, "--check", *(() if table is None else ("--table", table)))
    assert checked.code == 0, checked.err
    count = len(loaded.recipe.reproduces.effects)
    assert f"{count} of {count} effects were judged, and hold" in checked.err
    assert checked.out.count("holds") >= count


def test_no_effect_fails_though_every_number_is_within_its_tolerance(tna: Tna, out: Path, made: Made) -> None:  # noqa: F811
    loaded = load("table2_fashion_mnist")
    made(loaded, centred(dict.fromkeys(loaded.recipe.runs, 95.0)))
    checked = tna("report", "table2_fashion_mnist", "--out", out, "--check")
    assert checked.code == 6
    assert checked.out.count("within ±1") == 5
    assert "OUTSIDE" not in checked.out
    assert "3 of 4 judged effects do not hold:" in checked.err
    for pair in ("tna - baseline", "tna_t_snn - t_snn", "t_snn - b_snn"):
        assert f"{pair} is not shown" in checked.err
    assert "the paper has +0.41; 5 seeds of this spread could show 0." in checked.err
    assert "t_snn - baseline" not in checked.err  # the paper has no effect there either
    assert len(checked.err.partition("error: ")[2].splitlines()) == 4


def test_an_effect_the_other_way_is_contradicted(tna: Tna, out: Path, made: Made) -> None:  # noqa: F811
    loaded = load("table1_cifar10")
    made(loaded, centred({"baseline": 94.39, "tna": 93.57}))
    checked = tna("report", "table1_cifar10", "--out", out, "--check")
    assert checked.code == 6
    assert "1 of 2 judged effects do not hold" in checked.err
    assert "tna - baseline is contradicted: -0.82 points" in checked.err
    assert "p < 0.0001, Holm < 0.0001), the paper has +0.82" in checked.err


def test_what_is_printed_is_counted_in_json(tna: Tna, out: Path, made: Made) -> None:  # noqa: F811
    loaded = load("table2_cifar100")
    means = dict(loaded.recipe.reproduces.accuracy)
    means |= {"tna_t_snn": means["t_snn"], "b_snn": means["t_snn"] + 1}
    made(loaded, centred(means))
    document = tna("report", "table2_cifar100", "--out", out, "--json").json
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    rows = {(row["run"], row["minus"]): row for row in document["effects"]}
    verdicts = {pair: row["verdict"] for pair, row in rows.items()}
    assert verdicts == {
        ("tna", "baseline"): "holds", ("tna_t_snn", "t_snn"): "not shown", ("t_snn", "b_snn"): "contradicted",
        ("t_snn", "baseline"): "holds",
    }  # fmt: skip
    assert document["counts"] == {
        "numbers": {"given": 5, "judged": 5, "within": 3},
        "effects": {"given": 4, "judged": 4, "hold": 2, "not_shown": 1, "contradicted": 1},
        "thresholds": {"given": 0, "judged": 0, "reached": 0},
    }
    # By hand: the seeds' own share cancels, and what is left of the noise of two runs is one pattern minus the other.
    first, second = (list(loaded.recipe.runs).index(name) for name in ("tna", "baseline"))
    noise = [NOISE[(seed + first) % 5] - NOISE[(seed + second) % 5] for seed in range(5)]
    deviation = math.sqrt(sum(x * x for x in noise) / 4)
    row = rows["tna", "baseline"]
    assert row["ours"] == {"mean": pytest.approx(2.4), "std": pytest.approx(deviation), "count": 5}
    assert row["paper"] == 2.4
    half = 2.776445 * deviation / math.sqrt(5)  # t with 4 degrees of freedom
    assert row["interval"] == {"low": pytest.approx(2.4 - half), "high": pytest.approx(2.4 + half)}
    assert row["p_signs"] == 2 / 2**5
    assert row["p_t"] < row["p_holm"] <= 4 * row["p_t"]
    assert row["smallest"] == pytest.approx(1.682 * deviation, rel=1e-3)


def test_any_scale_is_judged_by_effects_alone(tna: Tna, out: Path, made: Made) -> None:  # noqa: F811
    loaded = load("table1_cifar100", overlays=["laptop"])
    common = ("report", "table1_cifar100", "--with", "laptop", "--out", out, "--check")
    seeds = ("--seed", 0, "--seed", 1, "--seed", 2)
    made(loaded, {"baseline": 7.2, "tna": 8.2}, seeds=(0, 1))
    for few in ((), seeds[:4], seeds):  # the overlay's one seed, two, and two of three
        refused = tna(*common, *few)
        assert refused.code == 6
        assert "none of 2 numbers and none of 2 effects could be judged" in refused.err
    assert "a verdict takes 3 seeds" in tna(*common, *seeds[:4]).out
    assert "seeds are missing" in tna(*common, *seeds).out
    made(loaded, {"baseline": 7.2, "tna": 8.2}, seeds=(2,))
    passed = tna(*common, *seeds)
    assert passed.code == 0, passed.err
    assert "0 of 2 numbers were judged; 2 of 2 effects were judged, and hold" in passed.err
    assert "not judged" in passed.out  # the numbers
    assert "with laptop" in passed.out
    assert "the paper's differences are of its own setting, ours here of another" in passed.err


def test_in_the_papers_setting_no_seed_of_the_recipe_may_be_left_out(out: Path, made: Made) -> None:
    loaded = load("table1_cifar10")
    made(loaded, centred(loaded.recipe.reproduces.accuracy))
    assert {one.verdict for one in effects(loaded, out).values()} == {"holds"}
    for one in effects(loaded, out, seeds=[0, 2, 4]).values():
        assert (one.unjudged, one.verdict) == ("seeds are missing", None)


def test_generated_data_have_no_effects(out: Path, made: Made) -> None:
    loaded = load("table1_cifar10")
    made(loaded, centred(loaded.recipe.reproduces.accuracy), source="generated")
    assert {one.unjudged for one in effects(loaded, out).values()} == {"generated data"}


OTHER_DATA = ("seeds 0, 1, 2, 4 learned from other data than seed 3", "tna learned from other data than baseline")


@pytest.mark.parametrize(
    ("other", "seeds_say", "runs_say"),
    [
        ({"fingerprint": "1"}, *OTHER_DATA),
        ({"source": "folder"}, *OTHER_DATA),
        ({"precision": "bf16"}, "seeds 0, 1, 2, 4 trained in fp32, seed 3 trained in bf16",
         "tna trained in bf16, baseline trained in fp32"),
    ],
)  # fmt: skip
def test_different_data_and_precisions_are_refused(
    tna: Tna, out: Path, made: Made, tmp_path: Path, other: dict[str, str], seeds_say: str, runs_say: str  # noqa: F811
) -> None:  # fmt: skip
    loaded = load("table1_cifar10")
    means = centred(loaded.recipe.reproduces.accuracy)
    made(loaded, means, different={("tna", 3): other})
    mixed = tna("report", "table1_cifar10", "--out", out, "--check")
    assert mixed.code == 6
    assert "results of different data or precision have no mean and no difference:" in mixed.err
    assert f"table1_cifar10: tna: {seeds_say}" in mixed.err
    assert f"{seeds_say}: no mean" in mixed.out
    for one in effects(loaded, out).values():
        assert (one.ours, one.verdict, one.unjudged) == (None, None, seeds_say)

    apart = tmp_path / "apart"
    for folder in (out / "table1_cifar10").glob("tna-*"):
        stored = json.loads((folder / "result.json").read_text())
        stored["data"] |= {key: value for key, value in other.items() if key in stored["data"]}
        stored |= {key: value for key, value in other.items() if key not in stored["data"]}
        (folder / "result.json").write_text(json.dumps(stored))
    out.rename(apart)
    between = tna("report", "table1_cifar10", "--out", apart, "--check")
    assert between.code == 6
    assert f"table1_cifar10: tna - baseline: {runs_say}" in between.err
    found = effects(loaded, apart)
    assert (found["tna - baseline"].ours, found["tna - baseline"].verdict) == (None, None)
    assert found["tna - its twin"].verdict == "holds"  # both networks are of the same runs


def made_up(out: Path, finish: Finish, differences: list[float], effect: str) -> Effect:
    """The verdict on `differences` of one pair, a seed each; `effect` is what the paper says of it."""
    recipe = out.parent / "own.yaml"
    recipe.write_text(
        f"name: own\nseeds: {list(range(len(differences)))}\ndata: {{name: digits}}\n"
        f"runs: {{a: {{}}, b: {{train: {{epochs: 9}}}}}}\nreproduces: {{effects: [{{run: b, minus: a, {effect}}}]}}\n"
    )
    loaded = load(recipe)
    for run in plan(loaded):
        finish(run, 50.0 + (differences[run.seed] if run.name == "b" else 0.0))
    (found,) = effects(loaded, out).values()
    return found


@pytest.mark.parametrize(
    ("differences", "effect", "verdict"),
    [
        # t of these is 3 * sqrt(3) = 5.2, beyond the 4.30 of 2 degrees of freedom; with 2.4 in place of 3 it is 4.16.
        ([2.0, 3.0, 4.0], "paper: 1", "holds"),
        ([2.0, 3.0, 4.0], "paper: 100", "holds"),
        ([1.4, 2.4, 3.4], "paper: 1", "not shown"),
        ([2.0, 3.0, 4.0], "paper: -1", "contradicted"),
        ([-2.0, -3.0, -4.0], "paper: -1", "holds"),
        ([1.4, 2.4, 3.4], "paper: -1", "not shown"),
        ([0.0, 0.0, 0.0], "paper: 1", "not shown"),
        # The half-width is 4.3027 / sqrt(3) = 2.484 for a deviation of 1.
        ([-1.0, 0.0, 1.0], "margin: 2.49", "holds"),
        ([-1.0, 0.0, 1.0], "margin: 2.48", "not shown"),
        ([0.0, 1.0, 2.0], "margin: 3.48", "not shown"),
        ([0.0, -1.0, -2.0], "margin: 3.48", "not shown"),
        ([0.0, -1.0, -2.0], "margin: 3.49", "holds"),
        ([2.0, 3.0, 4.0], "margin: 5.48", "contradicted"),
        ([-2.0, -3.0, -4.0], "margin: 5.48", "contradicted"),
        ([2.0, 3.0, 4.0], "margin: 5.49", "holds"),  # a difference, but less than counts as one
        ([0.0, 0.0, 0.0], "margin: 0.1", "holds"),
        ([2.0, 3.0], "paper: 1", None),
    ],
)
def test_the_edges_of_a_verdict(
    out: Path, finish: Finish, differences: list[float], effect: str, verdict: str | None
) -> None:
    assert made_up(out, finish, differences, effect).verdict == verdict


@pytest.mark.parametrize(
    ("effect", "corrected"), [("paper: 1", "judged here (1, by"), ("margin: 5", "corrected for 1, is")]
)
def test_the_notes_say_what_verdicts_of_the_table_mean(out: Path, finish: Finish, effect: str, corrected: str) -> None:
    """And nothing of verdicts that it has none of."""
    table = effects_table([made_up(out, finish, [2.0, 3.0, 4.0], effect)], "t")
    said = [note for note in table.notes if "corrected for" in note]
    assert len(said) == 1
    assert corrected in said[0]


def test_the_notes_explain_only_what_the_table_shows(out: Path, finish: Finish) -> None:
    """Of two seeds nothing is judged, and before any is finished nothing is measured."""
    unjudged = effects_table([made_up(out, finish, [2.0, 3.0], "margin: 5")], "t").notes
    assert "none (±x): the paper finds no difference, which holds if the interval lies within ±x" in unjudged
    assert any(note.startswith("could show") for note in unjudged)
    loaded = load("table2_fashion_mnist")
    unmeasured = effects_table(tuple(effects(loaded, out).values()), "t").notes
    assert [note.split(":")[0] for note in unmeasured] == ["effects", "none (±x)"]


def test_one_seed_has_no_spread_that_a_note_could_speak_of(out: Path, finish: Finish) -> None:
    notes = effects_table([made_up(out, finish, [2.0], "margin: 5")], "t").notes
    assert [note.split(":")[0] for note in notes] == ["effects", "none (±x)"]


def test_many_effects_in_a_table_take_smaller_p(out: Path, made: Made) -> None:
    """p of 0.03 alone is one thing, among four effects without any another."""
    loaded = load("table2_fashion_mnist")
    means = dict.fromkeys(loaded.recipe.runs, 95.0)
    # 5 seeds: t is mean / (deviation / sqrt(5)).
    noise = [NOISE[(s + 1) % 5] - NOISE[s] for s in range(5)]
    means["tna"] += 3.3 * math.sqrt(sum(x * x for x in noise) / 4) / math.sqrt(5)
    made(loaded, centred(means))
    alone = effects(loaded, out, runs=["baseline", "tna"])["tna - baseline"]
    among = effects(loaded, out)["tna - baseline"]
    assert alone.ours is not None
    assert among.ours is not None
    assert alone.ours.p_t == among.ours.p_t
    assert 0.02 < (alone.p_holm or 1) < 0.05
    # Three differences; the fourth pair is one without, and no part of their correction.
    assert among.p_holm == pytest.approx(3 * (alone.p_holm or 1))
    assert (alone.verdict, among.verdict) == ("holds", "not shown")


def test_what_is_not_judged_yet_counts_already(out: Path, made: Made) -> None:
    """Which runs are finished first does not decide what is shown: all differences that the recipe names count from the start."""
    loaded = load("table2_fashion_mnist")
    made(loaded, centred({"baseline": 95.0, "tna": 95.4}))
    found = effects(loaded, out)
    first = found["tna - baseline"]
    assert first.ours is not None
    assert first.p_holm == pytest.approx(3 * (first.ours.p_t or 1))
    notes = effects_table(tuple(found.values()), "t").notes
    assert any("judged here (3, by Holm's method; 2 of them not judged yet)" in note for note in notes)
    # In a table with other data sets, of which nothing is finished, these are not waited for.
    other = load("table2_cifar10")
    both = judged((*effects_of(loaded, cells_of(loaded, out)), *effects_of(other, cells_of(other, out))))
    assert next(one for one in both if one.name == "tna - baseline").p_holm == first.p_holm
    made(loaded, centred(dict.fromkeys(("t_snn", "b_snn", "tna_t_snn"), 95.0)))
    later = effects(loaded, out)["tna - baseline"]
    assert later.p_holm == first.p_holm


def test_figure_3b_has_the_numbers_that_compare_kd_shows() -> None:
    kinds = {"baseline": "baseline", "kd": "KD", "kd_ce": "KD + CE", "tna": "TNA"}
    recipe = load("fig3b_cifar100_kd").recipe.reproduces
    found = {(kinds[one.run], kinds[one.minus or ""]): recipe.papers_difference(one) for one in recipe.effects}
    published = {(one.first, one.second): one.points for one in kd_differences()}
    published["KD", "baseline"] = -(published.pop(("baseline", "KD")) or 0)
    assert found == published


def test_compare_kd_sets_nothing_of_different_data_side_by_side(out: Path, made: Made) -> None:
    loaded = load("fig3b_cifar100_kd")
    different = {("tna", 1): {"fingerprint": "1"}} | {("kd", seed): {"precision": "bf16"} for seed in range(3)}
    made(loaded, PAPER["fig3b_cifar100_kd"], different=different)
    found = []
    for one in methods(loaded, alphas=[1e-5]):
        folders = {run.seed: RunFolder.of(out, run).result for run in one.runs}
        found.append(Outcomes(one, {seed: result for seed, result in folders.items() if result is not None}))
    rows = {row["method"]: row for row in rows_by_key(comparison_table(found, {}))}
    assert rows["TNA"]["accuracy"] is None
    assert "seeds 0, 2 learned from other data than seed 1" in rows["TNA"]["notes"]
    assert rows["KD"]["accuracy"]["count"] == 3
    assert rows["KD"]["difference"] is None
    assert "KD trained in bf16, baseline trained in fp32" in rows["KD"]["notes"]
    assert rows["KD + CE"]["difference"]["mean"] == pytest.approx(0.73, abs=0.05)
    differences = rows_by_key(differences_table(found))
    assert [(row["first"], row["second"]) for row in differences if row["ours"]] == [("KD + CE", "baseline")]
    assert all(row["notes"] for row in differences if not row["ours"])


def test_numbers_within_tolerance_do_not_pass_for_effects(tna: Tna, out: Path, made: Made) -> None:  # noqa: F811
    loaded = load("table1_cifar10")
    made(loaded, centred({"baseline": 93.57}))
    refused = tna("report", "table1_cifar10", "--out", out, "--check")
    assert refused.code == 6
    assert "none of 2 effects could be judged" in refused.err


def test_a_twin_that_differs_contradicts(out: Path, made: Made) -> None:
    loaded = load("table1_cifar10")
    worse = {("tna", seed): {"sibling1": 92.0 + seed / 2 + NOISE[seed]} for seed in range(5)}
    made(loaded, {"baseline": 92.57, "tna": 93.39}, different=worse)
    twin = effects(loaded, out)["tna - its twin"]
    assert twin.ours is not None
    assert twin.ours.difference.mean == pytest.approx(1.39)
    assert twin.verdict == "contradicted"


@pytest.mark.parametrize(
    ("data", "differences"),
    [
        ("cifar10", (0.82, 0.28, 0.64, -0.62)), ("cifar100", (2.4, 1.51, 0.67, -2.08)),
        ("fashion_mnist", (0.41, 0.29, 0.15, 0.05)), ("cifar10dvs", (1.7, 0.9, 0.7, -0.4)),
    ],
)  # fmt: skip
def test_the_tables_differences_are_the_papers(data: str, differences: tuple[float, ...]) -> None:
    """Subtracted by hand: TNA - baseline, TNA T-SNN - T-SNN, T-SNN - B-SNN, T-SNN - FP-SNN."""
    first, second = (load(f"table{n}_{data}").recipe.reproduces for n in (1, 2))
    assert [(one.run, one.minus, one.minus_sibling) for one in first.effects] == [
        ("tna", "baseline", None), ("tna", None, 1)
    ]  # fmt: skip
    pairs = [("tna", "baseline"), ("tna_t_snn", "t_snn"), ("t_snn", "b_snn"), ("t_snn", "baseline")]
    assert [(one.run, one.minus) for one in second.effects] == pairs
    assert tuple(second.papers_difference(one) for one in second.effects) == differences
    assert first.papers_difference(first.effects[0]) == differences[0]
    # What the paper's tables leave at 0.05 is no difference.
    assert [one.margin is not None for one in second.effects] == [False] * 3 + [data == "fashion_mnist"]
