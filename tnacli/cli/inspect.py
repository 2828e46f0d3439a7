"""`tna inspect`: what is in a checkpoint or a packed file, and where it came from."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tnacli.cli import options
from tnacli.cli.console import Output, size_text

if TYPE_CHECKING:
    from tnacli.cli.documents.files import Checkpoint, Packed


def inspect(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint (.pt), the folder of a run, or a packed file (.safetensors).")
    ],
    trust_build: options.TrustBuild = None,
    as_json: options.Json = False,
) -> None:
    """Layers, shapes, shares of -1, 0 and +1, sizes, and where FILE came from.

    Examples:

      tna inspect model.safetensors

      tna inspect runs/quickstart/tna-seed0-0123456789/last.pt --json
    """
    from tnacli.storage import is_archive, network_file

    output = Output(as_json)
    file = network_file(file)
    if is_archive(file):
        found: Checkpoint | Packed = _checkpoint(file, trust_build)
    else:
        options.refuse_trust(trust_build)
        found = _packed(file)
    if as_json:
        output.document(found)
        return
    apart = {"command", "version", "file", "layers", "neurons"}
    known = {key: value for key, value in found.plain().items() if value is not None and key not in apart}
    output.table("", ["", ""], [[_label(key), _shown(key, value)] for key, value in known.items()])
    neurons = _own_neurons(found) if found.kind == "packed" else {}
    columns = ["layer", "weights", "shape", "-1 %", "0 %", "+1 %", "stored", "as fp32"]
    rows = [
        [layer.name, layer.encoding, "x".join(map(str, layer.shape)),
         *(["", "", ""] if layer.shares is None else [f"{100 * s:.1f}" for s in layer.shares]),
         size_text(layer.size_bytes), size_text(layer.fp32_bytes), *([neurons.get(layer.name, "")] if neurons else [])]
        for layer in found.layers
    ]  # fmt: skip
    output.table("", [*columns, *(["neurons"] if neurons else [])], rows, right=columns[3:])


def _own_neurons(found: Packed) -> dict[str, str]:
    """What is to be said of each layer's neurons beside the decay and the threshold of all."""
    own = {}
    for name, neuron in found.neurons.items():
        said = [
            f"{key} {value:g}"
            for key in ("decay", "threshold")
            if (value := getattr(neuron, key)) != getattr(found, key)
        ]
        if neuron.subtract is not None:
            said.append(f"a spike subtracts {neuron.subtract:g}")
        if neuron.most_spikes > 1:
            said.append(f"up to {neuron.most_spikes} spikes a timestep")
        if neuron.lowest is not None:
            said.append(f"not below {neuron.lowest:g}")
        if said:
            own[name] = ", ".join(said)
    return own


def _packed(file: Path) -> Packed:
    from tnacli.cli.documents.files import Layer, Neurons, Packed
    from tnacli.packed.file import read_packed
    from tnacli.packed.network import layer_sizes

    network = read_packed(file)
    about, sizes = network.about, layer_sizes(network)
    return Packed(
        file=file,
        version_of_format=about.version,
        created_by=about.created_by,
        size_bytes=file.stat().st_size,
        fp32_bytes=sum(size.fp32_bytes for size in sizes),
        input=f"{about.input.kind} {about.input.channels}x{about.input.size[0]}x{about.input.size[1]}",
        classes=len(about.labels),
        timesteps=about.timesteps,
        decay=about.neuron.decay,
        threshold=about.neuron.threshold,
        readout_leak=about.readout.leak,
        **dict(about.origin),
        neurons={layer.name: Neurons(**dict(layer.neuron)) for layer in network.steps.layers},
        layers=[
            Layer(
                name=size.name, encoding=size.encoding, shape=size.weight, shares=size.shares, size_bytes=size.size_bytes,
                fp32_bytes=size.fp32_bytes,
            )
            for size in sizes
        ],
    )  # fmt: skip


def _checkpoint(file: Path, trusted: str | None) -> Checkpoint:
    from tnacli.cli.loading import load_torch

    load_torch()
    from tnacli.cli.documents.files import Checkpoint, Layer
    from tnacli.quant.weights import compressed_layers, weight_shares
    from tnacli.snn.network import SpikingNetwork
    from tnacli.training.checkpoint import load_checkpoint, restore_network

    checkpoint = load_checkpoint(file)
    metadata = checkpoint.metadata
    network = restore_network(checkpoint, trusted=trusted, source=str(file))
    model, modes, shares = network.described, compressed_layers(network), weight_shares(network)
    layers = []
    for name, shape in network.weight_shapes.items():
        share = shares.get(name)
        layers.append(Layer(
            name=name, encoding=modes.get(name, "fp32"), shape=shape,
            shares=None if share is None else (share.negative, share.zero, share.positive),
            size_bytes=4 * prod(shape), fp32_bytes=4 * prod(shape),
        ))  # fmt: skip
    return Checkpoint(
        file=file,
        created_by=f"tnacli {metadata.versions.tnacli}, torch {metadata.versions.torch}",
        size_bytes=file.stat().st_size,
        parameters=sum(p.numel() for p in network.parameters()),
        networks=checkpoint.networks(),
        input=f"{metadata.kind} {metadata.channels}x{metadata.size[0]}x{metadata.size[1]}",
        classes=len(metadata.classes),
        timesteps=network.timesteps,
        decay=network.model.neuron.decay,
        threshold=network.model.neuron.threshold if model.spiking else None,
        readout_leak=network.readout.leak if isinstance(network, SpikingNetwork) else None,
        layout=None if model.build else model.layout,
        build=model.function,
        data_set=metadata.data.name,
        recipe=metadata.recipe,
        run=metadata.run,
        seed=metadata.seed,
        identity=metadata.identity,
        altered=metadata.altered,
        epoch=metadata.state.epoch,
        step=metadata.state.step,
        epochs=metadata.settings.train.epochs,
        layers=layers,
    )


def _label(key: str) -> str:
    if key == "accuracy":
        return "test accuracy"
    return key.removesuffix("_bytes").replace("_", " ")


def _shown(key: str, value: Any) -> str:
    if key.endswith("_bytes"):
        return f"{size_text(value)} ({value:,} bytes)"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "no"
    if key == "accuracy":
        return f"{value:.2f} %"
    return f"{value:,}" if key == "parameters" else str(value)
