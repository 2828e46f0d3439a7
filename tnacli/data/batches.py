"""Samples in memory as a stream of batches, ready for a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tnacli.data.augment import Crops, Warps, crop, draw_crops, draw_warps, warp
from tnacli.data.samples import Dataset, Samples
from tnacli.data.uploads import Uploads, one_ahead
from tnacli.errors import DataError
from tnacli.pixels import as_input
from tnacli.recipe.schema.data import Augmentation
from tnacli.seeds import derive

_RESIDENT_SHARE = 4  # samples stay on a GPU if they take less than one part in this many of its free memory


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's samples on the training device: float32 [N, C, H, W] or [N, T, C, H, W], int64 labels [N].

    `total` is the size of the whole batch over all processes, of which this is the share of one.
    """

    inputs: Tensor
    labels: Tensor
    total: int


class Batches:
    """The batches of every epoch over `samples`.

    Nothing is remembered between epochs: the order follows from the seed and the epoch, augmentation from the
    seed, the epoch and the step. So going on at any (epoch, step) gives the very batches that an
    uninterrupted run would have seen.

    With `training`, samples are shuffled and augmented. The last batch of an epoch may be smaller than the
    others; if too small for batch norm (one sample, or fewer than two a process) it becomes part of the one
    before. Without `training`, samples come in order and unchanged.

    Of each batch, process `rank` of `world` takes every world-th sample, beginning with the rank-th: none is
    lost or taken twice, and what a sample looks like does not depend on `world`. In evaluation a share may be
    empty.

    Samples lie on the device. Those that would crowd a GPU stay in the CPU's memory, and each batch is sent one step ahead.

    Raises DataError if there are too few samples to train on.
    """

    def __init__(
        self,
        samples: Samples,
        dataset: Dataset,
        batch_size: int,
        device: torch.device | str,
        *,
        seed: int = 0,
        training: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world:
            raise ValueError(f"batch_size {batch_size}, rank {rank} and world {world} do not fit together")
        least = 2 * world if training else 1
        if training and len(samples) < least:
            raise DataError(
                f"{len(samples)} training samples are too few: batch norm needs at least {least} (2 a "
                "process). Raise data.train_samples or hold fewer out for validation."
            )
        self.device = torch.device(device)
        self.samples = samples
        inputs = torch.from_numpy(samples.inputs)
        self._uploads = Uploads(self.device) if _crowds(inputs, self.device) else None
        self._inputs = inputs.to(self.device) if self._uploads is None else inputs
        self._labels = torch.from_numpy(samples.labels).to(self.device)
        self.bounds = _bounds(len(samples), batch_size, min(least, batch_size))
        self._scale = [None if v is None else torch.tensor(v, device=self.device) for v in (dataset.mean, dataset.std)]
        self.kind = dataset.kind
        self.augmentation = dataset.augmentation if training else None
        self.seed, self.training, self.rank, self.world = seed, training, rank, world

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self.bounds) - 1

    @property
    def sample_count(self) -> int:
        """Samples in an epoch, over all processes."""
        return len(self.samples)

    def epoch(self, epoch: int = 0, first_step: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` (counted from 0) from `first_step` on.

        All that is random about the epoch goes to the device at its start, so that a step of samples that lie there copies
        nothing to it and waits for nothing, and a step of others copies them alone.
        """
        order, drawn = self._order(epoch), self._drawn(epoch)
        there = order.to(self.device)
        mean, std = self._scale
        spans = list(itertools.pairwise(self.bounds[first_step:]))
        shares = [slice(first + self.rank, last, self.world) for first, last in spans]
        taken = self._taken(order if self._uploads else there, shares)
        for (first, last), share in zip(spans, shares, strict=True):
            inputs = next(taken)
            if drawn is not None:
                inputs = augmented(inputs, drawn.each(lambda values, share=share: values[share]))  # type: ignore[misc]
            yield Batch(as_input(inputs, mean, std, self.kind), self._labels[there[share]], last - first)

    def _taken(self, order: Tensor, shares: list[slice]) -> Iterator[Tensor]:
        """The samples that `order`, where they lie, has in each of `shares`, on the device, as bytes."""
        rows = (order[share] for share in shares)
        if self._uploads is None:
            return (self._inputs[mine] for mine in rows)
        return one_ahead(self._uploads, self._inputs, rows)

    def _drawn(self, epoch: int) -> Crops | Warps | None:
        """What is random about every sample of `epoch`, in its order, on the device; None if nothing is."""
        if self.augmentation is None:
            return None
        parts = []
        for step, (first, last) in enumerate(itertools.pairwise(self.bounds)):
            generator = torch.Generator().manual_seed(derive(self.seed, "augment", epoch, step))
            if (part := draw(self.augmentation, self.kind, last - first, generator)) is None:
                return None
            parts.append(part)
        whole: Crops | Warps = type(parts[0]).joined(parts)  # type: ignore[arg-type]
        return whole.each(lambda values: values.to(self.device))

    def _order(self, epoch: int) -> Tensor:
        if not self.training:
            return torch.arange(len(self.samples))
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        return torch.randperm(len(self.samples), generator=generator)


def draw(augmentation: Augmentation, kind: str, count: int, generator: torch.Generator) -> Crops | Warps | None:
    """What is random about `count` samples of `kind`; None if nothing is."""
    if kind == "events":
        rotation, shear = augmentation.rotation or 0.0, augmentation.shear or 0.0
        return draw_warps(count, rotation, shear, generator) if rotation or shear else None
    padding, flip = augmentation.crop_padding or 0, augmentation.flip or 0.0
    return draw_crops(count, padding, flip, generator) if padding or flip else None


def augmented(inputs: Tensor, drawn: Crops | Warps | None) -> Tensor:
    """uint8 `inputs` changed as `drawn`."""
    if drawn is None:
        return inputs
    return warp(inputs, drawn) if isinstance(drawn, Warps) else crop(inputs, drawn)


def _bounds(count: int, batch_size: int, least: int) -> list[int]:
    """Where each batch begins, and the end; no batch but an only one is smaller than `least`."""
    bounds = [*range(0, count, batch_size), count]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < least:
        del bounds[-2]
    return bounds


def _crowds(inputs: Tensor, device: torch.device) -> bool:
    """Whether `inputs` would take too much of a GPU's free memory to stay there."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return inputs.nbytes * _RESIDENT_SHARE > free_bytes
