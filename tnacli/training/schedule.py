"""The learning rate and the moments of compression, as functions of how far training has come."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from tnacli.recipe.schema.epochs import in_epochs
from tnacli.recipe.schema.recipe import Settings, Train


def compression_epoch(settings: Settings) -> int | None:
    """The first epoch (from 0) trained with compressed weights, or None.

    A share of the epochs is rounded to whole epochs, and leaves at least one to train after compression.
    """
    if settings.compression is None:
        return None
    return _whole(in_epochs(settings.compression.start, settings.train.epochs), settings.train.epochs)


def compression_epochs(settings: Settings, layers: Sequence[str]) -> dict[str, int]:
    """The first epoch (from 0) that each of `layers`, first to last, is trained with compressed weights; empty without any.

    All at the same epoch, or with `compression.gradual` one after the other at equal distances, each rounded as the first.
    """
    compression, epochs = settings.compression, settings.train.epochs
    if compression is None:
        return {}
    start, gradual = in_epochs(compression.start, epochs), compression.gradual
    order = list(layers) if gradual is None or gradual.order == "forward" else list(reversed(layers))
    step = 0.0 if gradual is None or len(order) < 2 else in_epochs(gradual.over, epochs) / (len(order) - 1)
    return {name: _whole(start + number * step, epochs) for number, name in enumerate(order)}


def _whole(epochs: float, total: int) -> int:
    return max(0, min(floor(epochs + 0.5), total - 1))


def learning_rate(train: Train, progress: float, compressed_at: int | None) -> float:
    """The rate after `progress` epochs: the initial rate times gamma once every `schedule.every` epochs.

    With `at_compression: restart` the count starts again at the epoch `compressed_at`, the first layer's.
    """
    schedule = train.schedule
    if schedule.at_compression == "restart" and compressed_at is not None and progress >= compressed_at:
        progress -= compressed_at
    every = in_epochs(schedule.every, max(train.epochs, 1))  # a run of no epochs has its initial rate
    return train.learning_rate * schedule.gamma ** floor(progress / every + 1e-9)
