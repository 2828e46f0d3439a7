"""What `--dry-run` says of the weight of the matching loss: in one unit, whichever way it is reduced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna

RECIPE = """\
name: weights
data: {name: cifar100}
train: {batch_size: 256}
runs:
  baseline: {}
  sum: {objective: {kind: twin, alpha: 1e-3, reduction: sum}}
  small_batch: {objective: {kind: twin, alpha: 1e-3, reduction: sum}, train: {batch_size: 50}}
  batch_mean: {objective: {kind: distill, alpha: 1e-3}}
  mean: {objective: {kind: twin, alpha: 1e-3, reduction: mean}}
  by_timestep: {objective: {kind: twin, alpha: 1e-3, reduction: sum, logits: per_timestep}}
"""


def test_the_weight_is_stated_in_batch_means_or_why_it_cannot_be(tna: Tna, tmp_path: Path) -> None:
    recipe = tmp_path / "weights.yaml"
    recipe.write_text(RECIPE)
    runs = {run["run"]: run["matching"] for run in tna("train", recipe, "--dry-run", "--json").json["runs"]}
    assert runs.pop("baseline") is None
    weights = {name: run["weight_in_batch_means"] for name, run in runs.items()}
    assert weights == {
        "sum": pytest.approx(0.256),
        "small_batch": pytest.approx(0.05),
        "batch_mean": 1e-3,
        "mean": pytest.approx(1e-5),
        "by_timestep": None,
    }
    assert [name for name, run in runs.items() if run["why_not"]] == ["by_timestep"]
    shown = tna("train", recipe, "--dry-run").out.split("weights: weight of the matching loss")[1]
    assert [next(line.split()[3] for line in shown.splitlines() if line.startswith(name)) for name in runs] == [
        "0.256", "0.05", "0.001", "1e-05", "another",
    ]  # fmt: skip
    assert "no factor leads" in shown


def test_without_a_matching_loss_nothing_is_said_of_it(tna: Tna, tmp_path: Path) -> None:
    recipe = tmp_path / "alone.yaml"
    recipe.write_text("runs: {a: }\n")
    assert "matching" not in tna("train", recipe, "--dry-run").out
