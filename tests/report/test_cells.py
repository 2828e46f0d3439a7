"""What a cell says of the runs it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.conftest import Finish
from tnacli.errors import DataError, UsageError
from tnacli.recipe.parse.load import Loaded, load, plan
from tnacli.report.cells import PaperPart, cell_of_folder, cells_of, is_run_folder, recipes_for
from tnacli.report.published import kd_differences, table3
from tnacli.report.table import rows_by_key
from tnacli.report.tables import NAMES, accuracy_table, alpha_text, table3_report, twin_table
from tnacli.runs.store import RunFolder


def test_unfinished_until_every_seed_is_there(out: Path, finish: Finish) -> None:
    loaded = load("table1_cifar100")
    runs = [run for run in plan(loaded) if run.name == "baseline"]
    for count, run in enumerate(runs):
        cell = cells_of(loaded, out)[0]
        assert cell.seeds_text == f"{count} of 5 seeds"
        assert cell.within is None
        finish(run, 72.0 + count / 10)
    cell = cells_of(loaded, out)[0]
    assert cell.seeds_text == "5 seeds"
    assert cell.difference == pytest.approx(72.2 - 72.6)
    assert cell.within is True


def test_data_of_ones_own_go_by_the_name_of_their_folder(out: Path) -> None:
    loaded = load("claims_dvs128", overrides=["data.root=somewhere/mugs"])
    assert {cell.data_set for cell in cells_of(loaded, out)} == {"mugs"}
    assert {cell.data_set for cell in cells_of(load("claims_nmnist"), out)} == {"N-MNIST"}


@pytest.mark.parametrize(("accuracy", "within"), [(73.6, True), (73.61, False), (71.6, True), (71.59, False)])
def test_the_tolerance_itself_is_within(out: Path, finish: Finish, accuracy: float, within: bool) -> None:
    loaded = load("table1_cifar100")
    for run in plan(loaded, runs=["baseline"]):
        finish(run, accuracy)
    assert cells_of(loaded, out)[0].within is within


def verdicts(loaded: Loaded, out: Path, *seeds: int) -> tuple[object, str]:
    """What the table of the baseline's cell says of the tolerance, and its notes."""
    table = accuracy_table(cells_of(loaded, out, runs=["baseline"], seeds=seeds))
    shown = table.rows[0][[column.key for column in table.columns].index("within")]
    return getattr(shown, "text", None), " ".join(table.notes)


def test_only_the_papers_setting_is_judged_over_all_seeds_of_the_recipe(out: Path, finish: Finish) -> None:
    plain = load("table1_cifar100")
    for run in plan(plain, runs=["baseline"])[:2]:
        finish(run, 60.0)
    assert verdicts(plain, out)[0] is None
    assert verdicts(plain, out, 0, 1)[0] == "not judged"  # two of the recipe's five, by --seed or by --set
    assert verdicts(load("table1_cifar100", overrides=["seeds=[0, 1]"]), out)[0] == "not judged"
    assert "not all seeds of the recipe" in verdicts(plain, out, 0, 1)[1]
    for run in plan(plain, runs=["baseline"])[2:]:
        finish(run, 60.0)
    assert verdicts(plain, out)[0] == "OUTSIDE ±1"
    # What changes nothing of the computation leaves it the paper's setting.
    assert verdicts(load("table1_cifar100", overrides=["runtime.threads=1"]), out)[0] == "OUTSIDE ±1"
    for changed in (
        load("table1_cifar100", overlays=["laptop"]),
        load("table1_cifar100", overrides=["train.epochs=9"]),
    ):
        for run in plan(changed, runs=["baseline"]):
            finish(run, 72.6)
        assert cells_of(changed, out)[0].within is None
        assert verdicts(changed, out)[0] == "not judged"


def test_generated_data_is_not_judged(out: Path, finish: Finish) -> None:
    for run in plan(load("table1_cifar100"), runs=["baseline"]):
        finish(run, 72.6, source="generated")
    assert verdicts(load("table1_cifar100"), out)[0] == "not judged"


@pytest.mark.parametrize(
    ("precisions", "mark"), [(["fp32", "fp32"], ()), (["bf16", "bf16"], ("trained in bf16",)),
                             (["fp32", "bf16"], ("seed 0 trained in fp32, seed 1 trained in bf16: no mean",
                                                 "trained in bf16 and fp32"))]
)  # fmt: skip
def test_another_precision_than_fp32_is_marked(
    out: Path, finish: Finish, precisions: list[str], mark: tuple[str, ...]
) -> None:
    loaded = load("table1_cifar10")
    for run, precision in zip(plan(loaded, runs=["baseline"], seeds=[0, 1]), precisions, strict=True):
        finish(run, 93.0, precision=precision)
    assert cells_of(loaded, out, runs=["baseline"], seeds=[0, 1])[0].marks == mark


def test_marks_are_those_of_all_seeds(out: Path, finish: Finish) -> None:
    loaded = load("table1_cifar10")
    for run, source in zip(plan(loaded, runs=["baseline"]), ("official", "folder"), strict=False):
        finish(run, 93.0, source=source)
    apart = "seed 0 learned from other data than seed 1: no mean"
    assert cells_of(loaded, out)[0].marks == (apart, "class folders, not the official files")


def test_results_of_different_data_are_never_averaged(out: Path, finish: Finish) -> None:
    loaded = load("sec531_cifar100_three_networks")
    for run in plan(loaded, runs=["tna"]):
        finish(run, 75.0, sibling1=75.0, fingerprint="1" if run.seed == 2 else "0")
    cell = cells_of(loaded, out, runs=["tna"])[0]
    assert cell.finished
    assert (cell.mixed, cell.accuracy, cell.within) == (
        "seeds 0, 1, 3, 4 learned from other data than seed 2",
        None,
        None,
    )
    rows = [rows_by_key(table)[0] for table in (accuracy_table([cell]), twin_table([cell])) if table is not None]
    for row in rows:
        assert row["notes"] == "seeds 0, 1, 3, 4 learned from other data than seed 2: no mean"
        assert (row["seeds"], row["planned_seeds"], row["difference"]) == (5, 5, None)
    assert rows[1]["base_accuracy"] is None
    assert rows[1]["sibling_accuracy"] is None


def test_a_run_of_one_recipe_is_found_for_all(out: Path, finish: Finish) -> None:
    """Figure 2's run at alpha 1e-3 is Table 1's TNA, and Figure 3b's baseline is Table 1's."""
    for run in plan(load("table1_cifar100")):
        finish(run, 74.0)
    found = {
        (recipe, cell.name)
        for recipe in ("table2_cifar100", "fig2_cifar100_alpha", "fig3b_cifar100_kd", "sec531_cifar100_three_networks")
        for cell in cells_of(load(recipe), out)
        if cell.finished
    }
    assert found == {
        ("table2_cifar100", "baseline"), ("table2_cifar100", "tna"), ("fig2_cifar100_alpha", "alpha_1e-3"),
        ("fig3b_cifar100_kd", "baseline"), ("sec531_cifar100_three_networks", "baseline"),
        ("sec531_cifar100_three_networks", "tna"),
    }  # fmt: skip


def test_figures_share_their_runs() -> None:
    def identities(recipe: str) -> dict[str, str]:
        return {run.name: run.identity for run in plan(load(recipe), seeds=[0])}

    fig2, fig3a, fig3b = (
        identities(n) for n in ("fig2_cifar100_alpha", "fig3a_cifar100_kd_alpha", "fig3b_cifar100_kd")
    )
    assert fig2["alpha_1e-3"] == identities("table1_cifar100")["tna"]
    assert fig2["alpha_1e-4"] == fig3b["tna"]
    assert fig3a["kd_ce_1e-5"] == fig3b["kd_ce"]


def test_what_is_not_as_in_the_paper_is_marked(out: Path, finish: Finish, tmp_path: Path) -> None:
    loaded = load("table1_cifar10", overlays=["laptop"], overrides=["train.select=test", "seeds=[0]"])
    finish(plan(loaded)[0], 60.0, source="folder")
    marks = cells_of(loaded, out)[0].marks
    assert marks[:2] == ("with laptop", "set train.select=test")
    assert "epoch selected on the test set" in marks
    assert "class folders, not the official files" in marks
    plainly = load("table1_cifar10", overrides=["seeds=[0]"])
    assert "generated data" not in marks
    assert cells_of(plainly, out)[0].results == {}  # another run: what the overlay computed is not taken for it
    own = tmp_path / "own.yaml"
    own.write_text("extends: table1_cifar10\nname: own\n")
    assert "not a shipped recipe" in cells_of(load(own), out)[0].marks


def test_nothing_is_marked_without_a_reason(out: Path, finish: Finish) -> None:
    loaded = load("table1_cifar10")
    finish(plan(loaded)[0], 93.0)
    assert all(cell.marks == () for cell in cells_of(loaded, out))


def test_a_run_folder_is_read_alone(out: Path, finish: Finish) -> None:
    run = plan(load("table2_cifar10"))[-1]
    folder = finish(run, 92.5, sibling1=93.0)
    assert is_run_folder(str(folder.path))
    cell = cell_of_folder(folder)
    assert (cell.settings, cell.seeds, cell.accuracies("sibling1")) == (run.settings, (run.seed,), {run.seed: 93.0})
    (folder.path / "run.json").write_text('{"settings": {}}')
    with pytest.raises(DataError, match="damaged"):
        cell_of_folder(folder)


def test_recipes_are_found_by_what_they_reproduce() -> None:
    assert [one.recipe.name for one in recipes_for((), PaperPart(table=1))] == [
        "table1_cifar10", "table1_cifar100", "table1_fashion_mnist", "table1_cifar10dvs",
    ]  # fmt: skip
    assert [one.recipe.name for one in recipes_for((), PaperPart(figure="3"))] == [
        "fig3a_cifar100_kd_alpha",
        "fig3b_cifar100_kd",
    ]
    assert [one.recipe.name for one in recipes_for((), PaperPart(figure="3b"))] == ["fig3b_cifar100_kd"]
    with pytest.raises(
        UsageError, match=r"no shipped recipe reproduces figure 9 of the paper; --figure takes 2, 3a, 3b"
    ):
        recipes_for((), PaperPart(figure="9"))
    with pytest.raises(UsageError, match="does not say"):
        recipes_for(("table1_cifar10",), PaperPart(table=2))


def test_table_2_has_the_papers_rows(out: Path) -> None:
    cells = [cell for one in recipes_for((), PaperPart(table=2)) for cell in cells_of(one, out)]
    rows = accuracy_table(cells, number=2).rows
    assert [row[1] for row in rows[:5]] == ["FP-SNN", "B-SNN", "T-SNN", "TNA FP-SNN", "TNA T-SNN"]
    assert len(rows) == 20
    # Numbers of the paper, read off again for one column of the table.
    assert [row[4] for row in rows[5:10]] == [72.6, 69.85, 70.52, 75.0, 72.03]
    assert set(NAMES[2]) == {cell.name for cell in cells}


def test_table_3_sets_ours_beside_the_papers_own_rows(out: Path, finish: Finish) -> None:
    loaded = load("table2_cifar100", overrides=["seeds=[4]"])
    for run in plan(loaded):
        finish(run, 70.0)
    cells = [
        cell for one in recipes_for((), PaperPart(table=2), overrides=["seeds=[4]"]) for cell in cells_of(one, out)
    ]
    table = table3_report(cells)
    keys = [column.key for column in table.columns]
    ours = [dict(zip(keys, row, strict=True)) for row in table.rows if row[keys.index("ours")] is not None]
    assert [(row["data"], row["method"], row["published"]) for row in ours] == [
        ("CIFAR-100", "TNA SNN", 75.0), ("CIFAR-100", "TNA T-SNN", 72.03)
    ]  # fmt: skip
    assert len(table.rows) == len(table3())


def test_published_rows_say_where_they_are_from() -> None:
    rows = table3()
    assert sum(row.from_paper for row in rows) == 30
    assert all("not the paper's" not in row.source for row in rows)
    assert {row.ours for row in rows if row.method.startswith("TNA")} == {"tna", "tna_t_snn"}
    # Table 3's rows of the authors are those of Table 2, but for one.
    accuracy = {(d.recipe.runs["tna"].data.name, name): value for d in recipes_for((), PaperPart(table=2))
                for name, value in d.recipe.reproduces.accuracy.items()}  # fmt: skip
    differ = {
        (row.data, row.ours): row.accuracy for row in rows if row.ours and accuracy[row.data, row.ours] != row.accuracy
    }
    assert differ == {("fashion_mnist", "tna_t_snn"): 95.23}
    assert accuracy["fashion_mnist", "tna_t_snn"] == 95.24
    # Read off again: what the abstract of TSNN gives, and what its authors add to it.
    assert {(row.method, row.network, row.accuracy) for row in rows if row.method.startswith("TSNN")} == {
        ("TSNN, prototype", None, 89.07), ("TSNN, prototype", None, 65.24), ("TSNN, optimised", "spiking ResNet", 89.91),
        ("TSNN, optimised", "spiking ResNet", 65.75),
    }  # fmt: skip
    points = {(d.first, d.second): d.points for d in kd_differences()}
    assert points["TNA", "baseline"] == pytest.approx(points["TNA", "KD + CE"] + points["KD + CE", "baseline"])
    assert points["baseline", "KD"] == pytest.approx(points["TNA", "KD"] - points["TNA", "baseline"])


def test_base_against_twin_is_paired_over_seeds(out: Path, finish: Finish) -> None:
    loaded = load("sec531_cifar100_three_networks")
    for run in plan(loaded, runs=["tna"]):
        finish(run, 74.0 + run.seed, sibling1=73.5 + run.seed)
    table = twin_table(cells_of(loaded, out))
    assert table is not None
    assert len(table.rows) == 1
    row = dict(zip([column.key for column in table.columns], table.rows[0], strict=True))
    assert (row["difference"].mean, row["difference"].std) == (0.5, 0.0)
    assert row["p_signs"] == 2 / 2**5
    assert table.notes[0] == "p: two-sided, over the seeds; the paper finds no significant difference"
    alone = twin_table(cells_of(loaded, out, seeds=[0]))
    assert alone is not None
    assert alone.notes == ("the paper finds no significant difference",), "of one seed there is no p to explain"
    assert twin_table(cells_of(load("fig3a_cifar100_kd_alpha"), out)) is None


@pytest.mark.parametrize(
    ("alpha", "text"), [(1e-2, "1e-2"), (1e-6, "1e-6"), (2.5e-4, "2.5e-4"), (0.1, "0.1"), (1.0, "1")]
)
def test_alpha_as_the_paper_writes_it(alpha: float, text: str) -> None:
    assert alpha_text(alpha) == text


def test_reading_changes_nothing(out: Path) -> None:
    for one in recipes_for((), PaperPart(table=1)):
        cells_of(one, out)
    assert not out.exists()
    assert RunFolder(out / "x").result is None
