"""What augmentation did to the samples of a batch: found again from the pixels, epoch by epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import TINY
from tests.data.test_batches import dataset
from tnacli.data.batches import Batches
from tnacli.data.load import load
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.data import Augmentation, Data
from tnacli.recipe.schema.recipe import Settings
from tnacli.training.beginning import splits_of
from tnacli.training.distributed import Ranks

COUNT, BATCH = 120, 40
Crop = tuple[int, int, bool]


def augmentation(padding: int = 0, flip: float = 0.0, rotation: float = 0.0, shear: float = 0.0) -> Augmentation:
    return Augmentation(crop_padding=padding, flip=flip, rotation=rotation, shear=shear)


def steps(chosen: Augmentation, epoch: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Originals, what a batch made of them, both uint8 [n, 3, 5, 6], and their indices, step by step."""
    data = dataset(COUNT, augmentation=chosen)
    assert data.mean is not None
    assert data.std is not None
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    for batch in Batches(data.train, data, BATCH, "cpu", seed=seed, training=True).epoch(epoch):
        pixels = ((batch.inputs * std + mean) * 255).round()
        yield torch.from_numpy(data.train.inputs)[batch.labels], pixels.to(torch.uint8), batch.labels


def cropped(image: Tensor, rows: int, columns: int, flipped: bool) -> Tensor:
    """By slices alone: what `rows` and `columns` to the lower right leave of an image, zeros around it, perhaps mirrored."""
    height, width = image.shape[-2:]
    padded = torch.zeros(image.shape[0], 3 * height, 3 * width, dtype=image.dtype)
    padded[:, height : 2 * height, width : 2 * width] = image
    out = padded[:, height + rows : 2 * height + rows, width + columns : 2 * width + columns]
    return out.flip(-1) if flipped else out


def crops_found(chosen: Augmentation, epoch: int, seed: int = 0) -> dict[int, Crop]:
    """The one crop of each sample, by index, that explains what became of it; each sample stands in exactly one batch."""
    reach = range(-(chosen.crop_padding or 0), (chosen.crop_padding or 0) + 1)
    possible = [(rows, columns, flip) for rows in reach for columns in reach for flip in (False, True)]
    found: dict[int, Crop] = {}
    for originals, images, indices in steps(chosen, epoch, seed):
        for original, image, index in zip(originals, images, indices.tolist(), strict=True):
            (found[index],) = [crop for crop in possible if torch.equal(cropped(original, *crop), image)]
    assert len(found) == COUNT
    return found


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_flips_are_applied_to_their_share_of_a_batch(flip: float) -> None:
    mirrored = [crop[2] for epoch in range(4) for crop in crops_found(augmentation(flip=flip), epoch).values()]
    deviation = math.sqrt(flip * (1 - flip) / len(mirrored))
    assert abs(sum(mirrored) / len(mirrored) - flip) <= 4 * deviation


def test_every_offset_of_a_crop_is_applied() -> None:
    found = [crop for epoch in range(4) for crop in crops_found(augmentation(padding=1, flip=0.5), epoch).values()]
    assert set(found) == {(r, c, f) for r in (-1, 0, 1) for c in (-1, 0, 1) for f in (False, True)}


@pytest.mark.parametrize("pair", [((0, 0), (1, 0)), ((0, 0), (0, 1))], ids=["from epoch to epoch", "from seed to seed"])
def test_a_sample_is_cropped_otherwise(pair: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """Of 18 crops, a sample has the same one twice in one case of 18."""
    one, two = (crops_found(augmentation(padding=1, flip=0.5), epoch, seed) for epoch, seed in pair)
    same = sum(one[index] == two[index] for index in range(COUNT))
    assert 0 < same < COUNT / 4


def test_draws_differ_from_step_to_step_epoch_to_epoch_and_seed_to_seed() -> None:
    """What befalls the first of a batch, the second and so on, whichever samples they are."""
    chosen, drawn = augmentation(padding=1, flip=0.5), []
    for epoch, seed in ((0, 0), (1, 0), (0, 1)):
        found = crops_found(chosen, epoch, seed)
        drawn += [[found[index] for index in indices.tolist()] for *_, indices in steps(chosen, epoch, seed)]
    assert len(drawn) == 9
    for one, other in itertools.combinations(drawn, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < BATCH / 4


SIDE, MIDDLE = 41, 20


def slopes(chosen: Augmentation, epoch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """By sample, the tangents by which a level and an upright line through the middle of its frames lean in a batch."""
    frames = torch.zeros(COUNT, 2, 2, SIDE, SIDE, dtype=torch.uint8)
    frames[:, :, 0, MIDDLE, :] = 1
    frames[:, :, 1, :, MIDDLE] = 1
    data = dataset(COUNT, "events", chosen)
    samples = type(data.train)(frames.numpy(), np.arange(COUNT))
    level, upright = torch.full((COUNT,), math.nan), torch.full((COUNT,), math.nan)
    for batch in Batches(samples, data, BATCH, "cpu", seed=seed, training=True).epoch(epoch):
        assert torch.equal(batch.inputs[:, 0], batch.inputs[:, 1])  # all frames of a sample move alike
        level[batch.labels] = _lean(batch.inputs[:, 0, 0], along=2)
        upright[batch.labels] = _lean(batch.inputs[:, 0, 1], along=1)
    return level, upright


def _lean(lines: Tensor, along: int) -> Tensor:
    """The slope of the line in each picture [n, H, W] against the axis `along`, by least squares."""
    place = torch.arange(SIDE) - MIDDLE
    x = place.view(1, 1, -1) if along == 2 else place.view(1, -1, 1)
    y = place.view(1, -1, 1) if along == 2 else place.view(1, 1, -1)
    return (lines * x * y).sum((1, 2)) / (lines * x * x).sum((1, 2))


def test_rotation_turns_level_and_upright_lines_alike() -> None:
    level, upright = slopes(augmentation(rotation=30.0), 0)
    torch.testing.assert_close(level, -upright, rtol=0, atol=0.03)
    _spread_over(level, 30.0)


def test_shear_leaves_level_lines_and_leans_upright_ones() -> None:
    level, upright = slopes(augmentation(shear=30.0), 0)
    assert torch.equal(level, torch.zeros(COUNT))
    _spread_over(upright, 30.0)


def test_both_are_applied_and_independent() -> None:
    """A rotation with tangent a, then a shear with tangent b: level lines lean by a / (1 + a b), upright ones by b - a."""
    level, upright = slopes(augmentation(rotation=20.0, shear=30.0), 0)
    half = (1 - level * upright) / 2
    turned = level / (half + torch.sqrt(half.square() - level.square()))
    _spread_over(turned, 20.0)
    _spread_over(upright + turned, 30.0)
    assert abs(float(torch.corrcoef(torch.stack([turned, upright + turned]))[0, 1])) < 4 / math.sqrt(COUNT)


@pytest.mark.parametrize("chosen", [augmentation(rotation=30.0), augmentation(shear=30.0)], ids=["rotation", "shear"])
def test_a_recording_is_warped_otherwise_from_epoch_to_epoch_and_seed_to_seed(chosen: Augmentation) -> None:
    first, later, other = (slopes(chosen, *when)[1] for when in ((0, 0), (1, 0), (0, 1)))
    for one in (later, other):
        assert (
            float((first - one).abs().mean()) > 0.2
        )  # a third of the range, for two draws that know nothing of each other
        assert abs(float(torch.corrcoef(torch.stack([first, one]))[0, 1])) < 4 / math.sqrt(COUNT)


def _spread_over(tangents: Tensor, degrees: float) -> None:
    """Both ways, up to the limit and not beyond it but for the raster."""
    limit = math.tan(math.radians(degrees))
    assert tangents.abs().max() <= limit + 0.03
    assert tangents.min() < -0.8 * limit
    assert tangents.max() > 0.8 * limit
    assert abs(float(tangents.mean())) < 0.2 * limit


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10", (4, 0.5, 0.0, 0.0)),
        ("fashion_mnist", (4, 0.5, 0.0, 0.0)),
        ("digits", (1, 0.0, 0.0, 0.0)),
        ("cifar10dvs", (0, 0.0, 30.0, 30.0)),
    ],
)
def test_training_batches_of_a_run_are_augmented_and_the_others_are_not(
    name: str, expected: tuple[int, float, float, float]
) -> None:
    """What the trainer is given: the data set's own augmentation and the run's seed, and nothing done to what is measured on."""
    data = Data(name=name, format="generated", train_samples=24, test_samples=12, validation_samples=4)
    run = Run("r", "x", 5, Settings(data=data, model=TINY.model, train=TINY.train))
    made = load(data, 2)
    splits = splits_of(made, run, torch.device("cpu"), Ranks())
    assert splits.train.augmentation == augmentation(*expected)
    assert (splits.train.seed, splits.train.training) == (5, True)
    kept = Batches(made.train, made, 32, "cpu", training=False)
    (plain,), (changed,) = kept.epoch(0), splits.train.epoch(0)
    originals = {sample.numpy().tobytes() for sample in plain.inputs}
    assert sum(sample.numpy().tobytes() in originals for sample in changed.inputs) < 10
    for split, samples in ((splits.test, made.test), (splits.validation, made.validation)):
        assert split is not None
        assert samples is not None
        assert (split.augmentation, split.training) == (None, False)
        seen = torch.cat([batch.labels for batch in split.epoch(3)])
        assert np.array_equal(seen, samples.labels)
