"""The seam between where samples come from and what is chosen from them.

Every kind of data set, whether official files, class folders, embedded or generated, answers as a `Source`.
Labels are known before a single sample is decoded, so that a run on a few hundred samples does not decode
them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tnacli.data.samples import Bytes, DataOrigin, Labels

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is (samples, or bytes of a
download).
"""


def no_progress(what: str, done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Source:
    """A data set that can be read.

    `labels` holds the int64 class of every sample of "train" and "test". `read(split, indices)`, indices int64, returns those
    samples as uint8, [len(indices), C, H, W] or [len(indices), T, C, H, W], and raises DataError naming a
    file that it cannot read.
    """

    origin: DataOrigin
    classes: tuple[str, ...]
    labels: Mapping[str, Labels]
    read: Callable[[str, Labels], Bytes]
    notes: tuple[str, ...] = ()
