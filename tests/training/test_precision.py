"""Arithmetic of training: fp32 on every machine unless the recipe asks for another, whatever the hardware is good at."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import TINY
from tests.training.test_loop import StopAfter
from tnacli import build
from tnacli.data.batches import Batch
from tnacli.errors import DeviceError, Stopped
from tnacli.evaluation.accuracy import measure
from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.identity import Run
from tnacli.recipe.parse.find import list_recipes
from tnacli.recipe.parse.load import load, plan
from tnacli.runs.metadata import Precision
from tnacli.snn.arithmetic import exact
from tnacli.snn.network import SpikingNetwork
from tnacli.training import precision as module
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.events import Event, Started
from tnacli.training.precision import arithmetic, fast_bf16, loss_scaler, resolve_precision
from tnacli.training.trained import kept_scale, load_scale

CPU = torch.device("cpu")


def of(precision: str, seed: int = 0) -> Run:
    train = TINY.train.model_copy(update={"precision": precision})
    return Run("tiny", "run", seed, TINY.model_copy(update={"train": train}))


def trained(run: Run, out: Path) -> tuple[Outcome, Started]:
    """What comes of the run, and what was said at its start."""
    events: list[Event] = []
    outcome = Experiment(out, emit=lambda run, event: events.append(event)).execute(run)
    (started,) = [event for event in events if isinstance(event, Started)]
    return outcome, started


@pytest.mark.parametrize("fast", ["0", "1"])
def test_a_run_that_does_not_name_a_precision_is_fp32_on_every_machine(
    fast: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TNA_FAST_BF16", fast)
    outcome, started = trained(Run("tiny", "run", 0, TINY), out)
    assert (outcome.result.precision, started.precision) == ("fp32", "fp32")
    assert load_checkpoint(outcome.checkpoint).metadata.precision == "fp32"
    assert not [note for note in started.notes if "precision" in note]


def test_every_shipped_recipe_is_trained_in_fp32() -> None:
    names = [entry.name for entry in list_recipes()]
    assert {run.settings.train.precision for name in names for run in plan(load(name))} == {"fp32"}


def test_results_of_different_precision_are_different_runs() -> None:
    assert len({of(precision).identity for precision in ("fp32", "tf32", "bf16", "fp16", "auto")}) == 5


@pytest.mark.parametrize(("fast", "chosen"), [("0", "fp32"), ("1", "bf16")])
def test_auto_says_what_it_chose(fast: str, chosen: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNA_FAST_BF16", fast)
    outcome, started = trained(of("auto"), out)
    assert (outcome.result.precision, started.precision) == (chosen, chosen)
    assert f"train.precision: auto is {chosen} here: TNA_FAST_BF16={fast}" in started.notes


@pytest.mark.parametrize(("began", "goes_on"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_a_run_goes_on_in_the_precision_that_it_began_in(
    began: str, goes_on: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` means another on a machine where bf16 is fast, under the same identity."""
    monkeypatch.setenv("TNA_FAST_BF16", "1" if began == "bf16" else "0")
    with pytest.raises(Stopped):
        Experiment(out, stop=StopAfter(5)).execute(of("auto"))
    monkeypatch.setenv("TNA_FAST_BF16", "1" if goes_on == "bf16" else "0")
    outcome, started = trained(of("auto"), out)
    assert (outcome.result.precision, started.precision) == (began, began)
    assert (
        f"in {began}, as it began; train.precision: auto would be {goes_on} here: TNA_FAST_BF16={int(goes_on == 'bf16')}"
        in started.notes
    )
    assert load_checkpoint(outcome.checkpoint).metadata.precision == began
    afresh, _ = trained(of("auto", seed=1), out)
    assert afresh.result.precision == goes_on


@pytest.mark.parametrize(("said", "chosen"), [("0", "fp32"), ("1", "bf16")])
def test_the_environment_says_what_auto_means_in_every_process(said: str, chosen: str) -> None:
    program = (
        "import torch; from tnacli.training.precision import resolve_precision as of; "
        "print(of('auto', torch.device('cpu'))[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TNA_FAST_BF16": said}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == chosen


@pytest.mark.parametrize(("supported", "listed"), [(True, True), (True, False), (False, True)])
def test_without_the_environment_s_word_the_hardware_decides(
    supported: bool, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TNA_FAST_BF16", raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(module, "_cpu_flag", lambda *names: listed)
    assert fast_bf16(CPU)[0] == (supported and listed)
    has = supported and listed
    expected = ("bf16", "the processor has bf16") if has else ("fp32", "the processor has no bf16 of its own")
    assert resolve_precision("auto", CPU) == expected
    named = ("fp32", "bf16", "fp16")
    assert [resolve_precision(explicit, CPU) for explicit in named] == [(explicit, None) for explicit in named]


@pytest.mark.parametrize(
    ("capability", "chosen", "refused"),
    [
        ((7, 0), "fp32", {"tf32", "bf16"}),
        ((7, 5), "fp32", {"tf32", "bf16"}),
        ((8, 0), "bf16", set()),
        ((9, 0), "bf16", set()),
    ],
)
def test_on_a_gpu_its_capability_decides(
    capability: tuple[int, int], chosen: str, refused: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch says that a V100 has bf16, which it emulates."""
    monkeypatch.delenv("TNA_FAST_BF16", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    cuda = torch.device("cuda", 0)
    own = "" if chosen == "bf16" else " no bf16 of its own"
    assert resolve_precision("auto", cuda) == (chosen, f"Tesla V100 has{own or ' bf16'}")
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        if precision in refused:
            with pytest.raises(DeviceError, match=f"Tesla V100 has no {precision}.*use train.precision: "):
                resolve_precision(precision, cuda)
        else:
            assert resolve_precision(precision, cuda) == (precision, None)


def test_tf32_is_refused_on_the_cpu_before_anything_is_read(out: Path) -> None:
    with pytest.raises(DeviceError, match="device cpu has no tf32"):
        trained(of("tf32"), out)
    assert not any(out.rglob("last.pt"))


def settings_of_products() -> list[str]:
    backends: Any = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    return [place.fp32_precision for place in places]


@pytest.fixture
def careless() -> Iterator[list[str]]:
    """A process that has asked for less than fp32 everywhere, and what it has then."""
    torch.set_float32_matmul_precision("medium")
    try:
        yield settings_of_products()
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(("precision", "gpu"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee"), ("fp16", "ieee")])
def test_what_is_not_tf32_by_name_is_ieee_whatever_the_process_had_asked_for(
    precision: Precision, gpu: str, careless: list[str]
) -> None:
    with arithmetic(precision):
        assert settings_of_products() == [gpu, gpu, "ieee", "ieee"]
        with exact():
            assert settings_of_products() == ["ieee"] * 4
        assert settings_of_products() == [gpu, gpu, "ieee", "ieee"]
    assert settings_of_products() == careless
    assert careless != ["ieee"] * 4


def test_a_run_trains_in_its_precision_and_is_measured_exactly(
    out: Path, monkeypatch: pytest.MonkeyPatch, careless: list[str]
) -> None:
    """Of every forward pass: what training or evaluation computes products in."""
    seen: set[tuple[bool, tuple[str, ...], bool]] = set()

    class Watched(SpikingNetwork):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.add((self.training, tuple(settings_of_products()), torch.is_autocast_enabled("cpu")))
            return super().forward(inputs)

    monkeypatch.setattr(build, "SpikingNetwork", Watched)
    trained(of("bf16"), out)
    assert seen == {(True, ("ieee",) * 4, True), (False, ("ieee",) * 4, False)}


def test_evaluation_within_autocast_is_fp32(careless: list[str]) -> None:
    seen: list[torch.dtype] = []

    def predict(inputs: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.linear(inputs, torch.ones(3, 4))
        seen.append(logits.dtype)
        return logits

    with torch.autocast("cpu", torch.bfloat16):
        measure(predict, [Batch(torch.ones(2, 4), torch.zeros(2, dtype=torch.int64), 2)])
    assert seen == [torch.float32]


def test_the_scale_of_fp16_goes_with_the_checkpoint(out: Path) -> None:
    """A run that is stopped and goes on has the weights, and the scale, of one that is not."""
    whole, started = trained(of("fp16"), out / "whole")
    assert (whole.result.precision, started.precision) == ("fp16", "fp16")
    with pytest.raises(Stopped):
        Experiment(out / "stopped", stop=StopAfter(5)).execute(of("fp16"))
    (last,) = (out / "stopped").rglob("last.pt")
    kept = load_checkpoint(last).under("scaler")
    assert kept.keys() == {"scale", "growth_tracker"}
    assert 0 < float(kept["growth_tracker"]) <= 6
    resumed, _ = trained(of("fp16"), out / "stopped")
    one, two = (load_checkpoint(outcome.checkpoint).tensors for outcome in (whole, resumed))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert math.log2(float(one["scaler/scale"])).is_integer()
    assert not [name for name in load_checkpoint(trained(of("fp32"), out)[0].checkpoint).tensors if "scaler" in name]


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved(out: Path) -> None:
    outcome, _ = trained(of("fp16"), out)
    scaler = loss_scaler(CPU, "fp16")
    checkpoint = load_checkpoint(outcome.checkpoint)
    checkpoint.tensors["scaler/scale"].fill_(2.0**100)
    load_scale(scaler, checkpoint)
    weight = torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight], lr=0.1, fused=True)
    scaler.scale((weight * 1e30).sum()).backward()
    scaler.step(adam)
    scaler.update()
    assert weight.tolist() == [1, 1, 1]
    assert kept_scale(scaler)["scaler/scale"] == 2.0**99


@pytest.mark.parametrize("inside", [lambda: arithmetic("fp32"), lambda: arithmetic("bf16"), exact])
def test_cudnn_is_deterministic_in_training_and_evaluation(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", False)
    monkeypatch.setattr(cudnn, "benchmark", True)
    with inside():
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
