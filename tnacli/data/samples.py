"""What the other rooms see of a data set: its samples in memory, and what goes with them. Arrays, so that no torch is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tnacli.data.cache import Bytes
from tnacli.recipe.schema.data import Augmentation

Labels = NDArray[np.int64]
DataOrigin = Literal["official", "folder", "generated", "embedded"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of one split, kept as bytes: a quarter of floats' memory, and pixels and counts fit exactly.

    `inputs` is uint8, [n, C, H, W] pixels or [n, T, C, H, W] event counts; `labels` is int64, [n].
    Raises ValueError if they are anything else.
    """

    inputs: Bytes
    labels: Labels

    def __post_init__(self) -> None:
        if self.inputs.dtype != np.uint8 or self.inputs.ndim not in (4, 5):
            raise ValueError(f"inputs must be uint8 in 4 or 5 dimensions, not {self.inputs.dtype}, {self.inputs.ndim}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.inputs.shape[:1]:
            raise ValueError(f"labels must be int64, one a sample, not {self.labels.dtype}, {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Labels) -> Samples:
        """The samples at `indices`, in that order."""
        return Samples(self.inputs[indices], self.labels[indices])

    def digest(self) -> str:
        """The SHA-256 over shape, inputs and labels, in hexadecimal."""
        digest = hashlib.sha256(repr(tuple(self.inputs.shape)).encode())
        for array in (self.inputs, self.labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as a run uses it: the chosen samples of each split, in memory.

    A split that was not asked for is empty; `validation` is None where none is held out. `mean` and `std` are
    per channel, of pixels scaled to [0, 1]; both are None where inputs are not normalised. `notes` says what
    is worth knowing about how the samples were found (files passed over, how a split was made). `fingerprint`
    covers class names and the loaded splits, of which `digests` has one each.
    """

    name: str
    kind: Literal["images", "events"]
    classes: tuple[str, ...]
    train: Samples
    validation: Samples | None
    test: Samples
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    augmentation: Augmentation
    source: DataOrigin
    fingerprint: str
    notes: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Colour channels of an image, or the two polarities of event frames."""
        return int(self.train.inputs.shape[-3])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image or event frame."""
        height, width = self.train.inputs.shape[-2:]
        return int(height), int(width)


def fingerprint(classes: tuple[str, ...], digests: Mapping[str, str]) -> str:
    """The SHA-256 over class names and the digests of the named splits, in hexadecimal."""
    digest = hashlib.sha256("\0".join(classes).encode())
    for name in sorted(digests):
        digest.update(f"\0{name}\0{digests[name]}".encode())
    return digest.hexdigest()


def empty_like(samples: Samples) -> Samples:
    """No samples, of the same shape."""
    return Samples(samples.inputs[:0], samples.labels[:0])
