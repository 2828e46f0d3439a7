"""Too little memory is one error with exit code 5, whoever says so, and what was saved before stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Tna
from tests.conftest import tiny_tna_t_snn
from tnacli.errors import DeviceError, ran_out_of_memory
from tnacli.recipe.costs import Sample, costs
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.recipe import Settings
from tnacli.training import out_of_memory
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.distributed import Ranks
from tnacli.training.loop import Trainer
from tnacli.training.out_of_memory import memory_explained
from tnacli.training.run_data import RunData

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.25 GiB. GPU 0 has a total capacity of 7.92 GiB")
ALONE = Ranks()
SAID = (
    GPU,
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError(),
)


def real_ones() -> list[BaseException]:
    """What PyTorch and NumPy raise on this machine for more than any machine has."""
    found: list[BaseException] = []
    for ask in (lambda: torch.empty(2**50), lambda: np.zeros(2**50)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            ask()
        found.append(raised.value)
    return found


def test_whoever_says_it_is_understood() -> None:
    assert all(map(ran_out_of_memory, [*SAID, *real_ones()]))
    assert not any(
        map(ran_out_of_memory, [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory")])
    )


@pytest.mark.parametrize("after", [0, 4])
def test_training_that_runs_out_keeps_what_it_saved(
    after: int,
    tna: Tna,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, steps = Trainer._step, []

    def short(self: Trainer, batch: object) -> object:
        steps.append(batch)
        if len(steps) > after:
            torch.empty(2**50)
        return step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_step", short)
    often = ("--set", "runtime.checkpoint_every=1")
    done = tna("train", recipe, "--run", "baseline", "--out", tmp_path / "runs", "--device", "cpu", *often)
    assert done.code == 5, done.err
    assert "error: this machine is out of memory: it has " in done.err
    assert "a step needs about 0.0 GB. What may help: runtime.memory=low, a smaller train.batch_size" in done.err
    assert "Traceback" not in done.err
    kept = list((tmp_path / "runs").glob("*/*/last.pt"))
    assert [load_checkpoint(path).metadata.state.epoch for path in kept] == ([1] if after else [])
    monkeypatch.undo()


def test_other_commands_say_it_too(tna: Tna, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tnacli.cli.app.app", lambda: torch.empty(2**50))
    done = tna("recipes", "--json")
    assert done.code == 5
    assert "error: out of memory: " in done.err
    assert done.json["error"]["kind"] == "DeviceError"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up GPU of 8 GB, of which another process holds 1 GB and this one 5 GB."""
    monkeypatch.setattr(out_of_memory, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")


def said(settings: Settings, ranks: Ranks = ALONE, sample: Sample | None = None) -> str:
    with pytest.raises(DeviceError) as raised, memory_explained(settings, ranks, lambda: sample):
        raise GPU
    return str(raised.value)


def full_size(**model: object) -> Settings:
    return Settings.model_validate({
        "data": {"name": "cifar100"}, "model": model, "objective": {"kind": "twin", "alpha": 1e-3},
        "train": {"precision": "bf16", "batch_size": 256}, "runtime": {"device": "cuda:0"},
    })  # fmt: skip


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_told_of_with_what_would_fit() -> None:
    assert said(full_size()) == (
        "cuda:0 (Some GPU): out of memory: a step (train.batch_size 256, bf16) needs about 5.8 GB for its tensors, an evaluation "
        "4.4 GB; the device has 8.0 GB, of which 1.0 GB are not this process's. These are estimates. Would fit: "
        "runtime.memory=low (6.8 GB, the same result); or 2 GPUs, torchrun --nproc-per-node 2 (5.1 GB each, the same result); or "
        "train.batch_size=128 (5.1 GB). What was saved of the run is whole."
    )


@pytest.mark.usefixtures("gpu")
def test_a_process_among_several_says_what_its_share_needs() -> None:
    assert "256, bf16, 2 processes) needs about 3.6 GB" in said(full_size(), Ranks(1, 2, 1))


@pytest.mark.usefixtures("gpu")
def test_what_cannot_be_predicted_is_not() -> None:
    message = said(full_size(norm="none"))
    assert "What this run needs is not known beforehand; the device has 8.0 GB" in message
    assert "a smaller train.batch_size" in message


@pytest.mark.usefixtures("gpu")
def test_samples_of_the_users_own_files_count_once_they_are_read() -> None:
    own = full_size().model_copy(
        update={"data": Settings.model_validate({"data": {"name": "folder", "root": "x"}}).data}
    )
    assert "not known beforehand" in said(own)
    assert "needs about 22.4 GB" in said(own, sample=Sample(3, (64, 64), 10))


def test_samples_in_memory_are_counted_with_those_held_out() -> None:
    given = {"data": {"name": "digits", "train_samples": 40, "validation_samples": 10, "test_samples": 20}}
    run, data = Run("own", "a", 0, Settings.model_validate(given)), RunData(Ranks(), None)
    data.load(run)
    assert data.sample(run) == Sample(1, (8, 8), 10, train=40, test=20)


def test_on_a_cpu_they_count_too() -> None:
    own = Settings.model_validate({"data": {"name": "folder", "root": "x"}, "runtime": {"device": "cpu"}})
    assert "a step needs" not in said(own)
    found = costs(own, sample := Sample(3, (64, 64), 10))
    assert found is not None
    assert found.step_bytes is not None
    assert f"a step needs about {found.step_bytes / 1e9:.1f} GB" in said(own, sample=sample)


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(tiny_tna_t_snn(), Ranks(), lambda: None):
        raise RuntimeError("shapes")
