"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.compression import Ternary
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Twin
from tnacli.recipe.schema.recipe import Settings, Train


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, or finds data that happens to lie around."""
    monkeypatch.setenv("TNA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("TNA_DATA", raising=False)


@pytest.fixture(autouse=True, scope="module")
def _collected() -> None:
    """Let the garbage collector leave out what is there now: modules and tests, which live as long as the process.

    Every training collects twice, to measure its memory, and going through them all takes longer than the training itself.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test once with each of these numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


# The networks here are far too small to share their work among threads.
torch.set_num_threads(1)

# The same examples on every run: a change is judged by what it changed. New ones: pytest --hypothesis-profile=search
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("same")

TINY = Settings(
    data=Data(name="digits", train_samples=120, test_samples=60),
    model=Model(layout="4C3-AP2-6C3-AP2-12FC", timesteps=3),
    train=Train(epochs=4, batch_size=32),
)
"""A run of a second: real digits, a network of a few hundred weights, every phase there is."""


@pytest.fixture
def tiny() -> Settings:
    return TINY


def tiny_tna_t_snn() -> Settings:
    """The tiny run with a twin and ternary weights."""
    return TINY.model_copy(update={"objective": Twin(alpha=1e-3), "compression": Ternary(start=2, delta=0.05)})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished tiny ternary run with a twin."""
    out = tmp_path_factory.mktemp("trained")
    return Experiment(out).execute(Run("tiny", "tna_t_snn", 0, tiny_tna_t_snn()))


@pytest.fixture(scope="session")
def trained_full(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished tiny full-precision run with a twin."""
    settings = TINY.model_copy(update={"objective": Twin(alpha=1e-3)})
    return Experiment(tmp_path_factory.mktemp("trained_full")).execute(Run("tiny", "tna", 0, settings))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs"
