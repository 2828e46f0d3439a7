"""`tnacli.train`: the same runs as the command line's, with results to plot."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import tnacli
from tests.cli.conftest import TINY_RECIPE, Tna
from tests.cli.conftest import tna as tna
from tnacli.errors import DivergedError, RecipeError, UsageError
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings, Train

ROOT = Path(__file__).parents[1]
TINY = Settings(
    data=Data(name="digits", train_samples=120, test_samples=60),
    model=Model(layout="4C3-AP2-6C3-AP2-12FC", timesteps=2),
    train=Train(epochs=2, batch_size=40),
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


def test_runs_and_results_are_those_of_the_command_line(
    tna: Tna, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    first, second = tnacli.train(recipe, seed=3, overrides={"train.epochs": 2}, out=out)
    assert (first.name, second.name, first.seed) == ("baseline", "tna_t_snn", 3)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "baseline seed 3: epoch 2/2, loss" in printed.err
    told = tna("train", recipe, "--seed", 3, "--set", "train.epochs=2", "--out", out, "--json").json["runs"]
    assert [(run["trained"], run["folder"], run["accuracy"]["base"]) for run in told] == [
        (False, str(one.folder), one.accuracy) for one in (first, second)
    ]  # fmt: skip
    assert first.curves["epoch"] == (1, 2)
    assert len(second.curves["train_loss"]) == 2
    assert first.curves["accuracy.base"][-1] == pytest.approx(first.accuracy, rel=1e-3)
    model = second.load()
    assert (model.weights, model(np.zeros((1, 1, 8, 8), np.uint8)).shape) == ("ternary", (1, 10))
    (again,) = tnacli.train(recipe, run="baseline", seed=3, overrides={"train.epochs": 2}, out=out, quiet=True)
    assert again == first
    assert capsys.readouterr().err == ""


def test_what_a_compressed_run_needs_is_kept_for_another_day(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text() + "  t_snn: {compression: {mode: ternary, delta: 0.05}}\n")
    (result,) = tnacli.train(recipe, run="baseline", out=tmp_path, quiet=True)
    assert (result.folder / "epoch-2.pt").exists()


def test_settings_are_a_run_of_their_own(tmp_path: Path) -> None:
    (result,) = tnacli.train(TINY, run="mine", out=tmp_path, quiet=True)
    assert result.folder.parent == tmp_path / "python"
    assert result.folder.name.startswith("mine-seed0-")
    (same,) = tnacli.train(TINY.model_dump(mode="json"), run="mine", out=tmp_path, quiet=True)
    assert same == result


def test_a_notebook_gets_progress_in_the_output_of_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    tnacli.train(TINY, out=tmp_path)
    printed = capsys.readouterr()
    assert (printed.err, "epoch 2/2" in printed.out) == ("", True)


def test_mistakes_raise_what_the_command_exits_with(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        tnacli.train(recipe, overrides={"train.epoch": 3}, out=tmp_path)
    with pytest.raises(RecipeError, match=r"the settings are wrong:\nmodel\.layout"):
        tnacli.train({"data": {"name": "digits"}, "model": {"layout": 3}}, out=tmp_path)
    with pytest.raises(
        RecipeError, match=r"the settings are wrong:\ntrain\.select is val, and data\.validation_samples is 0"
    ):
        tnacli.train({"data": {"name": "digits"}, "train": {"select": "val"}}, out=tmp_path)
    with pytest.raises(UsageError, match="has no run 'nothing'"):
        tnacli.train(recipe, run="nothing", out=tmp_path)
    with pytest.raises(UsageError, match="overrides are for recipes"):
        tnacli.train(TINY, overrides={"train.epochs": 3}, out=tmp_path)
    with pytest.raises(UsageError, match="settings are those of one run"):
        tnacli.train(TINY, run=["a", "b"], out=tmp_path)
    with pytest.raises(DivergedError, match="1 of 1 runs diverged"):
        tnacli.train(recipe, run="baseline", overrides={"train.learning_rate": 1e30}, out=tmp_path, quiet=True)


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="only in a checkout")
def test_the_documented_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import matplotlib.*?)```", page, flags=re.S)
    assert len([line for line in lines.splitlines() if line.strip()]) <= 5
    few = 'seed=0, overrides={"train.epochs": 1, "data.train_samples": 100}'
    lines = lines.replace("seed=0", few)
    assert few in lines
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    assert len(pyplot.gca().lines) == 2
    pyplot.close("all")
