"""Checkpoints are written beside training: one at a time, as things were when they were begun, told of when on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import tiny_tna_t_snn
from tnacli.errors import DivergedError, StorageError
from tnacli.experiment import Experiment, save_checkpoint
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.recipe import Runtime
from tnacli.training import writer as module
from tnacli.training.checkpoint import Checkpoint
from tnacli.training.distributed import Ranks
from tnacli.training.events import EpochDone, Event, Progress, Saved
from tnacli.training.trained import arrival, copied_to_cpu
from tnacli.training.writer import CheckpointWriter

AUTO: Any = "auto"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def at(epoch: int) -> Callable[[], Checkpoint]:
    stands: Any = SimpleNamespace(metadata=SimpleNamespace(state=SimpleNamespace(epoch=epoch, step=0)))
    return lambda: stands


def here() -> Callable[[], None]:
    return arrival(torch.device("cpu"))


class Disk:
    """A slow one: each write waits until it is let through."""

    def __init__(self) -> None:
        self.let = threading.Semaphore(0)
        self.busy = self.most = 0
        self.written: list[int] = []
        self.told: list[int] = []
        self.writer = CheckpointWriter(
            self.save, lambda saved: self.told.append(saved.epoch), Ranks(), every=1, always=()
        )

    def save(self, checkpoint: Checkpoint) -> str:
        self.busy += 1
        self.most = max(self.most, self.busy)
        self.let.acquire()
        self.busy -= 1
        epoch = checkpoint.metadata.state.epoch
        if epoch < 0:
            raise StorageError("no space")
        self.written.append(epoch)
        return f"{epoch}.pt"


def test_training_goes_on_and_the_next_one_waits() -> None:
    disk = Disk()
    disk.writer.begin(at(1), here)
    assert (disk.written, disk.told, disk.writer.ended) == ([], [], False)
    threading.Timer(0.2, disk.let.release, [2]).start()
    disk.writer.begin(at(2), here)
    assert disk.told == [1], "begun before the one before was on disk"
    assert disk.writer.wait() == Saved("2.pt", 2, 0)
    assert disk.writer.wait() is None
    assert (disk.written, disk.told, disk.most) == ([1, 2], [1, 2], 1)


def test_it_begins_once_the_tensors_have_arrived() -> None:
    disk, on_their_way = Disk(), threading.Event()
    disk.let.release()

    def arrived() -> None:
        on_their_way.wait()

    disk.writer.begin(at(1), lambda: arrived)
    time.sleep(0.1)
    assert disk.written == []
    on_their_way.set()
    disk.writer.wait()
    assert disk.written == [1]


def test_a_failed_write_is_raised_when_it_is_waited_for_and_nothing_is_told() -> None:
    disk = Disk()
    disk.let.release(2)
    disk.writer.begin(at(-1), here)
    with pytest.raises(StorageError, match="no space"):
        disk.writer.begin(at(2), here)
    assert (disk.written, disk.told) == ([], [])


def diverge(disk: Disk, epoch: int) -> None:
    with disk.writer.finished():
        disk.writer.begin(at(epoch), here)
        raise DivergedError("first")


def test_the_end_waits_and_the_first_error_is_the_one_raised() -> None:
    disk = Disk()
    threading.Timer(0.1, disk.let.release).start()
    with disk.writer.finished():
        disk.writer.begin(at(1), here)
    assert disk.told == [1]
    disk.let.release(2)
    with pytest.raises(StorageError, match="no space"), disk.writer.finished():
        disk.writer.begin(at(-1), here)
    with pytest.raises(DivergedError, match="first"):
        diverge(disk, -1)
    threading.Timer(0.1, disk.let.release).start()
    with pytest.raises(DivergedError, match="first"):
        diverge(disk, 4)
    assert disk.told == [1, 4], "left while it was being written"


def test_when_one_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def made(every: Any) -> CheckpointWriter:
        return CheckpointWriter(lambda checkpoint: "", lambda saved: None, Ranks(), every=every, always=(7, 12))

    by_epoch, by_time = made(3), made(AUTO)
    assert [epoch for epoch in range(1, 13) if by_epoch.due(epoch)] == [3, 6, 7, 9, 12]
    due = []
    for epoch in range(1, 13):
        now[0] += 110  # seconds an epoch
        if by_time.due(epoch):
            due.append(epoch)
            by_time.begin(at(epoch), here)
            by_time.wait()
    assert due == [3, 6, 7, 10, 12], "every five minutes, and where it always is"


def test_copies_do_not_change_with_what_they_are_copies_of() -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    before = weight.clone()
    copies = copied_to_cpu({"weight": weight, "step": torch.tensor(3.0)})
    weight.add_(1)
    assert torch.equal(copies["weight"], before)
    assert copies["weight"].is_contiguous()
    assert float(copies["step"]) == 3


def digests(out: Path, monkeypatch: pytest.MonkeyPatch, device: str, *, slow: bool) -> tuple[list[str], list[Event]]:
    """Of the weights and moments that each checkpoint of the tiny run was written with, and what happened."""
    found: list[str] = []
    events: list[Event] = []

    def save(path: Path, checkpoint: Checkpoint) -> None:
        if slow:
            time.sleep(0.3)
        tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        found.append(str(sorted((name, float(t.double().abs().sum())) for name, t in tensors.items())))
        save_checkpoint(path, checkpoint)

    monkeypatch.setattr("tnacli.experiment.save_checkpoint", save)
    settings = tiny_tna_t_snn().model_copy(update={"runtime": Runtime(checkpoint_every=1, device=device)})
    Experiment(out, emit=lambda run, event: events.append(event)).execute(Run("tiny", "run", 0, settings))
    return found, events


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_a_slow_disk_is_written_what_a_fast_one_is(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = CheckpointWriter.begin

    def at_once(self: CheckpointWriter, *how: Any) -> None:
        begin(self, *how)
        self.wait()

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointWriter, "begin", at_once)
        expected, _ = digests(tmp_path / "fast", monkeypatch, device, slow=False)
    assert len(set(expected)) == 4
    found, events = digests(tmp_path / "slow", monkeypatch, device, slow=True)
    assert found == expected
    order = [(type(event).__name__, event.epoch) for event in events if isinstance(event, EpochDone | Saved)]
    assert order.index(("EpochDone", 2)) < order.index(("Saved", 1)), "training waited for the disk"
    assert [epoch for name, epoch in order if name == "Saved"] == [1, 2, 3, 4]


def test_a_full_disk_is_told_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only where the next checkpoint is due: here that would be the end."""
    events: list[Event] = []

    def full(path: Path, checkpoint: Checkpoint) -> None:
        raise StorageError("no space")

    monkeypatch.setattr("tnacli.experiment.save_checkpoint", full)
    monkeypatch.setattr("tnacli.training.loop.PROGRESS_SECONDS", 0.0)
    settings = tiny_tna_t_snn()
    slow = settings.model_copy(update={"train": settings.train.model_copy(update={"epochs": 200})})
    with pytest.raises(StorageError, match="no space"):
        Experiment(tmp_path, emit=lambda run, event: events.append(event)).execute(Run("tiny", "run", 0, slow))
    trained = [event for event in events if isinstance(event, Progress)]
    assert (trained[-1].epoch, trained[-1].step) <= (3, 4), "two epochs, then the failure within a few steps"
    assert not [event for event in events if isinstance(event, Saved)]
