"""What an export takes from a checkpoint: its input, where it came from, and the test samples that it is verified on."""

from __future__ import annotations

import torch

from tnacli.data.batches import Batches
from tnacli.data.samples import Dataset
from tnacli.evaluation.data import WHOLE_TEST_SET, Selection, TrainedOn, batches_of, evaluation_samples, same_samples
from tnacli.packed.spec import InputSpec, Origin
from tnacli.training.checkpoint import Checkpoint

ENCODINGS = {"2bit": "ternary2", "base3": "ternary5"}
"""What the command line calls the encodings of the packed format: four weights a byte, or five."""


def input_of(checkpoint: Checkpoint) -> InputSpec:
    """What the networks of a checkpoint take."""
    metadata = checkpoint.metadata
    return InputSpec(
        kind=metadata.kind, channels=metadata.channels, size=metadata.size, mean=metadata.mean, std=metadata.std
    )


def origin_of(checkpoint: Checkpoint) -> Origin:
    """Where a checkpoint came from, as a packed file says it; no accuracy, which is measured first."""
    metadata, data = checkpoint.metadata, checkpoint.settings.data
    return Origin(
        data_set=metadata.data.name, recipe=metadata.recipe, run=metadata.run, seed=metadata.seed,
        identity=metadata.identity, altered=metadata.altered, format=data.format, binning=data.binning,
        sensor=data.sensor, test_samples=data.test_samples,
    )  # fmt: skip


def checkpoint_batches(
    checkpoint: Checkpoint,
    selection: Selection = WHOLE_TEST_SET,
    *,
    dataset: Dataset | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Batches:
    """`evaluation_samples` of the data that a checkpoint was trained on, in batches."""
    metadata, settings = checkpoint.metadata, checkpoint.settings
    trained_on = TrainedOn(
        settings.data, settings.model.timesteps, metadata.classes, metadata.channels, metadata.mean, metadata.std
    )
    return batches_of(*evaluation_samples(trained_on, selection, dataset=dataset), batch_size=batch_size, device=device)


def same_data(checkpoint: Checkpoint, seen: Batches, selection: Selection = WHOLE_TEST_SET) -> tuple[bool | None, str]:
    """`same_samples` of batches that `checkpoint_batches` has given for the same selection."""
    data, split = checkpoint.settings.data, selection.split
    if selection.data_root is not None:
        data = data.model_copy(update={"root": selection.data_root})
    # Without a limit a split is whole, but for the training samples among which those held out are then counted.
    whole = selection.samples is None and not (split == "train" and data.validation_samples)
    return same_samples(checkpoint.metadata.data, data, seen.samples, split if whole else None)
