"""What must be in the `result.json` of a finished run, checked once where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from tnacli.data.learned_from import LearnedFrom
from tnacli.errors import FileFormatError


class _Result(BaseModel):
    """The keys that tables and documents read; there may be others."""

    recipe: str
    run: str
    seed: int
    identity: str
    altered: list[str]
    data: LearnedFrom
    compressed: Literal["ternary", "binary"] | None
    accuracy: dict[str, float] = Field(description="by network, in %")
    loss: dict[str, float]
    firing_rate: dict[str, float]
    validation: dict[str, float] = Field(
        {}, description="of the base, in %, where samples were held out; not in older results"
    )
    select: str
    selected_epoch: int
    epochs: int
    seconds: float
    peak_memory_mb: float
    device: str
    precision: str

    @field_validator("accuracy")
    @classmethod
    def _base(cls, accuracy: dict[str, float]) -> dict[str, float]:
        if "base" not in accuracy:
            raise ValueError("has no base")
        return accuracy


def checked_result(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """`value`, read from `path`, as it is. Raises FileFormatError if it is not what a finished run stores."""
    try:
        _Result.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise FileFormatError(
            f"{path}: not the result of a run: {place}: {first['msg'].removeprefix('Value error, ')}. Delete it, and the "
            f"same `tna train` writes it anew from the run's checkpoint."
        ) from None
    return value
