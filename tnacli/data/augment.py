"""Random changes to training samples, in batches, on whatever device the samples are.

Both kinds work the same way: for every pixel of the result, which pixel of the sample does it come from? That
is one gather over bytes for the whole batch, with zeros where the answer lies outside. What is random is
drawn first, per sample, so the same draws give the same batch on every device and for every number of
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Crops:
    """One crop a sample, each [N]: offsets in pixels (int64, positive to the lower right), and flips."""

    rows: Tensor
    columns: Tensor
    flips: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Crops:
        """Every tensor changed alike: moved to a device, or some samples of it."""
        return Crops(change(self.rows), change(self.columns), change(self.flips))

    @classmethod
    def joined(cls, parts: Sequence[Crops]) -> Crops:
        return cls(*(torch.cat(drawn) for drawn in zip(*((p.rows, p.columns, p.flips) for p in parts), strict=True)))


@dataclass(frozen=True, eq=False)
class Warps:
    """One rotation and one horizontal shear a sample, each in degrees (float32, [N])."""

    rotation: Tensor
    shear: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Warps:
        """Every tensor changed alike: moved to a device, or some samples of it."""
        return Warps(change(self.rotation), change(self.shear))

    @classmethod
    def joined(cls, parts: Sequence[Warps]) -> Warps:
        return cls(*(torch.cat(drawn) for drawn in zip(*((p.rotation, p.shear) for p in parts), strict=True)))


def draw_crops(count: int, padding: int, flip: float, generator: torch.Generator) -> Crops:
    """What RandomCrop(size, padding) and RandomHorizontalFlip(flip) of torchvision draw, `count` times."""
    offsets = torch.randint(-padding, padding + 1, (2, count), generator=generator)
    return Crops(offsets[0], offsets[1], torch.rand(count, generator=generator) < flip)


def crop(images: Tensor, crops: Crops) -> Tensor:
    """Shift `images` [N, C, H, W] by the drawn offsets, zeros moving in, and mirror some of them.

    The same as padding with zeros, cropping back to size, and flipping (section on training of the paper: pad
    4, random crop, flip). It acts on pixels before normalisation, as in torchvision's usual order, so what
    moves in is black.
    """
    height, width = images.shape[-2:]
    row = torch.arange(height, device=images.device)
    column = torch.arange(width, device=images.device)
    mirrored = torch.where(crops.flips[:, None], width - 1 - column, column)
    rows, columns = row + crops.rows[:, None], mirrored + crops.columns[:, None]
    return _gather(images, rows[:, :, None], columns[:, None, :])


def draw_warps(count: int, rotation: float, shear: float, generator: torch.Generator) -> Warps:
    """Angles within ± `rotation` and ± `shear` degrees, uniform, for `count` samples."""
    angles = torch.rand((2, count), generator=generator) * 2 - 1
    return Warps(angles[0] * rotation, angles[1] * shear)


def warp(frames: Tensor, warps: Warps) -> Tensor:
    """Rotate `frames` [N, T, C, H, W], then shear them horizontally, all frames of a sample alike.

    torchvision's RandomRotation and RandomAffine(0, shear=...) in a row (paper: RandomRotation 30 degrees,
    RandomAffine shear (-30, 30)), but in one step: each cell takes the count of the nearest source cell,
    torchvision's default too, so counts stay whole and no event is smeared over neighbours. Zeros come in
    from outside.
    """
    height, width = frames.shape[-2:]
    device = frames.device
    # Coordinates about the centre of the picture, in cells.
    y = (torch.arange(height, device=device) - (height - 1) / 2)[None, :, None]
    x = (torch.arange(width, device=device) - (width - 1) / 2)[None, None, :]
    angle, slant = (torch.deg2rad(drawn)[:, None, None] for drawn in (warps.rotation, warps.shear))
    # Going backwards, from the result to the source: first undo the shear, then the rotation.
    unsheared = x + torch.tan(slant) * y
    rows = torch.cos(angle) * y + torch.sin(angle) * unsheared
    columns = torch.cos(angle) * unsheared - torch.sin(angle) * y
    return _gather(frames, _nearest(rows, height), _nearest(columns, width))


def _nearest(centred: Tensor, length: int) -> Tensor:
    return (centred + (length - 1) / 2).round().to(torch.int64)


def _gather(samples: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """samples[n, ..., rows[n, h, w], columns[n, h, w]] for all n, h and w, and 0 where that lies outside.

    `rows` and `columns` are broadcast against each other to [N, H, W].
    """
    height, width = samples.shape[-2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    cells = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    planes = samples.reshape(len(samples), -1, height * width)
    index = cells.reshape(len(samples), 1, -1).expand(-1, planes.shape[1], -1)
    taken = planes.gather(2, index) * inside.reshape(len(samples), 1, -1)
    return taken.reshape(samples.shape)
