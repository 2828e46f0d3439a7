"""Trained networks as plain functions of images: `model = tnacli.load("model.safetensors"); model(images)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tnacli.deploy.formats import deploy
from tnacli.deploy.from_checkpoint import input_of, origin_of
from tnacli.errors import DataError, UsageError
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import read_packed, write_packed
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import InputSpec, Origin
from tnacli.pixels import as_input
from tnacli.quant.weights import compression_mode
from tnacli.snn.arithmetic import exact
from tnacli.storage import is_archive, network_file
from tnacli.training.checkpoint import load_checkpoint, restore_network

_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Model:
    """A trained spiking network on the CPU: samples in, logits out.

    `labels` names the classes in the order of the logits, `input` says what is taken, `timesteps` is T, `weights` is "fp32",
    "ternary" or "binary". `packed` is what is saved, None of a checkpoint; `sample` the inputs that it was made with, if so, and
    `origin` says where a file's network came from.
    """

    labels: tuple[str, ...]
    input: InputSpec
    timesteps: int
    weights: str
    run: Callable[[Tensor], Tensor]
    packed: PackedNetwork | None = None
    sample: Tensor | None = None
    origin: Origin | None = None

    def __call__(self, samples: Tensor | NDArray[Any], *, normalised: bool = False) -> Tensor:
        """Logits, float32 [N, classes], of images [N, C, H, W] or event frames [N, T, C, H, W].

        Images are uint8 pixels from 0 to 255; the network's own mean and std are applied to them. Floats have to be marked
        `normalised`: they are taken as they are. Frames are numbers of events, of any type. Raises DataError for samples of
        another shape or type.
        """
        given = torch.from_numpy(np.ascontiguousarray(samples)) if isinstance(samples, np.ndarray) else samples
        inputs = self._inputs(given, normalised)
        with torch.inference_mode(), exact():
            parts = [self.run(part) for part in inputs.split(_AT_ONCE)]
        return torch.cat(parts).clone() if parts else torch.empty(0, len(self.labels))

    def predict(self, samples: Tensor | NDArray[Any], *, normalised: bool = False) -> list[str]:
        """The label of each sample, a list of N; samples and errors as for a call."""
        return [self.labels[best] for best in self(samples, normalised=normalised).argmax(1).tolist()]

    def save(self, path: str | Path, *, form: str = "packed", sample: Tensor | None = None) -> tuple[Path, ...]:
        """Write the network to `path`, whole or not at all, and return the files: a "packed" one, "nir", "onnx" or "c".

        Other forms than the packed one are run first, and predict as this one does: on `sample`, normalised float32 inputs
        [N, ...], or on the sample that `from_module` was given. C is two files, `path` with .h and .c.

        Raises UsageError of a checkpoint, which `tna export` takes, for an unknown form, without samples, or where a package or
        a compiler is missing; FileFormatError if predictions differ; StorageError if it cannot be written.
        """
        if self.packed is None:
            raise UsageError("this model is a checkpoint's: `tna export CKPT` writes it, after comparing every weight")
        if form == "packed":
            write_packed(Path(path), self.packed)
            return (Path(path),)
        inputs = self.sample if sample is None else sample
        if inputs is None:
            raise UsageError(
                f"give a sample that the network as {form} is to be compared on: normalised float32 inputs"
            )
        return deploy(self.packed, form, Path(path), inputs).paths

    def _inputs(self, samples: Tensor, normalised: bool) -> Tensor:
        facts = self.input
        expected = [*([] if facts.kind == "images" else [self.timesteps]), facts.channels, *facts.size]
        if list(samples.shape[1:]) != expected:
            taken, given = ("x".join(map(str, shape)) for shape in (["N", *expected], samples.shape))
            raise DataError(f"the network takes {facts.kind} of {taken}; these are {given or 'a single number'}")
        if facts.kind == "events" or normalised:
            return samples.to(torch.float32)
        if samples.dtype != torch.uint8:
            raise DataError(
                f"images are uint8 pixels from 0 to 255, not {str(samples.dtype).removeprefix('torch.')}; convert them, or say "
                f"normalised=True if the network's mean and std have been applied already"
            )
        return as_input(samples, facts.mean, facts.std, facts.kind)


def load_model(path: str | Path, *, trust_build: str | None = None) -> Model:
    """The network in a packed file, a checkpoint, or the folder of a run.

    `trust_build` names the function of someone's own, "package.module:function", that may be imported and called to make
    the network of a checkpoint that needs it. Raises FileFormatError if the file is neither, or damaged, UsageError if it
    needs another function than `trust_build`, RecipeError if that cannot be imported or called.
    """
    file = network_file(Path(path))
    if file.is_file() and is_archive(file):
        return _from_checkpoint(file, trust_build)
    return packed_model(read_packed(file))


def packed_model(packed: PackedNetwork, sample: Tensor | None = None) -> Model:
    """A packed network as a function."""
    about = packed.about
    weights = "binary" if any(layer.binary for layer in about.layers) else "ternary"
    return Model(about.labels, about.input, about.timesteps, weights, PackedSNN(packed), packed, sample, about.origin)


def _from_checkpoint(path: Path, trust_build: str | None) -> Model:
    checkpoint = load_checkpoint(path)
    metadata, network = checkpoint.metadata, restore_network(checkpoint, trusted=trust_build, source=str(path))
    weights = compression_mode(network) or "fp32"
    return Model(
        metadata.classes, input_of(checkpoint), network.timesteps, weights, network, origin=origin_of(checkpoint)
    )
