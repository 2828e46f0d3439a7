"""The documents of the commands that list what is there: data, recipes, doctor, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tnacli.cli.documents.base import Count, Document, Interval, Part, Spread
from tnacli.cli.documents.compare import Difference, Split


class DataSet(Part):
    name: str
    title: str
    found: Literal["official", "folder", "embedded", "generated"] | None = Field(
        description="how it would be read; null if it is not there"
    )
    path: Path | None
    train: Count | None
    test: Count | None
    size_bytes: Count | None
    looked: tuple[str, ...] = Field(description="every place looked at")
    how_to_get: str
    problem: str | None


class Data(Document):
    """tna data --json"""

    command: Literal["data"] = "data"
    data: list[DataSet]


class Entry(Part):
    name: str
    title: str
    path: Path


class Recipes(Document):
    """tna recipes --json"""

    command: Literal["recipes"] = "recipes"
    recipes: list[Entry]
    overlays: list[Entry]


class Check(Part):
    name: str
    status: Literal["ok", "warning", "problem"]
    found: str
    fix: str | None = Field(description="what to do about it")


class Doctor(Document):
    """tna doctor --json"""

    command: Literal["doctor"] = "doctor"
    warnings: Count
    problems: Count = Field(description="above 0: exit code 5")
    checks: list[Check]


class Column(Part):
    key: str
    title: str


class Table(Part):
    title: str
    columns: list[Column]
    rows: list[dict[str, Any]] = Field(
        description="by key of the column; a mean over seeds as {mean, std, count}; null where there is nothing"
    )
    notes: tuple[str, ...]


class Effect(Part):
    table: int | None = Field(description="the paper's table in which it is shown")
    recipe: str
    data: str
    run: str
    minus: str | None = Field(description="the run whose accuracy is subtracted; null for a sibling of the run itself")
    minus_sibling: Annotated[int, Field(ge=1)] | None
    paper: float | None = Field(description="the paper's difference, percentage points; null where it gives none")
    margin: float | None = Field(
        description="null, or where the paper finds no difference: how far from 0 the interval may reach"
    )
    ours: Spread | None = Field(description="paired over the seeds")
    seeds: Count = Field(description="pairs of finished seeds that can be compared")
    planned_seeds: Count = Field(description="seeds asked for")
    interval: Interval | None = Field(description="95 % confidence interval of ours")
    p_t: float | None = Field(description="two-sided p of the paired t-test")
    p_holm: float | None = Field(
        description="the same, corrected for the effects to be judged in the table; null where this one is not judged"
    )
    p_signs: float | None = Field(description="two-sided p of all flips of sign")
    smallest: float | None = Field(
        description="the difference that so many seeds of this spread show with a probability of 80 %"
    )
    verdict: Literal["holds", "not shown", "contradicted"] | None = Field(
        description="null where it is not judged, as the notes say"
    )
    notes: str


class Numbers(Part):
    given: Count = Field(description="accuracies that the paper gives")
    judged: Count
    within: Count = Field(description="their tolerance")


class Effects(Part):
    given: Count = Field(description="that the recipes name")
    judged: Count
    hold: Count
    not_shown: Count
    contradicted: Count


class Thresholds(Part):
    given: Count
    judged: Count
    reached: Count


class Counts(Part):
    numbers: Numbers
    effects: Effects
    thresholds: Thresholds


class ChangedData(Part):
    recipe: str
    run: str
    seed: Count
    folder: Path
    changes: str


class Report(Document):
    """tna report --json"""

    command: Literal["report"] = "report"
    split: Split
    tables: list[Table]
    differences: list[Difference] = Field(
        description="of the other runs of each recipe from one of them; empty while none has a finished seed"
    )
    effects: list[Effect] = Field(description="differences from which the paper draws conclusions, percentage points")
    counts: Counts
    changed_data: list[ChangedData] = Field(
        description="results whose data files are no longer those that they were learned from"
    )


class RunOnDisk(Part):
    recipe: str
    run: str
    seed: Count | None = Field(description="null of a damaged folder")
    status: Literal["finished", "interrupted", "new", "damaged"]
    accuracy: float | None = Field(description="of the base on the test set, in %; null of a run that is not finished")
    size_bytes: Count = Field(description="of all files of the folder")
    written: str = Field(description="when a file of it was last written: local time, to the minute")
    altered: tuple[str, ...] = Field(
        description="overlays, overrides and what else makes it another run than the recipe's"
    )
    initial: str | None = Field(description="digest of the checkpoint whose weights it starts from")
    started_from: Path | None = Field(
        description="where that checkpoint, or the folder of its run, was; null if it starts from none"
    )
    folder: Path


class Runs(Document):
    """tna runs --json"""

    command: Literal["runs"] = "runs"
    runs: list[RunOnDisk]


class Recorded(Document):
    """tna runs record --json"""

    command: Literal["runs record"] = "runs record"
    ledger: Path
    new: Count = Field(description="runs that the ledger did not have")
    known: Count = Field(description="runs that it had, whose lines it keeps")


class Leftover(Part):
    path: Path
    why: str = Field(description="it may go")
    size_bytes: Count = Field(description="of a folder: of all files in it")


class Cleaned(Document):
    """tna runs clean --json"""

    command: Literal["runs clean"] = "runs clean"
    deleted: bool = Field(description="false if it was only looked for, without --yes")
    size_bytes: Count = Field(description="of all leftovers")
    leftovers: list[Leftover]
    busy: list[Path] = Field(description="folders of runs in training, which were left as they are")
