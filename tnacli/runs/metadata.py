"""What is stored of a run that has begun, and of each of its checkpoints.

Every model is frozen, strict about types, and knows no key that is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tnacli.data.learned_from import LearnedFrom
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.recipe import Settings

Count = Annotated[int, Field(ge=0)]
_Side = Annotated[int, Field(ge=1, le=1 << 14)]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Kernels = Literal["compiled", "plain", "mixed"]


class Stored(BaseModel):
    """The base of all that is stored of a run. Losses may be infinite or no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Versions(Stored):
    """What computed a run: programs, the commit of tnacli if it was a checkout, the processor's name."""

    tnacli: str
    torch: str
    python: str
    commit: str | None = None
    processor: str | None = None


class RunMetadata(Stored):
    """Which run it is, on which data, by which programs.

    `altered` lists overlays and overrides, and what else makes it another run than the recipe's; `initial` is the digest of the
    checkpoint whose weights it starts from. `mean` and `std` are those of each channel, of pixels scaled to [0, 1]; None where
    inputs are not normalised.
    """

    recipe: str
    run: str
    identity: str
    altered: tuple[str, ...]
    initial: str | None
    data: LearnedFrom
    kind: Literal["images", "events"]
    classes: tuple[str, ...] = Field(min_length=1)
    channels: _Side
    size: tuple[_Side, _Side]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    versions: Versions
    kernels: Kernels
    seed: Count

    @model_validator(mode="after")
    def _fits_channels(self) -> RunMetadata:
        for values in (self.mean, self.std):
            if values is not None and len(values) != self.channels:
                raise ValueError("its mean and standard deviation do not fit its channels")
        return self


class BegunRun(RunMetadata):
    """The `run.json` of a run whose training has begun."""

    settings: Settings


class TrainingState(Stored):
    """Where training stood; exactly these values are handed to the loop.

    `epoch` whole epochs, `step` steps into the next one, and `totals` of what has been summed up in it. `compressed` is true
    once all layers that are to be compressed are; `partly` lists them while only some are. `learning_rate` is what the
    optimiser took the epoch's first step with.
    """

    epoch: Count
    step: Count
    compressed: bool
    seconds: float
    epoch_seconds: float
    totals: dict[str, float]
    best_epoch: Count | None
    best_accuracy: float
    partly: tuple[str, ...]
    learning_rate: float


class CheckpointMetadata(BegunRun):
    """What a checkpoint says besides its tensors; `networks` are the networks in it, by name."""

    networks: dict[str, Model]
    state: TrainingState
    compressed: bool
    precision: Precision

    @model_validator(mode="after")
    def _consistent(self) -> CheckpointMetadata:
        if "base" not in self.networks:
            raise ValueError("there is no base among its networks")
        if self.compressed and self.settings.compression is None:
            raise ValueError("its weights are compressed, and its settings do not say how")
        return self


def of_execution(altered: Iterable[str]) -> tuple[str, ...]:
    """Of what makes a run another than the recipe's, how it was executed; not the overlays and overrides."""
    return tuple(text for text in altered if not text.startswith(("with ", "set ")))


def first_complaint(error: ValidationError) -> str:
    """The first thing that is wrong with stored values, after its dotted key."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
