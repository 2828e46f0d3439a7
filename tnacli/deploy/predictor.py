"""A network from a packed file, a checkpoint or an ONNX file as one function of samples as bytes: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from tnacli.data.own_samples import Wanted
from tnacli.errors import FileFormatError
from tnacli.packed.spec import InputSpec, Origin
from tnacli.pixels import array_as_input

Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Predictor:
    """What `logits` makes of uint8 samples, [N, C, H, W] pixels or [N, T, C, H, W] counts of events: float32 [N, classes].

    `labels` names the classes in their order, `origin` says where the network came from. `timesteps` is the T of event frames;
    an ONNX file of images does not say how many there are, and has 1.
    """

    kind: Literal["checkpoint", "packed", "onnx"]
    labels: tuple[str, ...]
    input: InputSpec
    timesteps: int
    origin: Origin
    logits: Callable[[NDArray[np.uint8]], Logits]

    @property
    def wanted(self) -> Wanted:
        """What samples have to be made."""
        return wanted_by(self.input, self.timesteps, self.origin)


def wanted_by(spec: InputSpec, timesteps: int, origin: Origin | None = None) -> Wanted:
    """What samples have to be made for a network that takes `spec`, and was trained on the data that `origin` says."""
    wanted = Wanted(spec.kind, spec.channels, spec.size, timesteps)
    if origin is None:
        return wanted
    return replace(wanted, data_set=origin.data_set, binning=origin.binning, sensor=origin.sensor)


def load_predictor(file: Path, *, trusted: str | None = None) -> Predictor:
    """The network in `file`; `trusted` names the function that may be called to make a checkpoint's (`tnacli.snn.own`).

    Raises FileFormatError if it is damaged or of no known kind, UsageError if a package or trust is missing.
    """
    if file.suffix.lower() == ".onnx":
        return _from_onnx(file)
    from tnacli.deploy.library import load_model

    model = load_model(file, trust_build=trusted)
    assert model.origin is not None  # every file says it
    return Predictor(
        "checkpoint" if model.packed is None else "packed", model.labels, model.input, model.timesteps, model.origin,
        lambda samples: np.asarray(model(samples)),
    )  # fmt: skip


def _from_onnx(file: Path) -> Predictor:
    """What `tna export --format onnx` wrote: its metadata says the classes and how inputs are normalised."""
    from tnacli.deploy.onnx import OnnxNetwork

    network = OnnxNetwork(file)
    try:
        spec = InputSpec.model_validate_json(network.metadata["tnacli.input"])
        labels = TypeAdapter(tuple[str, ...]).validate_json(network.metadata["tnacli.labels"])
        origin = Origin.model_validate_json(network.metadata["tnacli.origin"])
    except (KeyError, ValidationError) as error:
        raise FileFormatError(
            f"{file}: does not say its classes and inputs, as ONNX files of `tna export` do ({type(error).__name__}). Use a "
            "checkpoint or a packed file."
        ) from None

    def logits(samples: NDArray[np.uint8]) -> Logits:
        return network(array_as_input(samples, spec.mean, spec.std, spec.kind))

    return Predictor("onnx", labels, spec, network.frames or 1, origin, logits)
