"""Checkpoint files: everything a run needs to go on, or a network needs to be used, in one checked file.

A checkpoint is what `torch.save` makes of a dictionary of plain values and tensors. It is read without running the pickle
in it (`tnacli.training.torch_file`), so no code in it is ever executed. It carries a SHA-256 over its metadata and
tensors; a file that does not match it is refused, and so is metadata that does not fit its tensors. Weights are latent ones
under plain names; the metadata says whether they are to be compressed, and how.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from tnacli.build import build_network
from tnacli.errors import FileFormatError
from tnacli.quant.weights import compress, load_latent_state
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.metadata import CheckpointMetadata, first_complaint
from tnacli.snn.network import Network
from tnacli.snn.own import require_trust
from tnacli.storage import is_archive, kind_of, write_atomically
from tnacli.training.torch_file import Malformed, read_torch_file

FORMAT = "tnacli-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """The metadata, and `tensors` by slash-separated names, on the CPU.

    `networks/NAME/...` are weights and batch norm statistics, `best/...` the weights of the best epoch so far if the
    run selects one, `adam/NAME/...` the optimiser's moments by parameter,
    `scaler/...` what fp16 scales its losses by.
    """

    metadata: CheckpointMetadata
    tensors: dict[str, Tensor]

    @property
    def settings(self) -> Settings:
        return self.metadata.settings

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, over the metadata and every tensor with its name, type and shape."""
        return digest_of(_text(self.metadata).encode(), self.tensors)

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix/`, their names without it."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(prefix + "/")}

    def networks(self) -> list[str]:
        """The names of the networks in it: base, sibling1, ..."""
        return list(self.metadata.networks)


def _text(metadata: CheckpointMetadata) -> str:
    return json.dumps(metadata.model_dump(mode="json"), sort_keys=True)


def digest_of(metadata: bytes, tensors: dict[str, Tensor]) -> str:
    """The digest of a checkpoint with this text of its metadata, as it is stored."""
    hasher = hashlib.sha256(metadata)
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` aside, sync, and rename it to `path`. Raises StorageError, and leaves `path` as it was."""
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "version": VERSION,
        "about": _text(checkpoint.metadata),
        "tensors": checkpoint.tensors,
        "sha256": checkpoint.digest,
    }
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint. Raises FileFormatError if it is damaged, not ours, or of another version."""
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file; checkpoints are named last.pt in the folder of a run")
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileFormatError(f"{path}: not a tnacli checkpoint; only files written by `tna train` can be read")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise FileFormatError(
            f"{path}: checkpoint version {version}; this tnacli reads version {VERSION}. "
            f"Use the tnacli that wrote it, or train again."
        )
    about, tensors = content.get("about"), content.get("tensors")
    damaged = FileFormatError(f"{path}: damaged checkpoint: its contents do not match its checksum")
    if not isinstance(about, str) or not isinstance(tensors, dict):
        raise damaged
    if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise damaged
    text = about.encode("utf-8", "surrogatepass")
    if digest_of(text, tensors) != content.get("sha256"):
        raise damaged
    try:
        metadata = CheckpointMetadata.model_validate_json(text)
    except ValidationError as error:
        raise FileFormatError(f"{path}: its description cannot be used: {first_complaint(error)}") from None
    _check_tensors(path, metadata, tensors)
    return Checkpoint(metadata, tensors)


def _read(path: Path) -> object:
    try:
        if not is_archive(path):
            with path.open("rb") as file:
                kind = kind_of(file.read(16))
            raise FileFormatError(
                f"{path} is {kind}, and a checkpoint is asked for (last.pt in the folder of a run, or that folder){_way_on(path)}"
            )
        return read_torch_file(path)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Malformed as error:
        raise FileFormatError(f"{path}: damaged, or not a tnacli checkpoint: {error}{_way_on(path)}") from None


def _way_on(path: Path) -> str:
    """How to come by a whole checkpoint, where `path` is the newest of a run."""
    if path.name != "last.pt" or not path.with_name("run.json").exists():
        return ""
    if path.with_name("previous.pt").exists():
        return " (the same `tna train` goes on from the checkpoint before it, previous.pt)"
    return " (the same `tna train` with --fresh trains the run again)"


def _check_tensors(path: Path, metadata: CheckpointMetadata, tensors: dict[str, Tensor]) -> None:
    """Refuse metadata whose networks are not those of the tensors: before any is built."""
    for name, model in metadata.networks.items():
        if model.build is not None:
            continue  # what its tensors are to be, only its code can tell
        try:
            shapes = layer_shapes(
                model.layout,
                width=model.width,
                channels=metadata.channels,
                size=metadata.size,
                classes=len(metadata.classes),
            )
        except ValueError as error:
            raise FileFormatError(f"{path}: its description cannot be used: {error}") from None
        for shape in shapes:
            for branch, weight in shape.branches.items():
                place = "readout.weight" if shape is shapes[-1] else f"layers.{branch}.synapse.weight"
                stored = tensors.get(f"networks/{name}/{place}")
                if stored is None or tuple(stored.shape) != weight:
                    raise FileFormatError(f"{path}: its tensor {place} of {name} is not as its description says")


def restore_network(
    checkpoint: Checkpoint,
    name: str = "base",
    *,
    compressed: bool = True,
    trusted: str | None = None,
    source: str = "the checkpoint",
) -> Network:
    """The network `name` of a checkpoint, in evaluation mode: compressed as far as it was, unless `compressed` is False.

    If the run selected its best epoch and a best epoch is stored, the base has the weights of that epoch. `trusted` names
    the function that may be imported and called to make the network, if the checkpoint needs one.

    Raises UsageError if it needs another function than `trusted`, RecipeError if that cannot make the network,
    FileFormatError if the weights do not fit. `source` stands for the checkpoint in errors.
    """
    metadata, compression = checkpoint.metadata, checkpoint.settings.compression
    model = require_trust(metadata.networks[name], trusted, source)
    network = build_network(
        model, channels=metadata.channels, size=metadata.size, classes=len(metadata.classes), seed=0
    )
    best = checkpoint.under("best") if name == "base" else {}
    if compressed and name == "base" and compression is not None:
        compress(network, compression, None if metadata.compressed else metadata.state.partly)
    try:
        load_latent_state(network, best or checkpoint.under(f"networks/{name}"))
    except RuntimeError as error:
        raise FileFormatError(f"the checkpoint's weights do not fit its description: {error}") from None
    return network.eval()
