"""The learning rate and the moment of compression, as functions of how far training has come."""

from __future__ import annotations

from math import floor

from tnacli.recipe.epochs import in_epochs
from tnacli.recipe.schema import Settings, Train


def compression_epoch(settings: Settings) -> int | None:
    """The first epoch (from 0) trained with compressed weights, or None.

    A share of the epochs is rounded to whole epochs, and leaves at least one to train after compression.
    """
    if settings.compression is None:
        return None
    epochs = settings.train.epochs
    return max(0, min(floor(in_epochs(settings.compression.start, epochs) + 0.5), epochs - 1))


def learning_rate(train: Train, progress: float, compressed_at: int | None) -> float:
    """The rate after `progress` epochs: the initial rate times gamma once every `schedule.every` epochs.

    With `at_compression: restart` the count starts again at the epoch `compressed_at`.
    """
    schedule = train.schedule
    if schedule.at_compression == "restart" and compressed_at is not None and progress >= compressed_at:
        progress -= compressed_at
    every = in_epochs(schedule.every, train.epochs)
    return train.learning_rate * schedule.gamma ** floor(progress / every + 1e-9)
