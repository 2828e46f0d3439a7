"""Every shipped recipe resolves, can be planned, and trains under `--with smoke`, so that none can rot."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.cli.conftest import Tna, tna  # noqa: F401
from tnacli.experiment import Experiment
from tnacli.recipe.datasets import OWN
from tnacli.recipe.parse.find import list_overlays, list_recipes
from tnacli.recipe.parse.load import load, plan
from tnacli.recipe.schema.objective import Distill, Twin

RECIPES = [entry.name for entry in list_recipes()]
PAPER = [name for name in RECIPES if load(name).recipe.reproduces.tables or load(name).recipe.reproduces.figures]


@pytest.fixture(scope="session")
def runs_of_smoke(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """One folder for all recipes: what two of them share is trained once."""
    return Experiment(tmp_path_factory.mktemp("smoke"))


LONG = (
    "alpha_cifar10",
    "claims_cifar10",
    "claims_cifar100",
    "networks_cifar100",
    "open_points_cifar10",
    "readings_cifar10",
    "siblings_cifar100",
)
"""Recipes of many runs, or deep ones: they take longer than all others together, and .ci/run tries them."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in RECIPES]
)
def test_it_trains_under_smoke(name: str, runs_of_smoke: Experiment) -> None:
    loaded = load(name, overlays=["smoke"])
    for run in plan(loaded):
        result = runs_of_smoke.execute(run).result
        assert result.data.source == "generated"
        assert result.compressed == (run.settings.compression.mode if run.settings.compression else None)
        assert len(result.accuracy) == 1 + len(getattr(run.settings.objective, "siblings", ()))
        assert all(math.isfinite(loss) for loss in result.loss.values())


@pytest.mark.parametrize("name", RECIPES)
def test_its_plan_can_be_seen(name: str, tna: Tna, out: Path) -> None:  # noqa: F811
    planned = tna("train", name, "--dry-run", "--out", out, "--json")
    assert planned.code == 0, planned.err
    assert len(planned.json["runs"]) == len(plan(load(name)))
    # Of recordings of one's own, which are not there, the number of classes is not known.
    own = next(iter(load(name).recipe.runs.values())).data.name in OWN
    assert all(run["size"] is None if own else run["size"]["parameters"] > 0 for run in planned.json["runs"])
    assert not out.exists()


@pytest.mark.parametrize("overlay", [entry.name for entry in list_overlays()])
@pytest.mark.parametrize("name", RECIPES)
def test_every_overlay_fits_it(name: str, overlay: str) -> None:
    assert load(name, overlays=[overlay]).altered == (f"with {overlay}",)


@pytest.mark.parametrize("name", ["table2_cifar100", "claims_cifar100"])
def test_an_hour_on_a_gpu_is_half_the_width_on_all_of_the_data(name: str) -> None:
    """The four trainings that full-size evidence is about, each to be stopped and gone on with by `--time-limit`."""
    recipe = load(name, overlays=["gpu-hour"]).recipe
    assert recipe.seeds == (0,)
    assert {"baseline", "tna", "t_snn", "tna_t_snn"} <= recipe.runs.keys()
    for settings in recipe.runs.values():
        assert (settings.model.width, settings.train.epochs, settings.train.precision) == (0.5, 60, "bf16")
        assert (settings.data.train_samples, settings.data.test_samples, settings.data.size) == (None, None, None)


@pytest.mark.parametrize("name", PAPER)
def test_it_is_as_the_paper_says(name: str) -> None:
    """What the paper states and a recipe could get wrong; the open points are the defaults, and no recipe's business."""
    recipe = load(name).recipe
    for settings in recipe.runs.values():
        assert settings.model.timesteps == 5
        assert (settings.model.layout, settings.model.width) == ("cifarnet", 1.0)
        train = settings.train
        assert (train.epochs, train.batch_size, train.learning_rate, train.schedule.gamma) == (250, 256, 0.01, 0.928)
        assert train.select == "last"
        assert settings.model.dropout == (0.5 if settings.data.name == "cifar10dvs" else 0.2)
        if settings.compression:
            assert settings.compression.start == "60%"
        if recipe.reproduces.tables and isinstance(settings.objective, Twin):
            assert settings.objective.alpha == (1e-3 if settings.data.name in ("cifar10", "cifar100") else 1e-4)
        if isinstance(settings.objective, Distill | Twin):
            assert settings.objective.match == "mse"


def test_every_table_and_figure_has_its_recipes() -> None:
    found = {name: load(name).recipe.reproduces for name in RECIPES}
    assert sorted(figure for one in found.values() for figure in one.figures) == ["2", "3a", "3b"]
    for table in (1, 2):
        sets = [next(iter(load(n).recipe.runs.values())).data.name for n, one in found.items() if table in one.tables]
        assert sorted(sets) == ["cifar10", "cifar100", "cifar10dvs", "fashion_mnist"]
    assert "5.3.1" in {section for one in found.values() for section in one.sections}
