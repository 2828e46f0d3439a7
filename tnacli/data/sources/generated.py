"""Made-up samples of a data set's shape: for trying things out, smoke tests and machines without the data.

Each class has a pattern of its own, coarse blocks of random brightness, and each sample is a mixture of that
and noise, so that networks can learn to tell the classes apart but not instantly. Nothing is read from disk. The random
numbers are torch's, which is loaded for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tnacli.data.samples import Bytes, Labels
from tnacli.data.source import Source
from tnacli.recipe.datasets import DATASETS
from tnacli.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor

TRAIN_PER_CLASS, TEST_PER_CLASS = 4, 2
_BLOCKS = 4  # a pattern has _BLOCKS x _BLOCKS areas per channel: coarse, so that it survives random crops
_CONTRAST = 0.6  # share of a sample that is pattern; the rest is noise
_COUNTS = 6.0  # expected events in the brightest block of a frame


def generated(
    name: str, size: tuple[int, int], timesteps: int, *, train_samples: int | None, test_samples: int | None
) -> Source:
    """Samples in the shape of the data set `name`, at `size`; event frames for event sets. Of one's own, ten classes.

    There are `train_samples` and `test_samples` of them, or 4 and 2 for each class. They depend on nothing
    but the arguments.
    """
    spec = DATASETS[name]
    classes, channels = spec.classes or 10, spec.channels or 3
    counts = {
        "train": train_samples or TRAIN_PER_CLASS * classes,
        "test": test_samples or TEST_PER_CLASS * classes,
    }
    # Classes take turns, so that any number of samples is as balanced as it can be.
    labels = {split: np.arange(count, dtype=np.int64) % classes for split, count in counts.items()}

    def read(split: str, indices: Labels) -> Bytes:
        import torch

        patterns = _patterns(name, classes, channels, size)
        generator = torch.Generator().manual_seed(derive(0, "generated", name, split))
        shape = (counts[split], *((timesteps,) if spec.is_events else ()), channels, *size)
        noise = torch.rand(shape, generator=generator)
        pattern = patterns[torch.from_numpy(labels[split])]
        if spec.is_events:
            rate = _COUNTS * (_CONTRAST * pattern.unsqueeze(1) + (1 - _CONTRAST) * noise)
            values = torch.poisson(rate, generator=generator).clamp(max=255)
        else:
            values = ((_CONTRAST * pattern + (1 - _CONTRAST) * noise) * 255).round()
        samples: Bytes = values.to(torch.uint8).numpy()[indices]
        return samples

    return Source("generated", tuple(str(label) for label in range(classes)), labels, read)


def _patterns(name: str, classes: int, channels: int, size: tuple[int, int]) -> Tensor:
    """One pattern a class, values in [0, 1]: [classes, channels, *size]."""
    import torch
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(derive(0, "generated", name, "patterns"))
    blocks = torch.rand((classes, channels, _BLOCKS, _BLOCKS), generator=generator)
    return F.interpolate(blocks, size=size, mode="nearest")
