"""From a checkpoint to a file that runs without the training framework, verified before it is reported.

A network of a layout is packed by the names of its parts, and every weight compared. A module of the user's own is run on test
samples and recognised, as `tnacli.from_module` does with anybody's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tnacli.data.batches import Batches
from tnacli.data.samples import Dataset
from tnacli.deploy.formats import FORMATS, WITHOUT, Deployed, Wishes, deploy
from tnacli.deploy.from_checkpoint import ENCODINGS, checkpoint_batches, input_of, origin_of, same_data
from tnacli.errors import NetworkError, UsageError
from tnacli.evaluation.accuracy import measure
from tnacli.evaluation.data import Selection
from tnacli.importing.from_module import recognised, require_same
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, to_bytes
from tnacli.packed.network import PackedNetwork
from tnacli.packed.pack import Verification, pack_network, require_packable, verify
from tnacli.snn.network import Network, SpikingNetwork
from tnacli.snn.own import OwnNetwork
from tnacli.storage import write_atomically
from tnacli.training.checkpoint import load_checkpoint, restore_network

__all__ = ["ENCODINGS", "FORMATS", "Exported", "deploy_checkpoint", "export_checkpoint"]

_RECORDED = 8
"""On how many samples a module is recognised; all are compared."""


@dataclass(frozen=True)
class Exported:
    """A packed file that has been written, and what was verified before.

    `accuracy` in % is the file's on `samples` test samples, None if none were looked at, of whose predictions `agreeing` were the
    checkpoint's: all, but of a user's own module, whose sums may be rounded in another order. `weights` hidden weights were
    compared one by one.
    """

    path: Path
    size_bytes: int
    weights: int
    samples: int
    agreeing: int
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
    the checkpoint is not ternary or binary, FileFormatError or DataError if it or the data cannot be read, NetworkError that
    names the first part of a user's own module that no packed file can say.
    """
    ready = _prepare(source, encoding, samples=samples, data_root=data_root, dataset=dataset, trusted=trusted)
    write_atomically(destination, to_bytes(ready.packed))
    return Exported(destination, destination.stat().st_size, accuracy=ready.accuracy, **vars(ready.verified))


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
    deployed = deploy(ready.packed, form, destination, ready.inputs, expected=ready.logits, wishes=wishes)
    return dataclasses.replace(deployed, weights=ready.verified.weights)


@dataclass(frozen=True)
class _Ready:
    """The packed form of a checkpoint, the test samples [N, ...] that it was `verified` on, its logits of them [N, classes], and
    its accuracy in %."""

    packed: PackedNetwork
    verified: Verification
    inputs: Tensor
    logits: Tensor | None = None
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
    network = restore_network(checkpoint, trusted=trusted, source=str(source))
    require_packable(network, str(source))
    said = {
        "inputs": input_of(checkpoint), "labels": checkpoint.metadata.classes, "origin": origin_of(checkpoint),
        "encoding": ENCODINGS[encoding],
    }  # fmt: skip
    selection = Selection("test", samples, data_root)
    batches = None if samples == 0 else checkpoint_batches(checkpoint, selection, dataset=dataset)
    prepare = _of_layout if isinstance(network, SpikingNetwork) else _of_module
    ready = prepare(network, batches, str(source), said)
    if batches is None or samples is not None:
        return ready
    if dataset is None and not same_data(checkpoint, batches, selection)[0]:
        return ready
    # The accuracy that a file states is that of all test samples of the run, or none.
    about = ready.packed.about
    origin = about.origin.model_copy(update={"accuracy": ready.accuracy})
    packed = dataclasses.replace(ready.packed, about=about.model_copy(update={"origin": origin}))
    return dataclasses.replace(ready, packed=packed)


def _of_layout(network: Network, batches: Batches | None, source: str, said: dict[str, Any]) -> _Ready:
    assert isinstance(network, SpikingNetwork)
    packed = pack_network(network, source=source, **said)
    written = from_bytes(to_bytes(packed))
    if batches is None:
        inputs = torch.empty(0, *packed.about.input.shape(network.timesteps))
        return _Ready(packed, verify(network, written, inputs), inputs)
    inputs, logits, accuracy = _measured(network, batches)
    # These logits stand for the packed network's, which are compared with them.
    return _Ready(packed, verify(network, written, inputs, logits), inputs, logits, accuracy)


def _of_module(network: Network, batches: Batches | None, source: str, said: dict[str, Any]) -> _Ready:
    function = network.described.function
    if batches is None:
        raise UsageError(
            f"{source} cannot be exported with --samples 0: what the network made by {function} computes is seen by running it "
            f"on test samples"
        )
    inputs, expected, _ = _measured(network, batches)
    module = network.module if isinstance(network, OwnNetwork) else network
    try:
        packed, _ = recognised(module, inputs[:_RECORDED], network, **said)
        engine = PackedSNN(from_bytes(to_bytes(packed)))
        logits = require_same(engine, inputs, expected)
    except NetworkError as error:
        raise NetworkError(f"{source} cannot be exported: in the network made by {function}, {error}") from None
    verified = Verification(
        weights=0,
        samples=len(inputs),
        agreeing=int((logits.argmax(1) == expected.argmax(1)).sum()),
        largest_difference=float((logits - expected).abs().max()),
    )
    return _Ready(packed, verified, inputs, logits, measure(engine, batches.epoch(0)).accuracy)


def _measured(predict: Callable[[Tensor], Tensor], batches: Batches) -> tuple[Tensor, Tensor, float]:
    """All inputs [N, ...], what `predict` makes of them, [N, classes], and its accuracy in %."""
    inputs: list[Tensor] = []
    logits: list[Tensor] = []

    def run(batch: Tensor) -> Tensor:
        inputs.append(batch)
        logits.append(predict(batch))
        return logits[-1]

    accuracy = measure(run, batches.epoch(0)).accuracy
    return torch.cat(inputs), torch.cat(logits), accuracy
