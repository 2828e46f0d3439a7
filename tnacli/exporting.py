"""From a checkpoint to a verified packed file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tnacli.data.batches import Batches
from tnacli.data.samples import Dataset
from tnacli.evaluation.accuracy import measure
from tnacli.evaluation.samples import evaluation_batches
from tnacli.packed.document import InputFacts, Origin
from tnacli.packed.engine import PackedSNN
from tnacli.packed.export import export, pack_network
from tnacli.packed.file import read_packed
from tnacli.training.checkpoint import Checkpoint, load_checkpoint, restore_network

ENCODINGS = {"2bit": "ternary2", "base3": "ternary5"}
"""What the command line calls the encodings of the packed format: four weights a byte, or five."""


@dataclass(frozen=True)
class Exported:
    """A packed file that has been written, and what was verified before.

    `accuracy` in % is the file's own on `samples` test samples, None if none were looked at; `weights` hidden weights were
    compared one by one.
    """

    path: Path
    size_bytes: int
    weights: int
    samples: int
    accuracy: float | None
    largest_difference: float

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "path": str(self.path)}


def export_checkpoint(
    source: Path,
    destination: Path,
    *,
    encoding: str = "2bit",
    samples: int | None = None,
    data_root: str | None = None,
    dataset: Dataset | None = None,
) -> Exported:
    """Pack the checkpoint `source` into `destination`, verified on test samples before anything is written.

    All test samples of its data set are used, or `samples` of them; with 0 only the weights are compared. `dataset` saves
    loading it. Raises UsageError if the checkpoint is not ternary or binary, FileFormatError or DataError if it or the
    data cannot be read.
    """
    checkpoint = load_checkpoint(source)
    network = restore_network(checkpoint)
    about = checkpoint.about
    normalised = about["mean"] is not None
    packed = pack_network(
        network,
        inputs=InputFacts(
            kind=about["kind"],
            channels=about["channels"],
            size=tuple(about["size"]),
            mean=tuple(about["mean"]) if normalised else None,
            std=tuple(about["std"]) if normalised else None,
        ),
        labels=about["classes"],
        origin=Origin(
            data_set=about["data"]["name"],
            recipe=about["recipe"],
            run=about["run"],
            seed=about["seed"],
            identity=about["identity"],
            altered=tuple(about["altered"]),
        ),
        encoding=ENCODINGS[encoding],
        source=str(source),
    )
    inputs = torch.empty(0, about["channels"], *about["size"])
    batches = None
    if samples != 0:
        batches = checkpoint_batches(checkpoint, dataset=dataset, data_root=data_root, samples=samples)
        inputs = torch.cat([batch.inputs for batch in batches.epoch(0)])
    verified = export(destination, network, packed, inputs)
    written = read_packed(destination)
    accuracy = None if batches is None else measure(PackedSNN(written), batches.epoch(0)).accuracy
    return Exported(
        destination,
        destination.stat().st_size,
        verified.weights,
        verified.samples,
        accuracy,
        verified.largest_difference,
    )


def checkpoint_batches(
    checkpoint: Checkpoint,
    *,
    split: str = "test",
    samples: int | None = None,
    data_root: str | None = None,
    dataset: Dataset | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Batches:
    """`evaluation_batches` of the data that a checkpoint was trained on."""
    about, settings = checkpoint.about, checkpoint.settings
    return evaluation_batches(
        settings.data, settings.model.timesteps, classes=about["classes"], channels=about["channels"],
        mean=about["mean"], std=about["std"], split=split, samples=samples, data_root=data_root, dataset=dataset,
        batch_size=batch_size, device=device,
    )  # fmt: skip
