"""Threads and memory of a run: what is chosen, that it is undone, and that it is refused where it has no effect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pydantic import ValidationError

from tnacli.build import build_objective
from tnacli.objectives.objective import Objective
from tnacli.recipe.model_section import Model
from tnacli.recipe.objective_section import Twin
from tnacli.recipe.schema import Runtime, Settings, Train
from tnacli.snn.network import SpikingNetwork
from tnacli.training.device import keep_freed_memory
from tnacli.training.execution import multiply_accumulates, prepare, threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def made(settings: Settings) -> Objective:
    return build_objective(settings, channels=1, size=(8, 8), classes=10, seed=0)


def small(batch_size: int = 64, **runtime: object) -> Settings:
    model = Model(layout="16C3-AP2-32C3-AP2-64FC", timesteps=4)
    return Settings(model=model, train=Train(batch_size=batch_size), runtime=Runtime.model_validate(runtime))


def test_work_is_counted_from_the_layers() -> None:
    (network,) = made(small()).networks.values()
    assert isinstance(network, SpikingNetwork)
    once, rest = 16 * 64 * 9, 32 * 16 * 16 * 9 + 64 * 32 * 4 + 10 * 64
    assert multiply_accumulates(network) == once + 4 * rest


@pytest.mark.parametrize(
    ("settings", "device", "expected"),
    [
        (small(), CPU, 1),
        (small(6400), CPU, 3),
        (small(threads=2), CPU, 2),
        (small(6400, threads=1), CPU, 1),
        (small(), torch.device("cuda"), 3),
    ],
)
def test_threads(settings: Settings, device: torch.device, expected: int) -> None:
    with threads(made(settings), settings, device) as reason:
        assert torch.get_num_threads() == expected
        assert (reason is not None) == (settings.runtime.threads == "auto" and expected == 1)
    assert torch.get_num_threads() == 3


def test_low_memory_reaches_every_network() -> None:
    settings = small(memory="low").model_copy(update={"objective": Twin(alpha=1e-3)})
    objective = made(settings)
    try:
        prepare(objective, settings)
    finally:
        keep_freed_memory()
    for network in objective.networks.values():
        assert isinstance(network, SpikingNetwork)
        assert [layer.keeps_small for layer in network.spiking.values()] == [False, True, True]


def test_low_memory_is_refused_where_it_has_no_effect() -> None:
    for model in (Model(spiking=False), Model.model_validate({"build": "package.module:function"})):
        with pytest.raises(ValidationError, match="has no effect on"):
            Settings(model=model, runtime=Runtime(memory="low"))
