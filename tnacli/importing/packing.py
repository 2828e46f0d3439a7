"""Layers as a packed network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from tnacli.errors import NetworkError
from tnacli.importing.layers import Current, Layer, Readout, threshold
from tnacli.importing.parts import MaxPool, Pool
from tnacli.packed.codec import ENCODINGS, pack
from tnacli.packed.document import Document, explain, version_for
from tnacli.packed.network import Floats, PackedNetwork
from tnacli.packed.spec import InputSpec, LayerSpec, NeuronSpec, Origin, ReadoutSpec
from tnacli.packed.steps import MOST_SPIKES
from tnacli.version import __version__


def packed_network(
    layers: Sequence[Layer],
    readout: Readout,
    *,
    inputs: InputSpec,
    labels: tuple[str, ...],
    timesteps: int,
    encoding: str,
    origin: Origin,
) -> PackedNetwork:
    """The packed form. Raises NetworkError where hidden weights are not ternary, shapes do not fit, or a number is not finite."""
    arrays: dict[str, NDArray[Any]] = {}
    specs = []
    for number, layer in enumerate(layers):
        spec = _weights(arrays, layer.name, layer.own, "fp32" if number == 0 else encoding)
        kind = "conv" if len(spec["weight"]) == 4 else "fc"
        spec |= {"name": layer.name, "kind": kind, "source": layer.source, "added": layer.added, **_pooling(layer)}
        if not _alike(layer, layers[0]):
            spec["neuron"] = _constants(layer)
        if layer.shortcut is not None:
            name, weights = f"{layer.name}.shortcut", layer.shortcut.weights
            convolution = None if weights is None else _weights(arrays, name, layer.shortcut, encoding)
            if convolution and (convolution.pop("padding") is not None or convolution.pop("groups") != 1):
                raise NetworkError(
                    f"{layer.shortcut.where} has groups, or a padding that is not half the kernel, on the way of a shortcut"
                )
            spec["shortcut"] = {"source": layer.skipped, "convolution": convolution}
        specs.append(spec)
    arrays |= {"readout.weight": _floats(readout.weight), "readout.bias": _floats(readout.bias)}
    odd = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if odd:
        raise NetworkError(f"NaN or infinity in {', '.join(odd)}")
    try:
        neuron = NeuronSpec.model_validate(_constants(layers[0]))
        described = tuple(LayerSpec.model_validate(spec) for spec in specs)
        classes, features = readout.weight.shape
        about = Document(
            version=version_for(neuron, described),
            created_by=f"tnacli {__version__}",
            input=inputs,
            labels=labels,
            timesteps=timesteps,
            neuron=neuron,
            layers=described,
            readout=ReadoutSpec(weight=(classes, features), leak=readout.leak),
            origin=origin,
        )
    except ValidationError as error:
        raise NetworkError(f"no packed file can say it: {explain(error)}") from None
    return PackedNetwork(about, arrays)


def _constants(layer: Layer) -> dict[str, float | None]:
    """What a file says of a layer's neurons: as many spikes in a timestep as what is pooled of them can count."""
    neurons, square = layer.neurons, layer.after.size**2
    return {
        "decay": neurons.decay, "threshold": threshold(neurons), "subtract": neurons.subtract,
        "most_spikes": min(neurons.most, MOST_SPIKES // square), "lowest": neurons.lowest,
    }  # fmt: skip


def _alike(one: Layer, other: Layer) -> bool:
    """Whether their neurons have the same constants, but for the last digits of a decay."""
    ours, theirs = _constants(one), _constants(other)
    return {**ours, "decay": 0} == {**theirs, "decay": 0} and math.isclose(
        one.neurons.decay, other.neurons.decay, rel_tol=1e-7
    )


def _pooling(layer: Layer) -> dict[str, Any]:
    """What a file says of a layer's pooling."""
    before, after = layer.before, layer.after
    if before is not None and after != Pool(1):
        raise NetworkError(f"{layer.own.where} leads into maximum pooling before neurons that are pooled again")
    if before is not None:
        return {"max_pool": {"of": "currents", **vars(before)}}
    if isinstance(after, MaxPool):
        return {"max_pool": {"of": "spikes", **vars(after)}}
    return {"pool": after.size}


def _weights(arrays: dict[str, NDArray[Any]], name: str, current: Current, encoding: str) -> dict[str, Any]:
    """What a file says of the weights of `current`; they are added to `arrays` under `name`."""
    assert current.weights is not None
    weight, around, scale, binary = current.weights.weight, current.weights.padding, current.scale, False
    stored: NDArray[Any] = _floats(weight)
    if encoding != "fp32":
        codes, magnitude = _ternary(weight, current.where)
        scale, binary = scale * magnitude, bool(codes.all())
        stored = pack(codes.flatten(1).to("cpu", torch.int8).numpy(), ENCODINGS[encoding])
    arrays |= {f"{name}.weight": stored, f"{name}.scale": _floats(scale), f"{name}.shift": _floats(current.shift)}
    return {
        "weight": tuple(weight.shape),
        "stride": current.weights.stride,
        "padding": None if weight.dim() == 2 or 2 * around + 1 == weight.shape[-1] else around,
        "groups": current.weights.groups,
        "encoding": encoding,
        "binary": binary,
    }


def is_ternary(weight: Tensor) -> bool:
    """Whether each row of weights [out, ...] has one magnitude, and maybe zeros."""
    return are_signs(_by_magnitude(weight)[0])


def are_signs(codes: Tensor) -> bool:
    """Whether `codes` are -1, 0 and +1 alone."""
    return bool(((codes == 0) | (codes.abs() == 1)).all())


def _by_magnitude(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [out, fan-in] over the largest magnitude in each, and those [out], 1 where all are zero."""
    rows = weight.double().flatten(1)
    magnitude = rows.abs().amax(1)
    magnitude = torch.where(magnitude == 0, 1.0, magnitude)
    return rows / magnitude[:, None], magnitude


def _ternary(weight: Tensor, where: str) -> tuple[Tensor, Tensor]:
    """Weights [out, ...] as -1, 0 and +1, and the magnitude [out] of each row, 1 where all are zero.

    Raises NetworkError if a row has more than one magnitude.
    """
    codes, magnitude = _by_magnitude(weight)
    if not are_signs(codes):
        raise NetworkError(
            f"the weights of {where} are in full precision; all that drive neurons, but for the first layer's, have to be "
            f"ternary or binary: train with tnacli.ternarize(module), or ternarize(module, layers=...) if the last ones do, too"
        )
    return codes.view(weight.shape), magnitude


def _floats(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy()
