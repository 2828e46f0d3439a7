"""Threads, memory and compiled regions of a run: what is chosen, and that it is refused where it has no effect."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.conftest import TINY
from tests.training.test_loop import StopAfter
from tnacli.build import build_objective
from tnacli.data.batches import Batches
from tnacli.data.load import load
from tnacli.errors import RecipeError, Stopped
from tnacli.experiment import Experiment, Outcome
from tnacli.objectives.objective import Objective
from tnacli.objectives.side_by_side import SideBySide, in_turn
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Features, Sibling, Solo, Twin
from tnacli.recipe.schema.recipe import Runtime, Settings, Train
from tnacli.snn import regions as regions_module
from tnacli.snn.native import Native
from tnacli.snn.network import SpikingNetwork
from tnacli.snn.regions import why_not_here
from tnacli.training import execution
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.device import keep_freed_memory
from tnacli.training.distributed import Ranks
from tnacli.training.events import EpochDone, Event, Started, Warned
from tnacli.training.execution import Execution, compile_regions, multiply_accumulates, prepare, threads

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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
    assert multiply_accumulates(network, frames=False) == once + 4 * rest
    assert multiply_accumulates(network, frames=True) == 4 * once + 4 * rest


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
    with threads(made(settings), settings, Execution(device, "fp32", Ranks())) as reason:
        assert torch.get_num_threads() == expected
        assert (reason is not None) == (settings.runtime.threads == "auto" and expected == 1)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("objective", "changed", "expected"),
    [
        (Twin(alpha=1), {}, True),
        (Twin(alpha=1, siblings=(Sibling(timesteps=4),)), {}, True),
        (Twin(alpha=1, siblings=(Sibling(timesteps=2),)), {}, False),
        (Twin(alpha=1, siblings=(Sibling(width=0.5),)), {}, False),
        (Twin(alpha=1, siblings=(Sibling(), Sibling())), {}, False),
        (Twin(alpha=1, features=Features(alpha=0.1)), {}, False),
        (Solo(), {}, False),
        (Twin(alpha=1), {"threads": 3}, False),
        (Twin(alpha=1), {"threads": 1}, False),
        (Twin(alpha=1), {"compile": "on"}, False),
    ],
)
def test_networks_are_computed_side_by_side_where_they_cost_the_same(
    objective: Twin | Solo, changed: dict[str, int | str], expected: bool
) -> None:
    """And where their number divides that of threads, so that no core waits for another's network."""
    settings = small(64, **{"threads": 2, **changed}).model_copy(update={"objective": objective})
    networks = made(settings)
    with threads(networks, settings, Execution(CPU, "fp32", Ranks())):
        beside = getattr(networks, "outputs_of", in_turn)
        assert isinstance(beside, SideBySide) == expected
    assert getattr(networks, "outputs_of", in_turn) is in_turn
    assert torch.get_num_threads() == 3


def test_a_small_run_is_the_same_on_any_number_of_cores(tmp_path: Path) -> None:
    found: list[dict[str, torch.Tensor]] = []
    for cores in (1, 2, 3):
        torch.set_num_threads(cores)
        outcome = Experiment(tmp_path / str(cores)).execute(Run("tiny", "run", 0, TINY))
        found.append(load_checkpoint(outcome.checkpoint).tensors)
    assert all(torch.equal(one[name], found[0][name]) for one in found for name in found[0])


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


def digits(batch_size: int, samples: int = 120, rank: int = 0, world: int = 1) -> Batches:
    """The training batches of the digits; nothing is moved to a device."""
    dataset = load(TINY.data.model_copy(update={"train_samples": samples}), 3)
    return Batches(dataset.train, dataset, batch_size, CPU, training=True, rank=rank, world=world)


@pytest.mark.parametrize(
    ("compile", "device", "compiled", "reason"),
    [
        ("on", CUDA, False, "layers are not compiled: on CUDA the operator in Triton"),
        ("on", CPU, True, "minutes at first"),
        ("off", CPU, False, None),
        ("off", CUDA, False, None),
    ],
)
def test_what_is_compiled(
    compile: str, device: torch.device, compiled: bool, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions_module.shutil, "which", lambda compiler: f"/usr/bin/{compiler}")
    settings = small(compile=compile)
    objective = made(settings.model_copy(update={"objective": Twin(alpha=1e-3)}))
    regions, said = compile_regions(objective, settings, device, digits(32))
    assert said == reason if reason is None else reason in str(said)
    assert (regions is not None) == compiled
    for network in objective.networks.values():
        assert isinstance(network, SpikingNetwork)
        assert all(layer.regions is regions for layer in network.spiking.values())


@pytest.mark.parametrize(("samples", "rank", "world", "expected"), [(120, 0, 1, 32), (20, 0, 1, 20), (120, 2, 3, 10)])
def test_regions_are_for_this_process_s_share_of_a_full_batch(
    samples: int, rank: int, world: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "why_not_here", lambda device: None)
    settings, batches = small(compile="on"), digits(32, samples, rank, world)
    regions, _ = compile_regions(made(settings), settings, CPU, batches)
    assert regions is not None
    assert regions.samples == expected == len(next(iter(batches.epoch())).labels)


def test_a_machine_that_cannot_compile_says_why_and_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "why_not_here", lambda device: "there is no compiler")
    settings = small(compile="on")
    regions, said = compile_regions(made(settings), settings, CPU, digits(32))
    assert regions is None
    assert said == "layers are not compiled: there is no compiler"


def test_compiling_is_refused_where_it_has_no_effect() -> None:
    with pytest.raises(ValidationError, match="has no effect on an artificial network"):
        Settings(model=Model(spiking=False), runtime=Runtime(compile="on"))
    own = Model.model_validate({"build": "tests.snn.own_networks:pooled_by_maximum", "timesteps": 3})
    settings = Settings(model=own, runtime=Runtime(compile="on"))
    with pytest.raises(RecipeError, match=r"runtime\.compile: is on and has no effect"):
        compile_regions(made(settings), settings, CPU, digits(32))


def test_how_a_run_is_executed_is_no_part_of_its_identity() -> None:
    runs = [Run("tiny", "run", 0, small(compile=how)) for how in ("on", "off")]
    assert len({run.identity for run in runs}) == 1


def trained(out: Path, compile: str) -> tuple[list[float], list[Event], Outcome]:
    """Training losses, all events and the outcome of a tiny run with a smaller last batch.

    Two epochs: ways of computing that differ in rounding come apart once a rounding makes or unmakes a spike.
    """
    events: list[Event] = []
    model = Model(layout="8C3-AP4-12FC", timesteps=3)
    update = {"model": model, "objective": Twin(alpha=1e-3), "runtime": Runtime.model_validate({"compile": compile}),
              "train": TINY.train.model_copy(update={"epochs": 2})}  # fmt: skip
    run = Run("tiny", "run", 0, TINY.model_copy(update=update))
    outcome = Experiment(out, emit=lambda run, event: events.append(event)).execute(run)
    return [event.train_loss for event in events if isinstance(event, EpochDone)], events, outcome


@pytest.mark.slow
def test_a_compiled_run_is_the_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why_not := why_not_here(CPU):
        pytest.skip(why_not)
    compiled: dict[Any, Any] = {}
    monkeypatch.setattr(regions_module, "_COMPILED", compiled)
    expected, _, plain = trained(tmp_path / "plain", "off")
    losses, events, outcome = trained(tmp_path / "compiled", "on")
    assert losses == pytest.approx(expected, rel=1e-4)
    assert len(compiled) == 2  # base and twin share them, and the last, smaller batch has none
    assert not [event for event in events if isinstance(event, Warned) and "torch.compile" in event.message]
    (started,) = [event for event in events if isinstance(event, Started)]
    assert any("layers are compiled" in note for note in started.notes)
    assert (outcome.result.compiled_regions, plain.result.compiled_regions) == (True, False)
    assert outcome.result.accuracy == plain.result.accuracy


def test_a_run_whose_layers_cannot_be_compiled_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(function: object, **options: object) -> None:
        raise RuntimeError("no such compiler")

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(execution, "why_not_here", lambda device: None)
    expected, _, _ = trained(tmp_path / "plain", "off")
    losses, events, outcome = trained(tmp_path / "compiled", "on")
    assert losses == pytest.approx(expected, rel=1e-4)
    (warned,) = [event.message for event in events if isinstance(event, Warned) and "torch.compile" in event.message]
    assert "no such compiler" in warned
    assert outcome.result.compiled_regions is False


COMPILED, NO_COMPILER = Native(ctypes.CDLL(None), "compiled by cc"), Native(None, "no C compiler found")


def told(out: Path, *seeds: int, **settings: object) -> tuple[list[str], list[str], list[Outcome]]:
    """Warnings, notes and outcomes of runs that train for no epoch."""
    events: list[Event] = []
    wanted = TINY.model_copy(update={"train": Train(epochs=0), **settings})
    experiment = Experiment(out, emit=lambda run, event: events.append(event))
    outcomes = [experiment.execute(Run("tiny", "run", seed, wanted)) for seed in seeds]
    warned = [event.message for event in events if isinstance(event, Warned)]
    return warned, [note for event in events if isinstance(event, Started) for note in event.notes], outcomes


def test_the_slow_path_is_warned_of_once_and_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TNA_NATIVE", raising=False)
    monkeypatch.setattr(execution, "native", lambda: NO_COMPILER)
    warned, notes, outcomes = told(tmp_path / "slow", 0, 1)
    said = "the slow path, without compiled kernels: no C compiler found"
    assert [message.startswith(said) for message in warned] == [True]
    assert [said in note for note in notes].count(True) == 1, "of the second run, for whoever looks closely"
    assert [outcome.result.kernels for outcome in outcomes] == ["plain", "plain"]
    monkeypatch.setattr(execution, "native", lambda: COMPILED)
    warned, notes, outcomes = told(tmp_path / "fast", 0)
    assert not [text for text in (*warned, *notes) if "slow path" in text]
    assert "digits from embedded samples" in notes
    assert outcomes[0].result.kernels == "compiled"


def test_whoever_switches_kernels_off_is_not_warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNA_NATIVE", "0")
    monkeypatch.setattr(execution, "native", lambda: Native(None, "switched off by TNA_NATIVE=0"))
    warned, notes, outcomes = told(tmp_path, 0)
    assert warned == []
    assert "the slow path, without compiled kernels: switched off by TNA_NATIVE=0" in notes
    assert outcomes[0].result.kernels == "plain"


def test_where_kernels_do_not_apply_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TNA_NATIVE", raising=False)
    monkeypatch.setattr(execution, "native", lambda: NO_COMPILER)
    warned, notes, outcomes = told(tmp_path, 0, model=TINY.model.model_copy(update={"spiking": False}))
    assert not [text for text in (*warned, *notes) if "slow path" in text]
    assert outcomes[0].result.kernels == "plain"


@pytest.mark.parametrize("began", ["plain", "compiled"])
@pytest.mark.parametrize("goes_on", ["plain", "compiled"])
def test_a_run_that_goes_on_tells_what_all_of_it_was_computed_by(
    began: str, goes_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"plain": NO_COMPILER, "compiled": COMPILED}
    run = Run("tiny", "run", 0, TINY)
    monkeypatch.setattr(execution, "native", lambda: there[began])
    with pytest.raises(Stopped):
        Experiment(tmp_path, stop=StopAfter(5)).execute(run)
    for _ in range(2):  # a second stop does not forget how the run began
        monkeypatch.setattr(execution, "native", lambda: there[goes_on])
        with contextlib.suppress(Stopped):
            Experiment(tmp_path, stop=StopAfter(3)).execute(run)
    outcome = Experiment(tmp_path).execute(run)
    assert outcome.result.kernels == (began if began == goes_on else "mixed")
    assert load_checkpoint(outcome.checkpoint).metadata.kernels == outcome.result.kernels
