"""Trained networks as plain functions of images: `model = tnacli.load("model.safetensors"); model(images)`.

Loads torch for checkpoints, and where tensors are given, alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tnacli.deploy.inputs import as_array
from tnacli.deploy.numbers import as_inputs, values_of
from tnacli.deploy.predictor import wanted_by
from tnacli.errors import UsageError
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, read_packed, to_bytes, write_packed
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import InputSpec, Origin
from tnacli.storage import is_archive, network_file

if TYPE_CHECKING:
    from torch import Tensor

    from tnacli.training.checkpoint import Checkpoint

Floats = NDArray[np.float32]
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Model:
    """A trained spiking network on the CPU: samples in, logits out.

    `labels` names the classes in the order of the logits, `input` says what is taken, `timesteps` is T, `weights` is "fp32",
    "ternary" or "binary". `packed` is what is saved, None of a checkpoint; `sample` the inputs that it was made with, if so, and
    `origin` says where a file's network came from; `checkpoint` is what it was restored from, made by `trusted` code if any.
    """

    labels: tuple[str, ...]
    input: InputSpec
    timesteps: int
    weights: str
    run: Callable[[Floats], Floats] = field(repr=False)
    packed: PackedNetwork | None = field(default=None, repr=False)
    sample: Tensor | None = field(default=None, repr=False)
    origin: Origin | None = None
    checkpoint: Checkpoint | None = field(default=None, repr=False)
    trusted: str | None = None

    def __call__(self, samples: Any, *, unit: bool = False, normalised: bool = False) -> Any:
        """Logits, float32 [N, classes], of images [N, C, H, W] or event frames [N, T, C, H, W], an array; of a tensor, a tensor.

        An array, a tensor or a list of numbers is taken as it is: whole numbers are pixels from 0 to 255, to which the
        network's own mean and std are applied. Floats have to be marked: `unit`, pixels from 0 to 1, or `normalised`, mean and
        std applied already. Frames are numbers of events, of any type. PIL images and paths of images or recordings, one or a
        list, are made what the network takes, as `tna predict` does. Raises DataError for anything else.
        """
        logits = self._logits(samples, unit, normalised)
        if not hasattr(samples, "detach"):
            return logits
        import torch

        return torch.from_numpy(logits)

    def _logits(self, samples: Any, unit: bool, normalised: bool) -> Floats:
        values = values_of(unit=unit, normalised=normalised)
        given = as_array(samples, wanted_by(self.input, self.timesteps, self.origin), values)
        cuts = range(0, len(given), _AT_ONCE)
        parts = [self.run(as_inputs(given[cut : cut + _AT_ONCE], self.input, values)) for cut in cuts]
        return np.concatenate([np.empty((0, len(self.labels)), np.float32), *parts])

    def predict(self, samples: Any, *, unit: bool = False, normalised: bool = False) -> list[str]:
        """The label of each sample, a list of N; samples and errors as for a call."""
        return [self.labels[best] for best in self._logits(samples, unit, normalised).argmax(1)]

    def __reduce__(self) -> tuple[Any, ...]:
        # Not the engine or the modules: they are made anew, as the machine that unpickles runs them best.
        if self.packed is not None:
            return _unpickled, (to_bytes(self.packed), self.sample)
        return _restored, (self.checkpoint, self.trusted)

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
        from tnacli.deploy.formats import deploy

        return deploy(self.packed, form, Path(path), inputs).paths


def _unpickled(packed: bytes, sample: Tensor | None) -> Model:
    return packed_model(from_bytes(packed), sample)


def load_model(path: str | Path, *, trust_build: str | None = None) -> Model:
    """The network in a packed file, a checkpoint, or the folder of a run.

    `trust_build` names the function of someone's own, "package.module:function", that may be imported and called to make
    the network of a checkpoint that needs it. Raises FileFormatError if the file is none, or damaged, UsageError if it
    needs another function than `trust_build`, RecipeError if that cannot be imported or called.
    """
    file = network_file(Path(path))
    if is_archive(file):
        return _from_checkpoint(file, trust_build)
    return packed_model(read_packed(file))


def packed_model(packed: PackedNetwork, sample: Tensor | None = None) -> Model:
    """A packed network as a function."""
    about = packed.about
    weights = "binary" if any(layer.binary for layer in about.layers) else "ternary"
    return Model(about.labels, about.input, about.timesteps, weights, PackedSNN(packed), packed, sample, about.origin)


def _from_checkpoint(path: Path, trust_build: str | None) -> Model:
    from tnacli.training.checkpoint import Checkpoint, load_checkpoint

    checkpoint = load_checkpoint(path)
    # Without what is for training alone: Adam's moments and the siblings.
    needed = {
        name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(("networks/base/", "best/"))
    }
    return _restored(Checkpoint(checkpoint.metadata, needed), trust_build, str(path))


def _restored(checkpoint: Checkpoint, trusted: str | None, source: str = "the checkpoint") -> Model:
    import torch

    from tnacli.deploy.from_checkpoint import input_of, origin_of
    from tnacli.quant.weights import compression_mode
    from tnacli.snn.arithmetic import exact
    from tnacli.training.checkpoint import restore_network

    network = restore_network(checkpoint, trusted=trusted, source=source)

    def run(inputs: Floats) -> Floats:
        owned = inputs if inputs.flags.writeable and inputs.flags.c_contiguous else inputs.copy()
        with torch.inference_mode(), exact():
            logits: Floats = network(torch.from_numpy(owned)).numpy()
        return logits

    return Model(
        checkpoint.metadata.classes, input_of(checkpoint), network.timesteps, compression_mode(network) or "fp32", run,
        origin=origin_of(checkpoint), checkpoint=checkpoint, trusted=trusted,
    )  # fmt: skip
