"""Which samples a run uses if not all: balanced over classes, and the same for every seed.

Within its class each sample has a fixed rank, the SHA-256 of the stream's name, the class and its position
among the samples of that class. A subset takes the samples of lowest rank, so a smaller subset lies inside
every larger one, and the choice depends on no library's random numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tnacli.seeds import derive

Indices = NDArray[np.int64]


def quotas(available: list[int], count: int) -> list[int]:
    """How many samples each class gives so that `count` are as evenly spread as the classes allow.

    Classes take turns in label order until `count` is reached; one that has run out is passed over. Raises
    ValueError if there are fewer than `count`.
    """
    if count > sum(available):
        raise ValueError(f"{count} samples asked for, {sum(available)} available")
    given = [0] * len(available)
    while count:
        open_classes = [label for label, number in enumerate(available) if given[label] < number]
        for label in open_classes[:count]:
            given[label] += 1
        count -= min(count, len(open_classes))
    return given


def balanced(labels: Indices, count: int, *stream: str) -> Indices:
    """Indices of `count` of the samples with `labels`, balanced over classes, ascending (int64, [count]).

    `stream` names the choice: other names, other samples. Raises ValueError if there are fewer than `count`
    samples.
    """
    values = labels.tolist()
    members: list[list[int]] = [[] for _ in range(max(values, default=-1) + 1)]
    for index, label in enumerate(values):
        members[label].append(index)
    chosen: list[int] = []
    for label, quota in enumerate(quotas([len(indices) for indices in members], count)):
        ranks = [derive(0, *stream, label, position) for position in range(len(members[label]))]
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        chosen += [members[label][position] for position in order[:quota]]
    return np.array(sorted(chosen), np.int64)


def rest(total: int, taken: Indices) -> Indices:
    """The indices below `total` that are not in `taken`, ascending."""
    keep = np.ones(total, bool)
    keep[taken] = False
    return np.flatnonzero(keep)
