"""Batches: complete, repeatable, the same for any number of processes, and normalised like torchvision's."""

import dataclasses
from typing import Literal

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as transforms
from hypothesis import given, settings
from hypothesis import strategies as st

from tnacli.data.batches import Batch, Batches
from tnacli.data.samples import Dataset, Samples
from tnacli.errors import DataError
from tnacli.pixels import array_as_input, as_input, histogram
from tnacli.recipe.schema.data import Augmentation

NO_CHANGE = Augmentation(crop_padding=0, flip=0.0, rotation=0.0, shear=0.0)


def dataset(
    count: int, kind: Literal["images", "events"] = "images", augmentation: Augmentation = NO_CHANGE
) -> Dataset:
    """Samples that can be told apart: the label is the index, and so is the first pixel."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, 5, 6) if kind == "images" else (count, 4, 2, 5, 6)
    inputs = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    samples = Samples(inputs.numpy(), np.arange(count))
    images = kind == "images"
    return Dataset(
        "made", kind, ("a", "b"), samples, None, samples,
        (0.5, 0.4, 0.3) if images else None, (0.2, 0.3, 0.4) if images else None,
        augmentation, "generated", "",
    )  # fmt: skip


def batches(data: Dataset, size: int, training: bool = True, **options: int) -> Batches:
    return Batches(data.train, data, size, "cpu", training=training, **options)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels) for a, b in zip(one, other, strict=True)
    )


@given(st.integers(2, 70), st.integers(1, 20), st.booleans(), st.integers(0, 3))
@settings(deadline=None)
def test_every_sample_once_an_epoch(count: int, size: int, training: bool, epoch: int) -> None:
    source = batches(dataset(count), size, training)
    got = list(source.epoch(epoch))
    labels = torch.cat([batch.labels for batch in got]).tolist()
    assert len(got) == len(source)
    assert sorted(labels) == list(range(count))
    if not training:
        assert labels == list(range(count))
    assert all(batch.total == len(batch.labels) == len(batch.inputs) for batch in got)
    sizes = [len(batch.labels) for batch in got]
    assert all(size <= length <= size + 1 for length in sizes[:-1])
    if training and size > 1:
        assert sizes[-1] > 1  # batch norm can make nothing of a single sample


def test_orders_differ_between_epochs_and_seeds() -> None:
    data = dataset(40)
    orders = [
        torch.cat([batch.labels for batch in batches(data, 8, seed=seed).epoch(epoch)]).tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4
    again = torch.cat([batch.labels for batch in batches(data, 8, seed=0).epoch(0)]).tolist()
    assert again == orders[0]


AUGMENTED = {
    "images": Augmentation(crop_padding=2, flip=0.5, rotation=0.0, shear=0.0),
    "events": Augmentation(crop_padding=0, flip=0.0, rotation=30.0, shear=30.0),
}


@pytest.mark.parametrize("kind", ["images", "events"])
def test_going_on_at_any_step_gives_the_same_batches(kind: Literal["images", "events"]) -> None:
    data = dataset(23, kind, AUGMENTED[kind])
    whole = list(batches(data, 5, seed=3).epoch(2))
    for step in range(len(whole) + 1):
        assert same(list(batches(data, 5, seed=3).epoch(2, step)), whole[step:])
    assert not same(list(batches(data, 5, seed=4).epoch(2)), whole)


@pytest.mark.parametrize("kind", ["images", "events"])
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("count", [24, 25, 31])
def test_processes_share_each_batch(kind: Literal["images", "events"], world: int, count: int) -> None:
    """Put together again, the shares are the batches of one process, but for how the smallest rest is
    merged.
    """
    data = dataset(count, kind, AUGMENTED[kind])
    shares = [list(batches(data, 12, rank=rank, world=world).epoch(1)) for rank in range(world)]
    alone = list(batches(data, 12).epoch(1))
    assert len({len(share) for share in shares}) == 1
    for step, parts in enumerate(zip(*shares, strict=True)):
        inputs = torch.empty(parts[0].total, *parts[0].inputs.shape[1:])
        labels = torch.empty(parts[0].total, dtype=torch.int64)
        for rank, part in enumerate(parts):
            inputs[rank::world], labels[rank::world] = part.inputs, part.labels
            assert len(part.labels) >= 2
        if step < len(alone) and parts[0].total == alone[step].total:
            assert torch.equal(labels, alone[step].labels)
            assert torch.equal(inputs, alone[step].inputs)
    seen = torch.cat([batch.labels for share in shares for batch in share])
    assert sorted(seen.tolist()) == list(range(count))


def test_evaluation_shares_may_be_empty() -> None:
    data = dataset(5)
    shares = [list(batches(data, 4, False, rank=rank, world=3).epoch()) for rank in range(3)]
    assert [len(share[1].labels) for share in shares] == [1, 0, 0]
    assert shares[2][1].inputs.shape == (0, 3, 5, 6)


@pytest.mark.parametrize("mean", [(0.5, 0.4, 0.3), None])
def test_arrays_are_normalised_alike(mean: tuple[float, ...] | None) -> None:
    """To the bit, and what they are made from is left alone."""
    std = None if mean is None else (0.2, 0.3, 0.4)
    pixels = np.arange(3 * 256, dtype=np.uint16).astype(np.uint8).reshape(1, 3, 16, 16)
    before = pixels.copy()
    expected = as_input(torch.from_numpy(pixels), mean, std, "images")
    assert np.array_equal(array_as_input(pixels, mean, std, "images"), expected.numpy())
    assert np.array_equal(
        array_as_input(pixels, mean, std, "events"), as_input(torch.from_numpy(pixels), mean, std, "events")
    )
    assert np.array_equal(pixels, before)


def test_normalised_as_torchvision_does() -> None:
    data = dataset(4)
    assert data.mean is not None
    assert data.std is not None
    peer = transforms.Compose(
        [
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(list(data.mean), list(data.std)),
        ]
    )
    (batch,) = batches(data, 4, False).epoch()
    assert torch.allclose(batch.inputs, peer(torch.from_numpy(data.train.inputs)), rtol=0, atol=1e-6)
    assert batch.inputs.dtype == torch.float32


def test_not_normalised() -> None:
    data = dataclasses.replace(dataset(4), mean=None, std=None)
    (batch,) = batches(data, 4, False).epoch()
    assert torch.equal(batch.inputs, torch.from_numpy(data.train.inputs) / 255)


def test_events_stay_counts() -> None:
    data = dataset(4, "events")
    (batch,) = batches(data, 4, False).epoch()
    assert torch.equal(batch.inputs, torch.from_numpy(data.train.inputs).float())


@pytest.mark.parametrize("kind", ["images", "events"])
def test_evaluation_is_never_augmented(kind: Literal["images", "events"]) -> None:
    data = dataset(6, kind, AUGMENTED[kind])
    plain = dataset(6, kind)
    assert same(list(batches(data, 4, False).epoch()), list(batches(plain, 4, False).epoch()))
    assert not same(list(batches(data, 4).epoch()), list(batches(plain, 4).epoch()))


def test_what_moves_in_is_black_before_normalisation() -> None:
    data = dataset(30, augmentation=AUGMENTED["images"])
    assert data.mean is not None
    assert data.std is not None
    black = [-mean / std for mean, std in zip(data.mean, data.std, strict=True)]
    inputs = torch.cat([batch.inputs for batch in batches(data, 30).epoch(0)])
    for channel, value in enumerate(black):
        share = (inputs[:, channel] - value).abs() < 1e-6
        assert share.float().mean() > 0.1  # offsets of up to 2 in 5x6 pixels bring much of it
        assert inputs[:, channel].min() >= value - 1e-6


def test_the_samples_are_left_alone() -> None:
    data = dataset(8, augmentation=AUGMENTED["images"])
    before = data.train.digest()
    for _ in batches(data, 4).epoch(0):
        pass
    assert data.train.digest() == before


def test_too_few_samples_to_train_on() -> None:
    with pytest.raises(DataError, match=r"1 training samples are too few.*data\.train_samples"):
        batches(dataset(1), 4)
    with pytest.raises(DataError, match="at least 4"):
        batches(dataset(3), 4, world=2)
    assert len(batches(dataset(1), 4, training=False)) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fitting", [True, False])
@pytest.mark.parametrize("kind", ["images", "events"])
def test_batches_on_the_gpu(kind: Literal["images", "events"], fitting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tnacli.data.batches._crowds", lambda inputs, device: not fitting)
    data = dataset(23, kind, AUGMENTED[kind])
    there = list(Batches(data.train, data, 5, "cuda", training=True, seed=3).epoch(1))
    here = list(batches(data, 5, seed=3).epoch(1))
    for gpu, cpu in zip(there, here, strict=True):
        assert gpu.inputs.is_cuda
        assert torch.equal(gpu.labels.cpu(), cpu.labels)
        assert ((gpu.inputs.cpu() - cpu.inputs).abs() > 1e-5).float().mean() < 0.01


@pytest.mark.parametrize("count", [0, 1, 2, (1 << 19) + 3])
def test_how_often_each_value_of_a_byte_occurs(count: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8)
    np.testing.assert_array_equal(histogram(values), [(values == value).sum() for value in range(256)])
