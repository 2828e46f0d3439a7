"""The documents of the commands that look at a checkpoint or a packed file: evaluate, inspect, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tnacli.cli.documents.base import Count, Document, Part, Percent, Share


class MeasuredFile(Part):
    """A file, and the network and data in it that are measured."""

    file: Path
    kind: Literal["checkpoint", "packed"]
    network: str
    weights: Literal["fp32", "ternary", "binary"]
    data: str
    recipe: str
    run: str
    seed: Count
    altered: tuple[str, ...]
    epoch: Count | None = Field(None, description="of a checkpoint")
    device: str
    same_data: bool | None = Field(
        description="whether the samples are those that were there in training; null where that cannot be told (part of a split "
        "of changed files, packed files)"
    )
    notes: tuple[str, ...] = Field(description="what is to be said of the samples")


class Stopped(Part):
    timesteps: float = Field(description="of a sample, on average")
    accuracy: Percent = Field(description="in %")
    loss: float = Field(description="mean cross-entropy")
    macs: float = Field(description="of a sample, on average")
    additions_nonzero: float = Field(description="of a sample, on average, those of weights that are not 0")
    energy_nj: float = Field(description="of a sample, on average")


class EarlyExit(Stopped):
    confidence: Share = Field(description="of --exit-confidence: a sample leaves once its softmax reaches it")
    energy_saved: Share = Field(description="of the energy after all timesteps")
    energy_all_nj: float = Field(description="of a sample after all timesteps")
    accuracy_all: Percent = Field(description="in %, after all timesteps")


class Evaluate(MeasuredFile, Document):
    """tna evaluate --json; of several files, a list of these"""

    command: Literal["evaluate"] = "evaluate"
    split: Literal["test", "train", "validation"]
    samples: Count
    accuracy: Percent = Field(description="in %")
    top5: Percent = Field(description="in %")
    loss: float = Field(description="mean cross-entropy")
    firing_rate: dict[str, Share] = Field(description="spikes a neuron and timestep, by layer")
    seconds: float
    min_accuracy: Percent | None = Field(description="of --min-accuracy, in %")
    enough: bool | None = Field(description="whether accuracy reaches min_accuracy; null without it")
    activity: dict[str, Any] | None = Field(None, description="of --activity: operations and energy by layer")
    by_timestep: tuple[Stopped, ...] | None = Field(None, description="of --timesteps: after each of them")
    early_exit: EarlyExit | None = Field(None, description="of --exit-confidence")


class Layer(Part):
    name: str
    encoding: str
    shape: tuple[Count, ...]
    shares: tuple[Share, Share, Share] | None = Field(description="of -1, 0 and +1")
    size_bytes: Count
    fp32_bytes: Count


class Neurons(Part):
    decay: float
    threshold: float
    subtract: float | None = Field(description="what a spike takes away from the potential; null: all of it")
    most_spikes: Count = Field(description="in a timestep")
    lowest: float | None = Field(description="the lowest potential after them")


class Checkpoint(Document):
    """tna inspect --json of a checkpoint"""

    command: Literal["inspect"] = "inspect"
    file: Path
    kind: Literal["checkpoint"] = "checkpoint"
    created_by: str
    size_bytes: Count
    parameters: Count
    networks: list[str]
    input: str
    classes: Count
    timesteps: Count
    decay: float
    threshold: float | None
    readout_leak: float | None
    layout: str | None
    build: str | None
    data_set: str
    recipe: str
    run: str
    seed: Count
    identity: str
    altered: tuple[str, ...]
    epoch: Count
    step: Count
    epochs: Count
    layers: list[Layer]


class Packed(Document):
    """tna inspect --json of a packed file"""

    command: Literal["inspect"] = "inspect"
    file: Path
    kind: Literal["packed"] = "packed"
    version_of_format: Count
    created_by: str
    size_bytes: Count
    fp32_bytes: Count
    input: str
    classes: Count
    timesteps: Count
    decay: float = Field(description="of neurons in whose layer nothing else is said")
    threshold: float | None = Field(description="of neurons in whose layer nothing else is said")
    readout_leak: float | None
    data_set: str
    recipe: str
    run: str
    seed: Count
    identity: str
    altered: tuple[str, ...]
    accuracy: Percent | None
    format: str
    binning: str
    sensor: tuple[Count, Count] | None
    test_samples: Count | None
    neurons: dict[str, Neurons] = Field(description="by layer")
    layers: list[Layer]


Inspect = Annotated[Checkpoint | Packed, Field(discriminator="kind")]


class PackedExport(Document):
    """tna export --json of a packed file"""

    command: Literal["export"] = "export"
    file: Path = Field(description="what was exported")
    format: Literal["packed"] = "packed"
    encoding: Literal["2bit", "base3"]
    path: Path
    size_bytes: Count = Field(description="bytes of the file")
    weights: Count = Field(description="hidden weights compared one by one")
    samples: Count = Field(description="test samples whose predictions were compared")
    agreeing: Count = Field(description="of them, those that were equal: all, but for rounding in a user's own module")
    accuracy: Percent | None = Field(description="of the packed file, in %")
    largest_difference: float = Field(description="between logits of the network and of the file")


class Stack(Part):
    size_bytes: Count = Field(description="of the network's own functions, along the deepest chain of calls")
    unbounded: str | None = Field(description="why a call may take more; null where none can")
    library: tuple[str, ...] | None = Field(
        description="functions of the compiler's library that it calls, whose stack comes on top; null where that is unknown"
    )


class OtherExport(Document):
    """tna export --json in another form"""

    command: Literal["export"] = "export"
    file: Path = Field(description="what was exported")
    format: Literal["nir", "onnx", "c"]
    paths: tuple[Path, ...] = Field(description="the files written")
    size_bytes: Count = Field(description="bytes of the files")
    weights: Count = Field(
        description="hidden weights compared one by one; 0 of a packed file, which they are read from"
    )
    samples: Count = Field(description="test samples whose predictions were compared")
    integer: bool = Field(description="whether it is C of whole numbers alone")
    agreeing: Count = Field(description="of them, those with the prediction of the packed network")
    largest_difference: float = Field(description="between logits of the packed network and of what was written")
    ran_on: str | None = Field(description="what ran it; null where nothing was run")
    memory_bytes: dict[str, Count] = Field(description="of C: flash, tables and ram (static), as far as known")
    stack: Stack | None = Field(description="of C; null where it is unknown")
    compiled_by: str | None = Field(
        description="of C: the compiler whose flash and stack these are; null where it is unknown"
    )


Export = Annotated[PackedExport | OtherExport, Field(discriminator="format")]


class Import(Document):
    """tna import --json"""

    command: Literal["import"] = "import"
    file: Path = Field(description="what was imported")
    path: Path = Field(description="the file that was written")
    kind: Literal["packed", "checkpoint"]
    size_bytes: Count = Field(description="bytes of the file that was written")
    weights: Count = Field(description="ternary weights; 0 of a checkpoint, where all are in full precision")
    layers: tuple[str, ...] = Field(description="names of the layers of neurons")
    timesteps: Count
    decay: Share
    threshold: float
    samples: Count = Field(description="random inputs that the file's nodes and what was written were run on")
    agreeing: Count = Field(description="of them, those predicted alike")
    silent: tuple[str, ...] = Field(description="layers of which no neuron spiked on them")
