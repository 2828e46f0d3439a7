"""One file measured for `tna evaluate`: a checkpoint or a packed file, on the data that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tnacli.cli.documents.files import MeasuredFile

if TYPE_CHECKING:
    from tnacli.data.batches import Batches
    from tnacli.evaluation.data import Selection
    from tnacli.evaluation.scores import Evaluation
    from tnacli.packed.network import PackedNetwork
    from tnacli.snn.network import Network


@dataclass(frozen=True)
class Measured:
    """What was measured, and what a document says of the file; `batches()` are the samples that it was measured on.

    `compressed` says that the network of a full-precision checkpoint was made ternary for it.
    """

    about: MeasuredFile
    result: Evaluation
    network: Network | PackedNetwork
    batches: Callable[[], Batches]
    compressed: bool = False


def measure_checkpoint(
    file: Path, selection: Selection, *, ternary: bool, delta: float | None, name: str, device: str, batch_size: int,
    trusted: str | None,
) -> Measured:  # fmt: skip
    """A network of a checkpoint on its data, with `ternary` compressed first if it is not. Raises UsageError for options that
    it has no use for, FileFormatError and DataError for a file or data that cannot be read."""
    from tnacli.deploy.from_checkpoint import checkpoint_batches, same_data
    from tnacli.errors import UsageError
    from tnacli.evaluation.accuracy import evaluate_network
    from tnacli.quant.weights import compress, compression_mode
    from tnacli.recipe.schema.compression import Ternary
    from tnacli.training.checkpoint import load_checkpoint, restore_network
    from tnacli.training.device import resolve_device

    checkpoint = load_checkpoint(file)
    if name not in checkpoint.networks():
        raise UsageError(f"{file} has no network {name!r}; it has {', '.join(checkpoint.networks())}")
    restored = restore_network(checkpoint, name, trusted=trusted, source=str(file))
    mode = compression_mode(restored)
    if ternary and mode == "binary":
        raise UsageError(f"{file} has binary weights; --ternary applies to full-precision or ternary checkpoints")
    if delta is not None and mode is not None:
        raise UsageError(f"{file} has ternary weights already; --delta applies to full-precision checkpoints")
    compressing = ternary and mode is None
    if compressing:
        given = Ternary() if delta is None else Ternary(delta=delta)
        compress(restored, given, refuse_silent=True)
    target = resolve_device(device)
    batches = checkpoint_batches(checkpoint, selection, batch_size=batch_size, device=target)
    same, note = same_data(checkpoint, batches, selection)
    metadata = checkpoint.metadata
    about = MeasuredFile(
        file=file, kind="checkpoint", network=name, weights=compression_mode(restored) or "fp32", data=metadata.data.name,
        recipe=metadata.recipe, run=metadata.run, seed=metadata.seed, altered=metadata.altered, epoch=metadata.state.epoch,
        device=str(target), same_data=same, notes=(note,) if note else (),
    )  # fmt: skip
    restored.to(target)
    return Measured(about, evaluate_network(restored, batches.epoch(0)), restored, lambda: batches, compressing)


def measure_packed(
    file: Path, selection: Selection, *, ternary: bool, delta: float | None, batch_size: int
) -> Measured:
    """The same of a packed file, without torch."""
    from concurrent.futures import ThreadPoolExecutor

    from tnacli.errors import UsageError
    from tnacli.evaluation.data import batches_of
    from tnacli.evaluation.packed_samples import evaluate_packed, packed_samples
    from tnacli.packed.engine import PackedSNN
    from tnacli.packed.file import read_packed

    packed = read_packed(file)
    about = packed.about
    binary = any(layer.binary for layer in about.layers)
    if ternary and binary:
        raise UsageError(f"{file} has binary weights; --ternary applies to full-precision or ternary ones")
    if delta is not None:
        raise UsageError(f"{file} has ternary weights already; --delta applies to full-precision checkpoints")
    # Compiled code makes lists of weights, while samples are found and read.
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(PackedSNN, packed)
        samples, dataset = packed_samples(file, about, selection)
        engine = making.result()
    origin = about.origin
    measured = MeasuredFile(
        file=file, kind="packed", network="base", weights="binary" if binary else "ternary", data=origin.data_set,
        recipe=origin.recipe, run=origin.run, seed=origin.seed, altered=origin.altered, device="cpu",
        same_data=None, notes=(),  # a packed file does not say which samples there were
    )  # fmt: skip
    result = evaluate_packed(engine, samples, batch_size)
    return Measured(measured, result, packed, lambda: batches_of(samples, dataset, batch_size=batch_size))
