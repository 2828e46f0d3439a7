"""What training reports: plain dataclasses, drawn by the command line, written by the run store, read by tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnacli.quant.weights import Shares


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on after `resumed_epoch` whole epochs and `resumed_step` steps."""

    epochs: int
    steps_per_epoch: int
    samples: int
    parameters: int
    device: str
    precision: str
    resumed_epoch: int = 0
    resumed_step: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Branched:
    """A compressed run begins after the first `epochs` epochs of the full-precision run in the folder `stem`."""

    epochs: int
    stem: str


@dataclass(frozen=True)
class Progress:
    """Now and then within an epoch: means over the epoch so far."""

    epoch: int
    step: int
    loss: float
    parts: dict[str, float]
    accuracy: float
    samples_per_second: float


@dataclass(frozen=True)
class Compressed:
    """The base has just been compressed; the share of -1, 0 and +1 in each layer."""

    epoch: int
    mode: str
    shares: dict[str, Shares]


@dataclass(frozen=True)
class EpochDone:
    """One epoch, whole. Accuracies in %, by network; losses are means over samples or, for matching, over steps.

    `loss`, `accuracy` and `firing_rate` are empty after an epoch that was not evaluated (`train.evaluate_every`).
    `learning_rate` is the one that the optimiser took the epoch's first step with.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_parts: dict[str, float]
    train_accuracy: dict[str, float]
    measured_on: str
    loss: dict[str, float]
    accuracy: dict[str, float]
    firing_rate: dict[str, float]
    compressed: str | None
    shares: dict[str, Shares]
    seconds: float
    samples_per_second: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint is whole on disk."""

    path: str
    epoch: int
    step: int


@dataclass(frozen=True)
class Noted:
    """What was found and made of the data, to be said once."""

    message: str


@dataclass(frozen=True)
class Warned:
    """Something that the user should know and that does not stop training."""

    message: str


@dataclass(frozen=True)
class Finished:
    """The run is complete. Accuracies in %, on the test set, by network.

    `validation` is the base's on the samples held out for it, with the weights that are the result; empty without any.
    """

    accuracy: dict[str, float]
    loss: dict[str, float]
    selected_epoch: int
    select: str
    compressed: str | None
    seconds: float
    peak_memory_mb: float
    firing_rate: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)


Event = Branched | Started | Progress | Compressed | EpochDone | Saved | Noted | Warned | Finished
