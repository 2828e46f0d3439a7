"""The documents of the commands that train: train, ternarize, compare-kd, and the plan of train --dry-run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from tnacli.cli.documents.base import Count, Diverged, Document, Identity, Part, Percent, Share, Spread
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.metadata import Kernels, Precision

_DIVERGED = "runs without a result, because their training or that of their teacher diverged; the exit code is then 7"


class Data(Part):
    name: str
    source: str
    fingerprint: str = Field(description="SHA-256 over class names and all samples: equal for equal data")
    samples: dict[str, Count] = Field(description="how many, by split")


class PackedFile(Part):
    path: Path
    size_bytes: Count = Field(description="bytes of the file")
    weights: Count = Field(description="hidden weights compared one by one")
    samples: Count = Field(description="test samples whose predictions were compared")
    agreeing: Count = Field(description="of them, those that were equal: all, but for rounding in a user's own module")
    accuracy: Percent | None = Field(description="of the packed file, in %")
    largest_difference: float = Field(description="between logits of the network and of the file")


class TrainedRun(Part):
    recipe: str
    run: str
    seed: Count
    identity: Identity
    altered: tuple[str, ...] = Field(
        description="overlays and overrides, and whatever else the result must be shown with"
    )
    data: Data
    compressed: Literal["ternary", "binary"] | None = Field(description="weights of the base; null is full precision")
    accuracy: dict[str, Percent] = Field(description="on the test set, in %, by network")
    loss: dict[str, float] = Field(description="mean cross-entropy on the test set by network")
    firing_rate: dict[str, Share] = Field(description="spikes a neuron and timestep, by layer of the base")
    select: Literal["last", "val", "test"]
    selected_epoch: Count
    epochs: Count
    seconds: float = Field(description="of training")
    peak_memory_mb: float
    device: str
    precision: Precision
    peak_beyond_start_mb: float | None = Field(
        description="peak beyond what was held when the run began (Python, torch, the data), 1e6 bytes; null where the system "
        "cannot tell"
    )
    kernels: Kernels = Field(
        description="what computed spiking layers: compiled kernels, plain PyTorch (as on GPUs), or each for a part of the "
        "training"
    )
    validation: dict[str, Percent] = Field(
        description="of the base on the samples held out (data.validation_samples), in %; empty where none were"
    )
    trained: bool = Field(description="false if it was finished before and taken from disk")
    folder: Path
    checkpoint: Path
    packed: PackedFile | None = None


class Train(Document):
    """tna train --json, tna ternarize --json"""

    command: Literal["train", "ternarize"]
    runs: list[TrainedRun]
    diverged: list[Diverged] = Field(description=f"{_DIVERGED}, or that of what stopped the others")


class Costs(Part):
    sample_flop: Count = Field(
        description="multiplications and additions of one training sample, forward and backward, all networks"
    )
    run_flop: Count | None = Field(
        description="those of all epochs; null where the number of samples depends on the user's files"
    )
    step_bytes: Count | None = Field(
        description="the most that a training step holds in fp32 on the CPU with the compiled kernels, without Python, torch "
        "and the data; null where those do not apply"
    )


class Sizes(Part):
    """Of all trained networks, of a checkpoint with its optimiser, and of the base packed at 2 bits."""

    parameters: Count
    checkpoint_bytes: Count
    packed_bytes: Count | None


class MatchingWeight(Part):
    weight_in_batch_means: float | None = Field(
        description="the alpha that weighs as much under reduction: batch_mean, at the run's batch size; null where no factor "
        "leads there"
    )
    why_not: str | None = Field(description="why weight_in_batch_means is null, if it is")


class OnCard(Part):
    """A run on a known GPU: estimates by arithmetic, none of them measured."""

    card: str
    memory_bytes: Count
    needed_bytes: Count | None = Field(description="null where the card has no such arithmetic")
    hours: float | None = Field(description="of training; null where the number of samples depends on the user's files")
    fits: bool
    remedies: tuple[str, ...] = Field(description="what would fit, where it does not")
    unavailable: str | None = Field(description="why the card cannot train it as it is")


class PlannedRun(Part):
    run: str
    seed: Count
    identity: Identity
    status: Literal["new", "interrupted", "finished"]
    folder: Path
    altered: tuple[str, ...]
    size: Sizes | None
    initial: str | None = Field(
        description="SHA-256 of the checkpoint that settings.train.initial names, whose weights the run starts from; null without"
    )
    data_changed: str | None = Field(
        description="which data files are no longer those that the run learned from; null if none, or unknown"
    )
    costs: Costs | None
    gpus: list[OnCard] = Field(description="on known cards, where the device is cuda; empty where that cannot be told")
    matching: MatchingWeight | None = Field(description="how much the matching loss weighs; null without one")
    settings: Annotated[Settings, WithJsonSchema({"type": "object"})] = Field(
        description="as `tna recipes --schema` describes the settings of a run"
    )


class DataSeen(Part):
    name: str
    there: bool
    text: str = Field(description="where it was found, or looked for")


class TrainDryRun(Document):
    """tna train --dry-run --json, tna compare-kd --dry-run --json"""

    command: Literal["train --dry-run", "compare-kd --dry-run"] = "train --dry-run"
    recipe: str
    data: list[DataSeen] = Field(description="the data sets of the runs; nothing is read of them")
    runs: list[PlannedRun]


class ComparedMethod(Part):
    method: Literal["baseline", "teacher", "KD", "KD + CE", "TNA"]
    alpha: float | None = Field(description="weight of the matching loss")
    accuracy: Spread | None = Field(description="test accuracy in %")
    seeds: Count
    difference: Spread | None = Field(description="to the baseline, paired over the seeds, percentage points")
    p_t: float | None = Field(description="two-sided p of the paired t-test")
    seconds: float | None = Field(description="training time of a run, mean")
    teacher_seconds: float | None = Field(description="training time of the teacher, once for all it teaches")
    extra_parameters: int | None = Field(description="held besides the base's while training")
    peak_beyond_start_mb: float | None = Field(
        description="peak of a run beyond what was held when it began (Python, torch, the data), mean over the seeds, 1e6 bytes; "
        "null where the system cannot tell"
    )
    notes: str


class Difference(Part):
    first: str
    second: str
    paper: float | None = Field(description="percentage points, CIFAR-100")
    ours: Spread | None = Field(description="first minus second, paired over the seeds")
    seeds: Count
    same_sign: bool | None
    p_t: float | None
    p_signs: float | None = Field(description="two-sided p of all flips of sign")
    notes: str


class CompareKD(Document):
    """tna compare-kd --json"""

    command: Literal["compare-kd"] = "compare-kd"
    recipe: str
    methods: list[ComparedMethod]
    differences: list[Difference]
    diverged: list[Diverged] = Field(description=_DIVERGED)
