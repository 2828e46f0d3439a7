"""The table of a sweep, and the best of its values: by validation, never by the test set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.conftest import Finish
from tnacli.recipe.parse import load, plan
from tnacli.report.cells import cells_of, on_validation
from tnacli.report.sweep import best, best_text, points_of, sweep_table
from tnacli.report.table import rows_by_key

RECIPE = """\
seeds: [0, 1]
data: {validation_samples: 100}
runs: {tna: {objective: {kind: twin, alpha: [1e-2, 1e-3]}}}
"""


def test_the_best_is_that_by_validation(finish: Finish, out: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(RECIPE)
    loaded = load(tmp_path / "s.yaml")
    (sweep,) = loaded.sweeps
    found = {("tna[alpha=0.01]", 0): (90.0, 70.0), ("tna[alpha=0.01]", 1): (92.0, 72.0),
             ("tna[alpha=0.001]", 0): (80.0, 75.0), ("tna[alpha=0.001]", 1): (82.0, 77.0)}  # fmt: skip
    for number, run in enumerate(plan(loaded)):
        points = points_of(cells_of(loaded, out), sweep)
        assert best(points) == () or number == 4
        test, validation = found[run.name, run.seed]
        finish(run, test, validation=validation)
    points = points_of(cells_of(loaded, out), sweep)
    assert best(points) == ("tna[alpha=0.001]",), "the other is better on the test set"
    assert best_text(points, sweep) == "tna: best by validation: alpha=0.001 (76.00 %, mean of 2 seeds)"
    rows = rows_by_key(sweep_table(points, sweep))
    assert [(row["objective.alpha"], row["validation"]["mean"], row["accuracy"]["mean"], row["best"]) for row in rows] == [
        (0.01, 71.0, 91.0, False), (0.001, 76.0, 81.0, True),
    ]  # fmt: skip
    held_out = rows_by_key(sweep_table(points_of(on_validation(cells_of(loaded, out)), sweep), sweep))
    assert [(row["validation"]["mean"], row["accuracy"]) for row in held_out] == [(71.0, None), (76.0, None)]


def test_without_validation_samples_none_is_the_best(finish: Finish, out: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(RECIPE.replace("100", "0"))
    loaded = load(tmp_path / "s.yaml")
    for run, accuracy in zip(plan(loaded), (90.0, 80.0, 91.0, 81.0), strict=True):
        finish(run, accuracy)
    points = points_of(cells_of(loaded, out), loaded.sweeps[0])
    assert best(points) == ()
    assert "the test set is not for choosing" in best_text(points, loaded.sweeps[0])


def test_a_picture_of_a_sweep(finish: Finish, out: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    from tnacli.report.sweep_plot import save_sweeps

    (tmp_path / "s.yaml").write_text(RECIPE)
    loaded = load(tmp_path / "s.yaml")
    for run in plan(loaded):
        finish(run, 90.0)
    save_sweeps(tmp_path / "s.svg", [(loaded.sweeps[0], cells_of(loaded, out))])
    drawn = (tmp_path / "s.svg").read_text()
    assert all(word in drawn for word in ("objective.alpha", "accuracy (%)", "test"))
