"""Layers of a NIR graph as a checkpoint: a network in full precision, to evaluate, to ternarize and to train from."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tnacli.build import build_network
from tnacli.data.learned_from import UNKNOWN, LearnedFrom
from tnacli.data.load import load
from tnacli.data.samples import Dataset
from tnacli.errors import DataError, NetworkError, UsageError
from tnacli.evaluation.activity import of_network
from tnacli.importing.layers import Current, Layer, threshold
from tnacli.importing.nir import Compared, Graph, compared
from tnacli.pixels import array_as_input
from tnacli.quant.weights import latent_state
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.misfit import complaints
from tnacli.recipe.schema.model import Neuron
from tnacli.recipe.schema.recipe import Settings, Train
from tnacli.runs.metadata import CheckpointMetadata, TrainingState, Versions
from tnacli.snn.network import SpikingLayer, SpikingNetwork, WeightedLayer
from tnacli.training.checkpoint import Checkpoint
from tnacli.version import __version__

SEEN = 256
"""How many training samples the statistics of batch norm are those of, where the data is there."""


def checkpoint_of(found: Graph, data_root: str | None = None) -> tuple[Checkpoint, Compared, bool]:
    """`found` as the checkpoint of a run of no epochs, compared with the graph's nodes; and whether its data was there.

    Scale and shift of each current become a batch norm. Its running statistics are those of `SEEN` training samples of its data
    set, so that training, which takes those of a batch, begins where evaluation is; where that is not there they are 0 and 1.
    Classes of a graph that does not name its own are the data set's, if that is there.

    Raises UsageError if the data set is not one of ours, its pixels are normalised otherwise, or it is there and has other
    classes; NetworkError if no layout has such layers.
    """
    found = replace(found, layers=tuple(_alike(layer, found.layers[0]) for layer in found.layers))
    settings = _settings(found)
    dataset = _dataset(found, settings.data, data_root)
    classes = found.labels if dataset is None or found.named else dataset.classes
    if len(classes) != len(found.labels):
        raise UsageError(
            f"--data {settings.data.name} has {len(classes)} classes, and the network {len(found.labels)} outputs"
        )
    inputs = found.inputs
    network = build_network(settings.model, channels=inputs.channels, size=inputs.size, classes=len(classes), seed=0)
    assert isinstance(network, SpikingNetwork)
    _fill(network.eval(), found, None if dataset is None else _seen(found, dataset))
    run = of_network(network)[1]
    with torch.no_grad():
        agreed = compared(found, "checkpoint", lambda given, observe: run(given, observe).sum(0))
    origin = found.origin
    metadata = CheckpointMetadata(
        recipe=origin.recipe,
        run=origin.run,
        identity=origin.identity,
        altered=(*origin.altered, "imported"),
        initial=None,
        data=LearnedFrom(name=settings.data.name, source="unknown", fingerprint=UNKNOWN, samples={}, digests={}, files=None),
        kind=inputs.kind,
        classes=tuple(classes),
        channels=inputs.channels,
        size=inputs.size,
        mean=inputs.mean,
        std=inputs.std,
        versions=Versions(tnacli=__version__, torch=torch.__version__, python=platform.python_version()),
        kernels="plain",
        seed=origin.seed,
        settings=settings,
        networks={"base": settings.model},
        state=TrainingState(
            epoch=0, step=0, compressed=False, seconds=0.0, epoch_seconds=0.0, totals={}, best_epoch=None, best_accuracy=-1.0,
            partly=(), learning_rate=0.0,
        ),
        compressed=False,
        precision="fp32",
    )  # fmt: skip
    tensors = {f"networks/base/{name}": tensor.clone() for name, tensor in latent_state(network).items()}
    return Checkpoint(metadata, tensors), agreed, dataset is not None


def _settings(found: Graph) -> Settings:
    origin, inputs, first, leak = found.origin, found.inputs, found.layers[0].neurons, found.readout.leak
    spec = DATASETS.get(origin.data_set)
    if spec is None:
        raise UsageError(
            f"a checkpoint says what data it is for, and the graph does not; give --data with one of {', '.join(DATASETS)}"
        )
    kinds = {first.decay: "leaky", 1.0: "sum", 0.0: "none"}
    readout = next((kind for known, kind in kinds.items() if math.isclose(leak, known, rel_tol=1e-6)), None)
    if readout is None:
        raise NetworkError(f"its readout leaks by {leak:g}; that of a checkpoint by as much as its neurons, 0 or 1")
    given = {
        "data": {
            "name": origin.data_set, "size": None if inputs.size == spec.size else inputs.size,
            "format": origin.format, "binning": origin.binning, "sensor": origin.sensor, "test_samples": origin.test_samples,
            "normalise": _normalised(found),
        },
        "model": {
            "layout": layout_of(found.layers), "timesteps": found.reading.timesteps, "readout": readout,
            "neuron": Neuron(decay=first.decay, threshold=threshold(first)),
        },
        "train": Train(epochs=0),
    }  # fmt: skip
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise NetworkError(f"no recipe can say it: {'; '.join(map(str, complaints(error)))}") from None


def _alike(layer: Layer, first: Layer) -> Layer:
    """`layer` with the threshold of the first, its currents in proportion: neurons that are reset to 0 then spike alike.

    Raises NetworkError for what our own networks do not have: another decay, and what no layout says.
    """
    ours, theirs = layer.neurons, first.neurons
    if not math.isclose(ours.decay, theirs.decay, rel_tol=1e-7):
        raise NetworkError(
            f"the decay of {layer.name} is {ours.decay:g}, that of the first neurons {theirs.decay:g}; a checkpoint has one for "
            f"all; a packed file (-o NAME.safetensors), whose hidden weights are ternary, has one for each layer"
        )
    if layer.source is not None or layer.added is not None:
        raise NetworkError(
            f"no layout has {layer.name}, which takes or adds the spikes of another layer than the one before"
        )
    for current in (layer.own, layer.shortcut):
        weights = None if current is None else current.weights
        if (
            weights is not None
            and weights.weight.dim() == 4
            and (weights.groups != 1 or 2 * weights.padding + 1 != weights.weight.shape[-1])
        ):
            raise NetworkError(f"no layout has {layer.name} with groups, or with a padding that is not half the kernel")
    unit = threshold(ours) / threshold(theirs)
    if unit != 1 and layer.shortcut is not None and layer.shortcut.weights is None:
        raise NetworkError(
            f"{layer.name} has another threshold than the first neurons, and a shortcut that adds spikes"
        )
    shortcut = None if layer.shortcut is None else layer.shortcut.over(unit)
    return replace(layer, own=layer.own.over(unit), shortcut=shortcut)


def _normalised(found: Graph) -> str:
    """data.normalise of pixels as the network takes them."""
    inputs, spec = found.inputs, DATASETS[found.origin.data_set]
    if inputs.mean is None or inputs.std is None:
        return "none" if inputs.kind == "images" else "auto"
    plain = not any(inputs.mean) and all(deviation == 1 for deviation in inputs.std)
    if not plain and spec.mean is not None and (inputs.mean, inputs.std) != (spec.mean, spec.std):
        raise UsageError(
            f"pixels are normalised with mean {inputs.mean} and std {inputs.std}, and a recipe can ask for those of "
            f"{found.origin.data_set} or for none; such a network can be a packed file alone"
        )
    return "none" if plain else "auto"


def layout_of(layers: tuple[Layer, ...]) -> str:
    """The layers in the notation of `model.layout`; what it cannot say is seen when the network is filled."""
    parts, at = list[str](), 0
    while at < len(layers):
        block = at + 1 < len(layers) and layers[at + 1].shortcut is not None
        own, layer = layers[at].own.weights, layers[at + block]
        assert own is not None
        down = "/2" if own.stride == 2 else ""
        out, kernel = len(own.weight), own.weight.shape[-1]
        parts.append(f"R{out}{down}" if block else f"{out}FC" if own.weight.dim() == 2 else f"{out}C{kernel}{down}")
        parts += [f"AP{layer.after.size}"] if layer.after.size > 1 else []
        at += 1 + block
    return "-".join(parts)


def _dataset(found: Graph, data: Data, root: str | None) -> Dataset | None:
    """Some training samples, balanced over classes; None where they are not there."""
    try:
        update = {"train_samples": max(SEEN, len(found.labels)), "root": None if data.name == "digits" else root}
        return load(data.model_copy(update=update), found.reading.timesteps, splits=("train",))
    except DataError:
        return None


def _seen(found: Graph, dataset: Dataset) -> Tensor:
    inputs, pixels = found.inputs, dataset.train.inputs
    wanted = inputs.shape(found.reading.timesteps)
    if pixels.shape[1:] != wanted:
        raise UsageError(
            f"--data {dataset.name} has samples of {tuple(pixels.shape[1:])}, and the network takes {wanted}"
        )
    return torch.from_numpy(np.array(array_as_input(pixels, inputs.mean, inputs.std, inputs.kind)))


@torch.no_grad()
def _fill(network: SpikingNetwork, found: Graph, inputs: Tensor | None) -> None:
    """Give `network` the weights, and batch norms the statistics of `inputs`. Raises NetworkError if a layer has other shapes."""
    shapes = layer_shapes(
        network.model.layout, width=1, channels=found.inputs.channels, size=found.inputs.size, classes=network.classes
    )
    currents = dict[str, Current]()
    for layer, shape in zip(found.layers, shapes, strict=False):
        named = {layer.name: layer.own}
        if layer.shortcut is not None and layer.shortcut.weights is not None:
            named[f"{layer.name}.shortcut"] = layer.shortcut
        skipped = None if shape.shortcut is None else shape.shortcut.source
        weights = {name: tuple(current.weights.weight.shape) for name, current in named.items() if current.weights}
        if (weights, layer.after.size, layer.skipped) != (shape.branches, shape.pool, skipped):
            raise NetworkError(
                f"no layout has {layer.name} as it is, with weights of {weights}"
                f"{'' if layer.skipped is None else f' and a shortcut from {layer.skipped}'}; layouts have residual blocks of "
                f"two 3x3 convolutions"
            )
        currents |= named
    for name, part in network.weighted.items():
        weights_of, norm = currents[name].weights, _norm(part)
        assert weights_of is not None
        if weights_of.stride != part.stride:
            raise NetworkError(f"no layout has {name} with a stride of {weights_of.stride}")
        part.synapse.weight.copy_(weights_of.weight)
        _set_norm(norm, currents[name], torch.zeros(len(norm.weight)), torch.ones(len(norm.weight)) - norm.eps)
    network.readout.weight.copy_(found.readout.weight)
    network.readout.bias.copy_(found.readout.bias)
    for name, (mean, variance) in {} if inputs is None else _statistics(network, inputs).items():
        _set_norm(_norm(network.weighted[name]), currents[name], mean, variance)


def _norm(part: WeightedLayer) -> nn.BatchNorm1d | nn.BatchNorm2d:
    assert part.norm is not None
    return part.norm


def _set_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, current: Current, mean: Tensor, variance: Tensor) -> None:
    """A batch norm with these statistics that makes `scale * x + shift` of x in evaluation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    deviation = torch.sqrt(norm.running_var.double() + norm.eps)
    norm.weight.copy_(current.scale * deviation)
    norm.bias.copy_(current.shift + current.scale * norm.running_mean.double())


def _statistics(network: SpikingNetwork, inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance by channel of what each batch norm receives in evaluation, by its name in `network.weighted`."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str) -> Callable[[SpikingLayer, tuple[Tensor, ...]], None]:
        def seen(layer: SpikingLayer, given: tuple[Tensor, ...]) -> None:
            x, *skipped = given
            rows = x.flatten(2) if isinstance(layer.synapse, nn.Linear) and x.dim() > 3 else x
            found[name] = _moments(layer.summed(rows.flatten(0, 1)))
            if layer.shortcut is not None:
                found[f"{name}.shortcut"] = _moments(layer.shortcut.summed(skipped[0].flatten(0, 1)))

        return seen

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in network.spiking.items()]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return found


def _moments(summed: Tensor) -> tuple[Tensor, Tensor]:
    axes = (0, *range(2, summed.dim()))
    return summed.double().mean(axes), summed.double().var(axes)


def run_name(text: str) -> str:
    """`text`, say a file's name, as one that a run may have."""
    return re.sub(r"[^a-z0-9_.-]", "_", text.lower()).lstrip("_.-")[:64] or "network"
