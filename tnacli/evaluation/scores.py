"""What is counted while a network is evaluated, of logits as arrays. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.likeliest import likeliest


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` and `top5` in %, `loss` the mean cross-entropy, `firing_rate` in spikes a neuron and timestep by layer.

    In an artificial network the rate is the share of values above 0.
    """

    accuracy: float
    top5: float
    loss: float
    samples: int
    firing_rate: dict[str, float]


class Scores:
    """Running totals over batches: hits, hits among the five best, cross-entropy in fp64."""

    def __init__(self) -> None:
        self._hits = self._hits5 = self._samples = 0
        self._loss = 0.0

    def add(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """`logits` [N, classes] of samples of these classes, [N]. Of equal logits the first is taken for the larger."""
        best = likeliest(logits, 5) == labels[:, None]
        self._hits += int(best[:, 0].sum())
        self._hits5 += int(best.sum())
        self._samples += len(labels)
        with np.errstate(invalid="ignore"):  # NaN of a network that diverged stays NaN
            risen = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
            own = np.take_along_axis(risen, labels[:, None], axis=1)[:, 0]
            self._loss += float((np.log(np.exp(risen).sum(axis=1)) - own).sum())

    def evaluation(self, firing_rate: dict[str, float]) -> Evaluation:
        """Of at least one sample."""
        count = self._samples
        return Evaluation(100 * self._hits / count, 100 * self._hits5 / count, self._loss / count, count, firing_rate)


class SpikeCounts:
    """Running totals of spikes and of neuron-timesteps by layer."""

    def __init__(self) -> None:
        self._spikes: dict[str, Any] = {}
        self._chances: dict[str, int] = {}

    def add(self, name: str, fired: Any, chances: int) -> None:
        """`fired` of `chances` neuron-timesteps of a layer spiked; a number, or a tensor that stays on its device."""
        self._spikes[name] = self._spikes.get(name, 0) + fired
        self._chances[name] = self._chances.get(name, 0) + chances

    def rates(self) -> dict[str, float]:
        return {name: int(fired) / self._chances[name] for name, fired in self._spikes.items()}
