"""What a finished run came to."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from tnacli.runs.metadata import Count, Precision, RunMetadata


class RunResult(RunMetadata):
    """The `result.json` of a finished run. Accuracies in % and losses are on the test set, by network.

    `validation` is the base's accuracy on samples held out for it; empty without any. Memory is in MB (1e6 bytes);
    `peak_beyond_start_mb` is that beyond what was held before, None where it cannot be measured.
    """

    accuracy: dict[str, float]
    loss: dict[str, float]
    selected_epoch: Count
    select: Literal["last", "val", "test"]
    compressed: Literal["ternary", "binary"] | None
    seconds: float
    peak_memory_mb: float
    firing_rate: dict[str, float]
    validation: dict[str, float]
    epochs: Count
    device: str
    precision: Precision
    peak_beyond_start_mb: float | None
    compiled_regions: bool

    @field_validator("accuracy")
    @classmethod
    def _base(cls, accuracy: dict[str, float]) -> dict[str, float]:
        if "base" not in accuracy:
            raise ValueError("has no base")
        return accuracy
