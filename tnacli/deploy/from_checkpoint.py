"""From a checkpoint to a file that runs without the training framework, verified before it is reported."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from tnacli.data.batches import Batches
from tnacli.data.samples import Dataset
from tnacli.deploy.formats import FORMATS, WITHOUT, Deployed, Wishes, deploy
from tnacli.evaluation.accuracy import measure
from tnacli.evaluation.data import WHOLE_TEST_SET, Selection, TrainedOn, batches_of, evaluation_samples, same_samples
from tnacli.packed.network import PackedNetwork
from tnacli.packed.pack import exportable, pack_network, verify, write_verified
from tnacli.packed.spec import InputSpec, Origin
from tnacli.snn.network import SpikingNetwork
from tnacli.training.checkpoint import Checkpoint, load_checkpoint, restore_network

__all__ = [
    "ENCODINGS",
    "FORMATS",
    "Exported",
    "checkpoint_batches",
    "deploy_checkpoint",
    "export_checkpoint",
    "same_data",
]

ENCODINGS = {"2bit": "ternary2", "base3": "ternary5"}
"""What the command line calls the encodings of the packed format: four weights a byte, or five."""


@dataclass(frozen=True)
class Exported:
    """A packed file that has been written, and what was verified before.

    `accuracy` in % is that on `samples` test samples, None if none were looked at; `weights` hidden weights were
    compared one by one.
    """

    path: Path
    size_bytes: int
    weights: int
    samples: int
    accuracy: float | None
    largest_difference: float


def export_checkpoint(
    source: Path,
    destination: Path,
    *,
    encoding: str = "2bit",
    samples: int | None = None,
    data_root: str | None = None,
    dataset: Dataset | None = None,
    trusted: str | None = None,
) -> Exported:
    """Pack the checkpoint `source` into `destination`, verified on test samples before anything is written.

    All test samples of its data set are used, or `samples` of them; with 0 only the weights are compared. `dataset` saves
    loading it; `trusted` names the function that may be called to make the network (`tnacli.snn.own`). Raises UsageError if
    the checkpoint is not ternary or binary, FileFormatError or DataError if it or the data cannot be read.
    """
    ready = _prepare(source, encoding, samples=samples, data_root=data_root, dataset=dataset, trusted=trusted)
    verified = write_verified(destination, ready.network, ready.packed, ready.inputs, expected=ready.logits)
    return Exported(
        destination,
        destination.stat().st_size,
        verified.weights,
        verified.samples,
        ready.accuracy,
        verified.largest_difference,
    )


def deploy_checkpoint(
    source: Path,
    destination: Path,
    form: str,
    *,
    samples: int | None = None,
    data_root: str | None = None,
    dataset: Dataset | None = None,
    trusted: str | None = None,
    wishes: Wishes = WITHOUT,
) -> Deployed:
    """Write the checkpoint `source` as "nir", "onnx" or "c" (`FORMATS`), verified on test samples before it is there.

    The checkpoint is packed in memory and verified as `export_checkpoint` does; the other form is then run on the same
    samples and its predictions compared. With `samples` 0 nothing is run. Raises what `export_checkpoint` and `deploy` raise.
    """
    ready = _prepare(source, "2bit", samples=samples, data_root=data_root, dataset=dataset, trusted=trusted)
    verified = verify(ready.network, ready.packed, ready.inputs, ready.logits)
    # The checkpoint's logits stand for the packed network's: the line above has compared them.
    deployed = deploy(ready.packed, form, destination, ready.inputs, expected=ready.logits, wishes=wishes)
    return dataclasses.replace(deployed, weights=verified.weights)


@dataclass(frozen=True)
class _Ready:
    """A checkpoint's network, its packed form, test samples [N, ...] to verify with, the network's logits of them
    [N, classes], and its accuracy in %."""

    network: SpikingNetwork
    packed: PackedNetwork
    inputs: torch.Tensor
    logits: torch.Tensor | None = None
    accuracy: float | None = None


def _prepare(
    source: Path,
    encoding: str,
    *,
    samples: int | None,
    data_root: str | None,
    dataset: Dataset | None,
    trusted: str | None,
) -> _Ready:
    checkpoint = load_checkpoint(source)
    network = exportable(restore_network(checkpoint, trusted=trusted, source=str(source)), str(source))
    packed = _packed(checkpoint, network, encoding, source)
    if samples == 0:
        return _Ready(network, packed, torch.empty(0, *packed.about.input.shape(network.timesteps)))
    selection = Selection("test", samples, data_root)
    batches = checkpoint_batches(checkpoint, selection, dataset=dataset)
    inputs: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []

    def predict(batch: torch.Tensor) -> torch.Tensor:
        inputs.append(batch)
        logits.append(network(batch))
        return logits[-1]

    network.eval()
    with torch.no_grad():
        accuracy = measure(predict, batches.epoch(0)).accuracy
    if samples is None and (dataset is not None or same_data(checkpoint, batches, selection)[0]):
        # The accuracy that a file states is that of all test samples of the run, or none.
        origin = packed.about.origin.model_copy(update={"accuracy": accuracy})
        packed = dataclasses.replace(packed, about=packed.about.model_copy(update={"origin": origin}))
    return _Ready(network, packed, torch.cat(inputs), torch.cat(logits), accuracy)


def _packed(checkpoint: Checkpoint, network: SpikingNetwork, encoding: str, source: Path) -> PackedNetwork:
    return pack_network(
        network, inputs=input_of(checkpoint), labels=checkpoint.metadata.classes, origin=origin_of(checkpoint),
        encoding=ENCODINGS[encoding], source=str(source),
    )  # fmt: skip


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
