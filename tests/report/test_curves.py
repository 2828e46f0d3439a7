"""Curves are what metrics.jsonl says, and the pictures and pages hold all of it."""

from __future__ import annotations

import itertools
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.documents import ROOT
from tests.report.conftest import Finish
from tnacli.errors import UsageError
from tnacli.recipe.parse.load import load, plan
from tnacli.report.cells import cells_of
from tnacli.report.curves import METRICS, curve, curves, label, last_epoch_table
from tnacli.report.table import text
from tnacli.runs.recorded import Ledger

SEEDS = ["seeds=[0, 1, 2]"]


def test_mean_and_range_over_the_seeds(out: Path, finish: Finish) -> None:
    loaded = load("table1_cifar10", overrides=SEEDS)
    for run in plan(loaded, runs=["tna"]):
        finish(run, 90.0 + 3 * run.seed, epochs=3)
    cell = cells_of(loaded, out)[1]
    found = curve(cell)
    assert found is not None
    series = found.series["val_accuracy"]
    assert series.epochs == (1, 2, 3)
    assert (series.low[-1], series.mean[-1], series.high[-1]) == (90.0, 93.0, 96.0)
    assert set(found.series) == set(METRICS)
    assert found.series["train_loss"].mean == (
        1.0,
        0.5,
        pytest.approx(1 / 3),
    )  # the base's own, without the twin's part
    assert (found.alpha, found.seeds, found.finished) == (1e-3, 3, True)
    assert curve(cells_of(loaded, out)[0]) is None


def test_finished_seeds_are_not_mixed_with_those_begun(out: Path, finish: Finish) -> None:
    loaded = load("table1_cifar10", overrides=SEEDS)
    first, second, third = plan(loaded, runs=["baseline"])
    finish(first, None, epochs=2)
    finish(second, None, epochs=5)
    begun = curve(cells_of(loaded, out)[0])
    assert begun is not None
    assert (begun.seeds, begun.series["val_accuracy"].epochs) == (2, (1, 2))  # no mean over changing seeds
    finish(third, 90.0, epochs=4)
    done = curve(cells_of(loaded, out)[0])
    assert done is not None
    assert (done.seeds, done.series["val_accuracy"].epochs, done.finished) == (1, (1, 2, 3, 4), False)


def test_an_epoch_written_twice_counts_once(out: Path, finish: Finish) -> None:
    loaded = load("table1_cifar10", overrides=["seeds=[0]"])
    folder = finish(plan(loaded)[0], 90.0, epochs=2)
    lines = (folder.path / "metrics.jsonl").read_text()
    (folder.path / "metrics.jsonl").write_text(lines + lines.splitlines()[-1] + '\n{"epoch": 3, "trai')
    found = curve(cells_of(loaded, out)[0])
    assert found is not None
    assert found.series["val_accuracy"].epochs == (1, 2)


@pytest.mark.parametrize("begun", [False, True])
def test_seeds_of_different_data_have_no_mean_curve(out: Path, finish: Finish, begun: bool) -> None:
    loaded = load("table1_cifar10", overrides=SEEDS)
    for run in plan(loaded, runs=["tna"]):
        finish(run, None if begun else 90.0, fingerprint="1" if run.seed == 0 else "0")
    cells = cells_of(loaded, out, runs=["tna"])
    assert curve(cells[0]) is None
    assert last_epoch_table(cells, "t").rows[0][-1] == "seed 0 learned from other data than seeds 1, 2: no mean"


def test_figure_2_lists_every_run(out: Path, finish: Finish) -> None:
    loaded = load("fig2_cifar100_alpha", overrides=["seeds=[0]"])
    finish(plan(loaded, runs=["alpha_1e-4"])[0], 74.0)
    table = last_epoch_table(cells_of(loaded, out), "Figure 2")
    rows = {text(row[1], table.columns[1]): row for row in table.rows}
    assert list(rows) == ["1e-4", "1e-2", "1e-3", "1e-5", "1e-6"]  # what there is first
    assert rows["1e-4"][-2] == 74.0
    assert rows["1e-2"][-1] == "no epoch yet"


def test_pictures_show_every_curve_and_are_the_same_each_time(out: Path, finish: Finish, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from tnacli.report.plots import save_figure, save_panels

    loaded = load("table2_cifar10", overrides=["seeds=[0, 1]"])
    for run in plan(loaded):
        finish(run, 90.0, epochs=8)
    found = curves(cells_of(loaded, out))
    for name in ("a.svg", "b.svg", "c.png", "d.pdf"):
        save_figure(tmp_path / name, found, list(METRICS), title="all of them")
    svg = (tmp_path / "a.svg").read_text()
    assert svg == (tmp_path / "b.svg").read_text()
    texts = {element.text for element in ElementTree.fromstring(svg).iter() if element.text}
    assert {one.label for one in found} <= texts
    assert {label(key, found) for key in METRICS} <= texts
    assert "test accuracy (%)" in texts  # no samples are held out
    held_out = [replace(one, measured_on="validation") for one in found]
    save_figure(tmp_path / "v.svg", held_out, list(METRICS))
    assert "validation accuracy (%)" in (tmp_path / "v.svg").read_text()
    assert label("val_loss", [found[0], held_out[0]]) == "test or validation loss"
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")
    save_panels(tmp_path / "e.svg", [("(a) left", found[:2]), ("(b) right", found[2:])], "val_accuracy")
    assert "(b) right" in (tmp_path / "e.svg").read_text()
    with pytest.raises(UsageError, match="nothing to draw"):
        save_figure(tmp_path / "f.png", [], ["val_loss"])


@given(st.floats(-9, 1), st.floats(-9, 1), st.booleans())
def test_a_stronger_alpha_is_never_lighter(first: float, second: float, distilled: bool) -> None:
    """So that curves can be told apart in grey; a method has the same colour at the same alpha wherever it is drawn."""
    pytest.importorskip("matplotlib")
    from tnacli.report.plots import alpha_colour

    def light(colour: str) -> float:
        red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    strong, weak = max(first, second), min(first, second)
    shown = [light(alpha_colour(10**exponent, distilled=distilled)) for exponent in (strong, weak)]
    assert shown[0] <= shown[1] + 0.5


@pytest.mark.parametrize("distilled", [False, True])
def test_neighbouring_alphas_differ_in_grey(distilled: bool) -> None:
    pytest.importorskip("matplotlib")
    from tnacli.report.plots import alpha_colour

    colours = [alpha_colour(10.0**-n, distilled=distilled) for n in range(7)]
    greys = [sum(w * int(c[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) for c in colours]
    assert min(b - a for a, b in itertools.pairwise(greys)) > 15
    assert greys[-1] < 200  # still seen on white


def test_a_twin_and_distillation_differ_in_colour_at_the_same_alpha() -> None:
    """As in Figure 3b of a recipe that takes one alpha for both."""
    pytest.importorskip("matplotlib")
    from tnacli.report.plots import colour

    recipe = load("claims_cifar100")
    found = {one.method: colour(one) for one in curves(cells_of(recipe, Ledger.at(ROOT / "docs" / "results")))}
    assert len({found[method] for method in ("baseline", "KD", "KD + CE", "TNA")}) == 4


def test_every_curve_of_a_recipe_looks_different() -> None:
    """By colour, mark, filling and line; those of Figures 2 and 3 in the ledger are all there."""
    pytest.importorskip("matplotlib")
    from tnacli.report.plots import looks

    found = curves(cells_of(load("figures_cifar10"), Ledger.at(ROOT / "docs" / "results")))
    assert len(found) == 12
    assert len({str(looks(one)) for one in found}) == len(found)


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from tnacli.report.plots import require_matplotlib

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'tnacli\[plots\]'"):
        require_matplotlib()


def test_the_page_stands_alone(out: Path, finish: Finish) -> None:
    pytest.importorskip("matplotlib")
    from tnacli.report.page import page

    loaded = load("table2_cifar10", overrides=["seeds=[0, 1]", "data.root=/x<b>&y"])
    for run in plan(loaded, runs=["tna_t_snn"]):
        finish(run, 92.0, sibling1=93.0)
    text = page("a <title> & more", "described", cells_of(loaded, out), lines={}, made_by="by a test")
    assert "<script" not in text
    assert "a &lt;title&gt; &amp; more" in text
    # Nothing is fetched: what looks like an address is a name of an XML vocabulary or a reference within the page.
    fetched = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', text)
    assert all(reference.startswith("#") for reference in fetched)
    for said in (
        "0.500",
        "20.0 / 50.0 / 30.0",
        "conv2",
        "0.062",
        "0 of 2 seeds",
        "Base against twin",
        "</svg>",
        "official",
    ):
        assert said in text, said
    ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


def test_the_page_of_nothing_says_so(out: Path) -> None:
    from tnacli.report.page import page

    assert "No run has finished an epoch yet" in page(
        "t", "", cells_of(load("table1_cifar10"), out), lines={}, made_by=""
    )
