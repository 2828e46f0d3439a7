"""What is timed: one network at one size, and the words for it. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CLASSES = 100
IMAGE = (3, 32, 32)
PACKED = "packed.safetensors"
DATA = "data"
"""A data root beside it, of an image a class."""

Step = Callable[[], object]
"""One turn of a contender: a training step, or an evaluated batch (its logits come back)."""


class SkippedError(Exception):
    """Why a contender cannot take part here."""


@dataclass(frozen=True)
class Work:
    """CIFARNet at `width` over `timesteps`, on `batch` images of 3x32x32 in `precision` (fp32 or bf16) on `device`.

    `folder` holds what evaluation reads: the packed file and its like (`benchmarks.evaluation.prepare`).
    """

    width: float
    batch: int
    precision: str = "fp32"
    device: str = "cpu"
    timesteps: int = 5
    folder: str = ""

    def __str__(self) -> str:
        return f"width {self.width:g}, batch {self.batch}, {self.precision}, {self.device}"
