"""The documents of the commands that set runs against each other: compare, runs diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tnacli.cli.documents.base import Count, Document, Identity, Interval, Part, Spread

Split = Annotated[
    Literal["test", "validation"],
    Field(description="the samples whose accuracies are compared: the test set, or those held out of the training set"),
]


class Difference(Part):
    recipe: str
    data: str
    run: str
    minus: str = Field(description="the run whose accuracy is subtracted")
    difference: Spread | None = Field(description="in accuracy, percentage points, paired over the seeds")
    seeds: Count = Field(description="that both runs have finished, and can be compared")
    interval: Interval | None = Field(description="95 % confidence interval of the difference")
    p_t: float | None = Field(description="two-sided p of the paired t-test")
    p_holm: float | None = Field(description="the same, corrected for the differences shown together")
    p_signs: float | None = Field(description="two-sided p of all flips of sign")
    smallest: float | None = Field(
        description="the difference that so many seeds of this spread show with a probability of 80 %"
    )
    notes: str


class ComparedRun(Part):
    recipe: str
    run: str = Field(description="its name, with what tells it from another of this name")
    seeds: tuple[Count, ...] = Field(description="finished ones")
    planned_seeds: Count = Field(description="seeds asked for")
    accuracy: Spread | None = Field(description="of the base, in %; null where the seeds have no mean")
    notes: tuple[str, ...]


class Compare(Document):
    """tna compare --json"""

    command: Literal["compare"] = "compare"
    against: str = Field(description="the run that the others are compared with")
    split: Split
    runs: list[ComparedRun]
    differences: list[Difference]
    same_settings: dict[str, Any] = Field(
        description="settings that all runs share, by dotted key; without those that do not change what is computed"
    )
    other_settings: dict[str, dict[str, Any]] = Field(
        description="settings in which they differ, by dotted key and run; a run need not have the key"
    )


class DiffedRun(Part):
    folder: Path
    recipe: str
    run: str
    seed: Count
    identity: Identity


class Quantity(Part):
    key: str = Field(description="such as status, accuracy.base, seconds, versions.torch")
    title: str
    a: Any = Field(description="null where the run does not have it")
    b: Any
    difference: float | None = Field(description="b minus a, of two numbers")


class RunsDiff(Document):
    """tna runs diff --json"""

    command: Literal["runs diff"] = "runs diff"
    a: DiffedRun
    b: DiffedRun
    settings: dict[str, dict[str, Any]] = Field(
        description='what was asked for otherwise: seed, initial and settings by dotted key; of "a" and "b" where it has it'
    )
    results: list[Quantity] = Field(description="of both runs; of what computed them only what differs")
