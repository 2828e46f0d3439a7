"""From a ternary or binary network to a packed file, and the proof that the two are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.utils import parametrize

from tnacli.errors import FileFormatError, UsageError
from tnacli.packed.codec import ENCODINGS, pack
from tnacli.packed.document import (
    Document,
    InputFacts,
    LayerFacts,
    NeuronFacts,
    Origin,
    ReadoutFacts,
    explain,
)
from tnacli.packed.engine import PackedSNN
from tnacli.packed.file import from_bytes, to_bytes
from tnacli.packed.model import Floats, PackedLayer, PackedNetwork
from tnacli.quant.weights import BinaryWeight, TernaryWeight
from tnacli.snn.network import SpikingLayer, SpikingNetwork
from tnacli.storage import write_atomically
from tnacli.version import __version__

_SAMPLES_AT_ONCE = 32


@torch.no_grad()
def pack_network(
    network: SpikingNetwork,
    *,
    inputs: InputFacts,
    labels: Sequence[str],
    origin: Origin,
    encoding: str = "ternary2",
    source: str = "CKPT",
) -> PackedNetwork:
    """The packed form of `network`, its hidden weights in `encoding` ("ternary2" or "ternary5").

    Raises UsageError if a hidden layer is neither ternary nor binary, with the command that makes the
    checkpoint `source` so; also if what is to be stored is nothing that a packed file can say.
    """
    _refuse_full_precision(network, source)
    neuron = network.model.neuron
    layers = [
        _packed_layer(name, layer, "fp32" if number == 0 else encoding)
        for number, (name, layer) in enumerate(network.spiking.items())
    ]
    classes, features = network.readout.weight.shape
    try:
        about = Document(
            created_by=f"tnacli {__version__}",
            input=inputs,
            labels=tuple(labels),
            timesteps=network.timesteps,
            neuron=NeuronFacts(decay=neuron.decay, threshold=neuron.threshold),
            layers=tuple(layer.facts for layer in layers),
            readout=ReadoutFacts(weight=(classes, features), leak=network.readout.leak),
            origin=origin,
        )
    except ValidationError as error:
        raise UsageError(f"{source} cannot be packed: {explain(error)}") from None
    packed = PackedNetwork(about, tuple(layers), _floats(network.readout.weight), _floats(network.readout.bias))
    odd = [name for name, array in packed.arrays().items() if not np.isfinite(array).all()]
    if odd:
        raise UsageError(f"{source} cannot be packed: NaN or infinity in {', '.join(odd)}; train it again")
    return packed


def _refuse_full_precision(network: SpikingNetwork, source: str) -> None:
    if not network.hidden:
        raise UsageError(f"{source} cannot be packed: it has no hidden layer for ternary weights")
    full = [name for name, layer in network.hidden.items() if _quantiser(layer) is None]
    if full:
        raise UsageError(
            f"{source} cannot be packed: these layers hold full-precision weights: {', '.join(full)}. Only "
            f"networks with ternary or binary hidden layers can; `tna ternarize {source}` makes it one."
        )


def _quantiser(layer: SpikingLayer) -> TernaryWeight | BinaryWeight | None:
    if not parametrize.is_parametrized(layer.synapse, "weight"):
        return None
    last = layer.synapse.parametrizations.weight[-1]  # type: ignore[union-attr,index]
    return last if isinstance(last, TernaryWeight | BinaryWeight) else None


def _packed_layer(name: str, layer: SpikingLayer, encoding: str) -> PackedLayer:
    weight = layer.synapse.weight
    facts = LayerFacts.model_validate(
        {
            "name": name,
            "kind": "conv" if weight.dim() == 4 else "fc",
            "weight": tuple(weight.shape),
            "pool": layer.pool,
            "encoding": encoding,
            "binary": isinstance(_quantiser(layer), BinaryWeight),
        }
    )
    stored = _floats(weight) if encoding == "fp32" else pack(_rows(weight), ENCODINGS[encoding])
    scale, shift = layer.folded()
    return PackedLayer(facts, stored, _floats(scale), _floats(shift))


def _rows(weight: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Quantised weights as int8 [out, fan_in]."""
    return weight.flatten(1).to("cpu", torch.int8).numpy()


def _floats(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy()


@dataclass(frozen=True)
class Verification:
    """What was compared between a network and its packed form, all of it equal.

    `weights` are hidden weights, `samples` predictions. Logits may differ in rounding where the network ran
    on another device or with other batches; `largest_difference` says by how much.
    """

    weights: int
    samples: int
    largest_difference: float


@torch.no_grad()
def verify(network: SpikingNetwork, packed: PackedNetwork, samples: Tensor) -> Verification:
    """Compare every weight and constant, and the predictions on `samples` (normalised inputs, float32, any
    number, also none).

    Raises FileFormatError if anything differs; that is a bug or a broken machine, never a matter of rounding
    in the hidden layers, which are exact.
    """
    neuron, about = network.model.neuron, packed.about
    if (network.timesteps, neuron.decay, neuron.threshold, network.readout.leak) != (
        about.timesteps,
        about.neuron.decay,
        about.neuron.threshold,
        about.readout.leak,
    ):
        raise FileFormatError(f"the packed neurons are not the checkpoint's; {_REPORT}")
    weights = 0
    for (name, layer), ours in zip(network.spiking.items(), packed.layers, strict=True):
        scale, shift = (_floats(values) for values in layer.folded())
        if ours.facts.encoding == "fp32":
            same = np.array_equal(_floats(layer.synapse.weight), ours.stored)
        else:
            codes = ours.ternary().reshape(ours.facts.weight[0], -1)
            same = np.array_equal(_rows(layer.synapse.weight), codes)
            weights += codes.size
        same = same and layer.pool == ours.facts.pool
        if not (same and np.array_equal(scale, ours.scale) and np.array_equal(shift, ours.shift)):
            raise FileFormatError(f"the packed numbers of layer {name} are not the checkpoint's; {_REPORT}")
    readout = network.readout
    if not (
        np.array_equal(_floats(readout.weight), packed.readout_weight)
        and np.array_equal(_floats(readout.bias), packed.readout_bias)
    ):
        raise FileFormatError(f"the packed readout is not the checkpoint's; {_REPORT}")
    return Verification(weights, len(samples), _compare_predictions(network, packed, samples))


def _compare_predictions(network: SpikingNetwork, packed: PackedNetwork, samples: Tensor) -> float:
    if not len(samples):
        return 0.0
    engine, device, training = PackedSNN(packed), network.readout.weight.device, network.training
    differing, largest = 0, 0.0
    network.eval()
    try:
        for batch in samples.split(_SAMPLES_AT_ONCE):
            theirs, ours = network(batch.to(device)).cpu(), engine(batch.cpu())
            differing += int((theirs.argmax(1) != ours.argmax(1)).sum())
            largest = max(largest, float((theirs - ours).abs().max()))
    finally:
        network.train(training)
    if differing:
        raise FileFormatError(
            f"the packed network predicts {differing} of {len(samples)} samples otherwise than the "
            f"checkpoint (logits differ by up to {largest:.3g}); {_REPORT}"
        )
    return largest


def export(path: Path, network: SpikingNetwork, packed: PackedNetwork, samples: Tensor) -> Verification:
    """Write `packed` to `path` once what a reader makes of its bytes is verified against `network`.

    Raises FileFormatError if it differs, StorageError if it cannot be written; nothing is at `path` then that
    was not.
    """
    data = to_bytes(packed)
    verification = verify(network, from_bytes(data, str(path)), samples)
    write_atomically(path, data)
    return verification


_REPORT = "nothing was written; please report this"
