"""From a ternary or binary network to a packed file, and the proof that the two are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from tnacli.errors import FileFormatError, UsageError
from tnacli.packed.codec import ENCODINGS, pack
from tnacli.packed.document import Document, explain, version_for
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import Floats, PackedNetwork
from tnacli.packed.spec import ConvolutionSpec, InputSpec, LayerSpec, NeuronSpec, Origin, ReadoutSpec, ShortcutSpec
from tnacli.quant.weights import compressed_layers, quantiser_of
from tnacli.snn.arithmetic import exact
from tnacli.snn.network import Network, SpikingLayer, SpikingNetwork, WeightedLayer
from tnacli.version import __version__

_SAMPLES_AT_ONCE = 64  # as evaluation takes them: sums of other batches may be rounded otherwise


@torch.no_grad()
def pack_network(
    network: SpikingNetwork,
    *,
    inputs: InputSpec,
    labels: Sequence[str],
    origin: Origin,
    encoding: str = "ternary2",
    source: str = "CKPT",
) -> PackedNetwork:
    """The packed form of `network`, its hidden weights in `encoding` ("ternary2" or "ternary5").

    Raises UsageError as `require_packable` does, and if what is to be stored is nothing that a packed file can say.
    """
    require_packable(network, source)
    neuron = network.model.neuron
    first = next(iter(network.spiking))
    encodings = {name: "fp32" if name == first else encoding for name in network.weighted}
    layers = tuple(_layer_spec(name, layer, encodings[name]) for name, layer in network.spiking.items())
    classes, features = network.readout.weight.shape
    constants = NeuronSpec(decay=neuron.decay, threshold=neuron.threshold)
    try:
        about = Document(
            version=version_for(constants, layers),
            created_by=f"tnacli {__version__}",
            input=inputs,
            labels=tuple(labels),
            timesteps=network.timesteps,
            neuron=constants,
            layers=layers,
            readout=ReadoutSpec(weight=(classes, features), leak=network.readout.leak),
            origin=origin,
        )
    except ValidationError as error:
        raise UsageError(f"{source} cannot be packed: {explain(error)}") from None
    arrays: dict[str, NDArray[Any]] = {}
    for name, weights in network.weighted.items():
        arrays |= _arrays(name, weights, encodings[name])
    arrays |= {"readout.weight": _floats(network.readout.weight), "readout.bias": _floats(network.readout.bias)}
    packed = PackedNetwork(about, arrays)
    odd = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if odd:
        raise UsageError(f"{source} cannot be packed: NaN or infinity in {', '.join(odd)}; train it again")
    return packed


def require_packable(network: Network, source: str) -> None:
    """Raise UsageError unless `network` spikes and its hidden layers are ternary or binary, with the command that makes them so.

    `source` stands for its checkpoint in errors. What a user's own module computes is not looked at.
    """
    if isinstance(network, SpikingNetwork) and not network.model.spiking:
        raise UsageError(
            f"{source} cannot be exported: it is an artificial network (model.spiking: false), and all forms of export hold "
            f"spiking neurons. `tna evaluate` and tnacli.load take its checkpoint"
        )
    if not network.hidden:
        raise UsageError(f"{source} cannot be packed: it has no hidden layer for ternary weights")
    full = [name for name in network.hidden if name not in compressed_layers(network)]
    if full and compressed_layers(network):
        raise UsageError(
            f"{source} cannot be packed: its training has not compressed all layers yet, and these hold full-precision "
            f"weights: {', '.join(full)}. Let it go on; it compresses one layer after the other"
        )
    if full:
        raise UsageError(
            f"{source} cannot be packed: these layers hold full-precision weights: {', '.join(full)}. Only "
            f"networks with ternary or binary hidden layers can; `tna ternarize {source}` makes it one."
        )


def _layer_spec(name: str, layer: SpikingLayer, encoding: str) -> LayerSpec:
    shortcut = None
    if layer.source is not None:
        weights = layer.shortcut
        convolution = None if weights is None else ConvolutionSpec.model_validate(_weights_spec(weights, encoding))
        shortcut = ShortcutSpec(source=layer.source, convolution=convolution)
    kind = "conv" if isinstance(layer.synapse, nn.Conv2d) else "fc"
    about = {"name": name, "kind": kind, "pool": layer.pool, "shortcut": shortcut, **_weights_spec(layer, encoding)}
    return LayerSpec.model_validate(about)


def _weights_spec(weights: WeightedLayer, encoding: str) -> dict[str, object]:
    quantiser = quantiser_of(weights.synapse)
    return {
        "weight": tuple(weights.synapse.weight.shape),
        "stride": weights.stride,
        "encoding": encoding,
        "binary": quantiser is not None and quantiser.mode == "binary",
    }


def _arrays(name: str, weights: WeightedLayer, encoding: str) -> dict[str, NDArray[Any]]:
    """Weights as stored, scale and shift, by their names in the file."""
    weight = weights.synapse.weight
    stored = _floats(weight) if encoding == "fp32" else pack(_rows(weight), ENCODINGS[encoding])
    scale, shift = weights.folded()
    return {f"{name}.weight": stored, f"{name}.scale": _floats(scale), f"{name}.shift": _floats(shift)}


def _rows(weight: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Quantised weights as int8 [out, fan_in]."""
    return weight.flatten(1).to("cpu", torch.int8).numpy()


def _floats(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy()


@dataclass(frozen=True)
class Verification:
    """What was compared between a network and its packed form.

    `weights` are hidden weights, `samples` predictions, of which `agreeing` were equal. Logits may differ in rounding where the
    network ran on another device or with other batches; `largest_difference` says by how much.
    """

    weights: int
    samples: int
    agreeing: int
    largest_difference: float


@torch.no_grad()
@exact()
def verify(
    network: SpikingNetwork, packed: PackedNetwork, samples: Tensor, expected: Tensor | None = None
) -> Verification:
    """Compare every weight and constant, and the predictions on `samples` (normalised inputs, float32, any
    number, also none). `expected` are the network's logits of them, [N, classes], where they are known already.

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
    for (name, theirs), (our_name, ours) in zip(network.weighted.items(), packed.weights.items(), strict=True):
        scale, shift = (_floats(values) for values in theirs.folded())
        if ours.spec.encoding == "fp32":
            same = np.array_equal(_floats(theirs.synapse.weight), ours.stored)
        else:
            codes = ours.ternary().reshape(ours.spec.weight[0], -1)
            same = np.array_equal(_rows(theirs.synapse.weight), codes)
            weights += codes.size
        same = same and name == our_name and theirs.stride == ours.spec.stride
        if not (same and np.array_equal(scale, ours.scale) and np.array_equal(shift, ours.shift)):
            raise FileFormatError(f"the packed numbers of layer {name} are not the checkpoint's; {_REPORT}")
    for (name, layer), step in zip(network.spiking.items(), packed.steps.layers, strict=True):
        source = None if step.shortcut is None else step.shortcut.source.name
        if (layer.pool, layer.source) != (step.pool, source):
            raise FileFormatError(f"the packed numbers of layer {name} are not the checkpoint's; {_REPORT}")
    readout = network.readout
    if not (
        np.array_equal(_floats(readout.weight), packed.readout_weight)
        and np.array_equal(_floats(readout.bias), packed.readout_bias)
    ):
        raise FileFormatError(f"the packed readout is not the checkpoint's; {_REPORT}")
    if not len(samples):
        return Verification(weights, 0, 0, 0.0)
    expected = _logits(network, samples) if expected is None else expected
    return Verification(weights, len(samples), len(samples), _compare_predictions(packed, samples, expected))


def _logits(network: SpikingNetwork, samples: Tensor) -> Tensor:
    device, training = network.readout.weight.device, network.training
    network.eval()
    try:
        return torch.cat([network(batch.to(device)).cpu() for batch in samples.split(_SAMPLES_AT_ONCE)])
    finally:
        network.train(training)


def _compare_predictions(packed: PackedNetwork, samples: Tensor, expected: Tensor) -> float:
    engine = PackedSNN(packed)
    logits = torch.cat([engine(batch.cpu()) for batch in samples.split(_SAMPLES_AT_ONCE)])
    differing = int((expected.argmax(1) != logits.argmax(1)).sum())
    largest = float((expected - logits).abs().max())
    if differing:
        raise FileFormatError(
            f"the packed network predicts {differing} of {len(samples)} samples otherwise than the "
            f"checkpoint (logits differ by up to {largest:.3g}); {_REPORT}"
        )
    return largest


_REPORT = "nothing was written; please report this"
