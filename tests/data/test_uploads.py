"""Samples sent one batch ahead are those of samples that lie on the device; tests/training/test_fake_cuda.py has the streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.data.test_batches import AUGMENTED, batches, dataset, same
from tnacli.data.batches import Batches
from tnacli.data.uploads import one_ahead


class OnTheCPU:
    """In place of Uploads: copies that are whole only once they have arrived, in the order in which they were begun."""

    def __init__(self, device: torch.device) -> None:
        self.begun: list[tuple[Tensor, Tensor]] = []
        self.broken_after: int | None = None

    def begin(self, samples: Tensor, rows: Tensor) -> Tensor:
        if self.broken_after == len(self.begun):
            raise RuntimeError("CUDA error: out of memory")
        coming = torch.full((len(rows), *samples.shape[1:]), 255, dtype=samples.dtype)
        self.begun.append((coming, samples[rows]))
        return coming

    def arrived(self, coming: Tensor) -> Tensor:
        last, whole = self.begun[-1]
        assert coming is last, "a stream waits for all that was begun on it, the next batch included"
        return coming.copy_(whole)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No samples fit on the device, which is the CPU here."""
    monkeypatch.setattr("tnacli.data.batches._crowds", lambda inputs, device: True)
    monkeypatch.setattr("tnacli.data.batches.Uploads", OnTheCPU)


@pytest.mark.usefixtures("crowded")
@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["images", "events"])
def test_they_are_the_same_batches(
    kind: Literal["images", "events"], training: bool, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any step on, in every process, in training and evaluation."""
    data = dataset(26, kind, AUGMENTED[kind])
    sent = [batches(data, 6, training, seed=3, rank=rank, world=world) for rank in range(world)]
    monkeypatch.undo()
    for rank, there in enumerate(sent):
        whole = list(batches(data, 6, training, seed=3, rank=rank, world=world).epoch(1))
        for step in range(len(whole) + 1):
            assert same(list(there.epoch(1, step)), whole[step:])


@pytest.mark.usefixtures("crowded")
def test_one_batch_is_on_its_way_and_no_more() -> None:
    there = batches(dataset(20), 4)
    uploads = uploads_of(there)
    for taken, _ in enumerate(there.epoch(), 1):
        assert len(uploads.begun) == min(taken + 1, 5)


@pytest.mark.usefixtures("crowded")
def test_an_epoch_that_is_left_is_no_burden_for_the_next() -> None:
    there, usual = batches(dataset(20), 4), batches(dataset(20), 4)
    next(there.epoch())
    assert same(list(there.epoch(1)), list(usual.epoch(1)))


@pytest.mark.usefixtures("crowded")
def test_what_fails_on_the_way_reaches_who_trains() -> None:
    there = batches(dataset(20), 4)
    uploads_of(there).broken_after = 3
    stream = there.epoch()
    next(stream), next(stream)
    with pytest.raises(RuntimeError, match="out of memory"):
        next(stream)
    assert list(stream) == []


def test_nothing_is_sent_of_no_batches() -> None:
    def none() -> Iterator[Tensor]:
        yield from ()

    uploads = OnTheCPU(torch.device("cpu"))
    assert list(one_ahead(uploads, torch.zeros(3, 1, dtype=torch.uint8), none())) == []  # type: ignore[arg-type]
    assert uploads.begun == []


def uploads_of(there: Batches) -> OnTheCPU:
    assert isinstance(there._uploads, OnTheCPU)
    return there._uploads
