"""What the description in a checkpoint must say for the checkpoint to be used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tnacli.data.learned_from import LearnedFrom
from tnacli.recipe.model_section import Model
from tnacli.recipe.schema import Settings

_Count = Annotated[int, Field(ge=0)]
_Side = Annotated[int, Field(ge=1, le=1 << 14)]


class _Part(BaseModel):
    # Later versions may say more; what is read here must be there, and of its type.
    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class StoredState(BaseModel):
    """Where training stood; exactly these values are handed to the loop."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    epoch: _Count
    step: _Count
    compressed: bool
    seconds: float
    epoch_seconds: float
    totals: dict[str, float]
    best_epoch: _Count | None
    best_accuracy: float
    partly: list[str] = []
    learning_rate: float = 0.0


class Description(_Part):
    """`Checkpoint.about`, checked."""

    recipe: str
    run: str
    seed: _Count
    identity: str
    altered: list[str]
    data: LearnedFrom
    kind: Literal["images", "events"]
    classes: list[str] = Field(min_length=1)
    channels: _Side
    size: Annotated[tuple[_Side, _Side], Field(strict=False)]
    mean: list[float] | None
    std: list[float] | None
    versions: dict[str, Any]
    settings: Settings
    networks: dict[str, Model]
    state: StoredState
    compressed: bool
    precision: Literal["fp32", "bf16"] | None = None
    kernels: Literal["compiled", "plain", "mixed"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Description:
        if "base" not in self.networks:
            raise ValueError("there is no base among its networks")
        if self.compressed and self.settings.compression is None:
            raise ValueError("its weights are compressed, and its settings do not say how")
        for values in (self.mean, self.std):
            if values is not None and len(values) != self.channels:
                raise ValueError("its mean and standard deviation do not fit its channels")
        return self
