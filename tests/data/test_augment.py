"""Augmentation has the distribution of torchvision's transforms."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as peer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tnacli.data.augment import Crops, Warps, crop, draw_crops, draw_warps, warp


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("padding", [1, 2, 4])
@pytest.mark.parametrize("size", [(9, 12), (8, 8), (3, 3)])
def test_every_crop_equals_torchvisions(padding: int, size: tuple[int, int]) -> None:
    """All offsets, mirrored or not: pad with zeros, crop, flip."""
    offsets = range(-padding, padding + 1)
    cases = [(row, column, flip) for row in offsets for column in offsets for flip in (False, True)]
    images = pixels(len(cases), 3, *size)
    rows, columns, flips = (torch.tensor(values) for values in zip(*cases, strict=True))
    ours = crop(images, Crops(rows, columns, flips))
    for image, result, (row, column, flip) in zip(images, ours, cases, strict=True):
        expected = peer.crop(peer.pad(image, [padding]), padding + row, padding + column, *size)
        assert torch.equal(result, peer.horizontal_flip(expected) if flip else expected)


def chi_square(counts: Tensor) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def test_offsets_and_flips_are_drawn_like_torchvisions() -> None:
    """Each of the 81 offsets and both flips equally likely and independent: chi-square below its 99.9 %
    quantile.
    """
    drawn = draw_crops(81 * 2 * 200, 4, 0.5, torch.Generator().manual_seed(0))
    cells = ((drawn.rows + 4) * 9 + drawn.columns + 4) * 2 + drawn.flips
    counts = torch.bincount(cells, minlength=162).double()
    freedom = 161
    assert chi_square(counts) < freedom + 3.1 * math.sqrt(2 * freedom) + 5
    assert counts.min() > 0


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_flip_probability(probability: float) -> None:
    count = 20_000
    drawn = draw_crops(count, 0, probability, torch.Generator().manual_seed(1))
    deviation = math.sqrt(probability * (1 - probability) / count)
    assert abs(drawn.flips.float().mean() - probability) <= 4 * deviation
    assert drawn.rows.abs().max() == drawn.columns.abs().max() == 0


def test_nothing_drawn_changes_nothing() -> None:
    images = pixels(5, 3, 6, 7)
    zero = torch.zeros(5, dtype=torch.int64)
    assert torch.equal(crop(images, Crops(zero, zero, zero.bool())), images)
    frames = pixels(5, 2, 2, 6, 7)
    assert torch.equal(warp(frames, Warps(zero.float(), zero.float())), frames)


def test_a_crop_beyond_the_image_is_black() -> None:
    images = pixels(1, 1, 3, 3) | 1
    far = torch.tensor([7])
    assert crop(images, Crops(far, far, torch.tensor([False]))).max() == 0


angle = st.floats(-60, 60, allow_nan=False, width=32)


@settings(max_examples=30, deadline=None)
@given(angle, angle, st.sampled_from([(9, 13), (16, 16), (7, 6)]))
def test_warps_take_the_nearest_cell(rotation: float, shear: float, size: tuple[int, int]) -> None:
    """Against a written-out loop in double precision, away from cells that lie half-way."""
    frames = pixels(1, 2, 2, *size)
    ours = warp(frames, Warps(torch.tensor([rotation]), torch.tensor([shear])))
    height, width = size
    turn, slant = math.radians(rotation), math.tan(math.radians(shear))
    for row in range(height):
        for column in range(width):
            y, x = row - (height - 1) / 2, column - (width - 1) / 2
            x = x + slant * y
            source_y = math.cos(turn) * y + math.sin(turn) * x + (height - 1) / 2
            source_x = math.cos(turn) * x - math.sin(turn) * y + (width - 1) / 2
            if any(abs(value % 1 - 0.5) < 1e-3 for value in (source_y, source_x)):
                continue
            near_y, near_x = round(source_y), round(source_x)
            inside = 0 <= near_y < height and 0 <= near_x < width
            expected = frames[0, :, :, near_y, near_x] if inside else torch.zeros(2, 2, dtype=torch.uint8)
            assert torch.equal(ours[0, :, :, row, column], expected)


@pytest.mark.parametrize("degrees", [-30.0, -13.7, 4.2, 21.0, 30.0])
@pytest.mark.parametrize("size", [(48, 48), (34, 34), (20, 30)])
def test_rotation_and_shear_are_torchvisions(degrees: float, size: tuple[int, int]) -> None:
    frames = pixels(1, 5, 2, *size)
    turned = warp(frames, Warps(torch.tensor([degrees]), torch.zeros(1)))
    sheared = warp(frames, Warps(torch.zeros(1), torch.tensor([degrees])))
    expected_turned = peer.rotate(frames, degrees)
    expected_sheared = peer.affine(frames, angle=0, translate=[0, 0], scale=1.0, shear=[degrees, 0.0])
    # Positions half-way between two cells may fall to either side in single precision.
    for ours, expected in ((turned, expected_turned), (sheared, expected_sheared)):
        assert (ours != expected).float().mean() < 0.01


def test_all_frames_of_a_sample_move_alike_and_samples_differ() -> None:
    frame = pixels(1, 1, 2, 20, 20)
    frames = frame.expand(6, 4, 2, 20, 20).contiguous()
    drawn = draw_warps(6, 30.0, 30.0, torch.Generator().manual_seed(0))
    moved = warp(frames, drawn)
    assert torch.equal(moved, moved[:, :1].expand_as(moved))
    assert len({sample.numpy().tobytes() for sample in moved}) == 6


@pytest.mark.parametrize(("rotation", "shear"), [(30.0, 30.0), (10.0, 0.0), (0.0, 25.0)])
def test_angles_are_uniform(rotation: float, shear: float) -> None:
    """Kolmogorov-Smirnov distance to the uniform distribution that torchvision draws from, at the 99.9 %
    level.
    """
    count = 20_000
    drawn = draw_warps(count, rotation, shear, torch.Generator().manual_seed(3))
    for angles, limit in ((drawn.rotation, rotation), (drawn.shear, shear)):
        assert angles.abs().max() <= limit
        if limit:
            position = (angles.double().sort().values + limit) / (2 * limit)
            distance = (position - (torch.arange(count) + 0.5) / count).abs().max()
            assert distance < 1.95 / math.sqrt(count) + 0.5 / count
    if rotation and shear:
        correlation = torch.corrcoef(torch.stack([drawn.rotation, drawn.shear]))[0, 1]
        assert abs(correlation) < 4 / math.sqrt(count)


def test_taking_some_draws() -> None:
    drawn = draw_crops(6, 2, 0.5, torch.Generator().manual_seed(0))
    some = drawn.each(lambda values: values[torch.tensor([4, 1])])
    assert some.rows.tolist() == [drawn.rows[4], drawn.rows[1]]
    assert some.flips.tolist() == [drawn.flips[4], drawn.flips[1]]
