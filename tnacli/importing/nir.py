"""From a graph of NIR nodes to layers, and to a packed network: our own files, and those of other libraries' exporters.

NIR's equations say neither how long a timestep is nor how they become steps, and each exporter writes what its own importer
takes: `LIBRARIES` says what that is. Written from SpikingJelly 2.0, snnTorch 1.0, norse 1.1, sinabs 2.0 and 3.1.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from tnacli.deploy.nir_steps import Reading, Stepping, in_order, nir_logits
from tnacli.errors import NetworkError, UsageError
from tnacli.importing.fields import require_fields
from tnacli.importing.layers import Layer, Readout, layers_of
from tnacli.importing.metadata import Metadata, metadata_of
from tnacli.importing.nodes import out_of, parts_of
from tnacli.importing.packing import is_ternary, packed_network
from tnacli.importing.parts import Leaky
from tnacli.importing.recording import Added, Given, Summed, Value
from tnacli.packed.document import explain
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork
from tnacli.packed.spec import InputSpec, Origin

LIBRARIES = {
    "spikingjelly": Stepping(strict=False),
    "snntorch": Stepping(),
    # Its importer takes dt / tau for what its neurons multiply by their own dt, and both are 0.001; an IF's r is not read.
    "norse": Stepping(dt=1e-6, whole=True),
    # tau in timesteps; a potential decays by exp(-1 / tau), and LIF neurons take the rest of 1 of their current.
    "sinabs": Stepping(dt=1.0, exactly=True, strict=False),
}
"""How each library's own steps follow from what its exporter writes."""

INPUTS = 64
"""How many random inputs a network is run on."""


@dataclass(frozen=True)
class Stated:
    """What is to be known of a graph besides its nodes; None where its metadata says it, as that of our own files does.

    `made_by` is one of `LIBRARIES`, None for what NIR's definition says. `taken` has keys of `InputSpec`, where the network
    does not take images of the graph's own shape as they are.
    """

    origin: Origin
    made_by: str | None = None
    dt: float | None = None
    timesteps: int | None = None
    labels: tuple[str, ...] | None = None
    taken: Mapping[str, object] | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph of NIR nodes as layers, and what it takes and gives; `reading` says how its own nodes are stepped.

    `named`: its labels are known, and no mere numbers.
    """

    nodes: Any
    reading: Reading
    layers: tuple[Layer, ...]
    readout: Readout
    inputs: InputSpec
    labels: tuple[str, ...]
    named: bool
    origin: Origin

    @property
    def full_precision(self) -> str | None:
        """The first weights between the first layer's and the readout's that are neither ternary nor binary."""
        currents = [current for layer in self.layers for current in (layer.own, layer.shortcut) if current is not None]
        weighted = [current for current in currents[1:] if current.weights is not None]
        return next((c.where for c in weighted if c.weights and not is_ternary(c.weights.weight)), None)


@dataclass(frozen=True)
class Compared:
    """Of `samples` random inputs, `agreeing` predicted alike by the graph's own steps, and the layers that never spiked."""

    samples: int
    agreeing: int
    silent: tuple[str, ...]


def read_graph(graph: Any, stated: Stated) -> Graph:
    """The layers of `graph` (a `nir.NIRGraph`).

    Raises NetworkError that names the first node that no network of ours can say; UsageError if nothing says how many timesteps
    there are, or what is stated does not fit; FileFormatError for metadata that `tna export` would not have written.
    """
    about = metadata_of(graph)
    reading, shape = _reading(about, stated), _shape(graph)
    inputs = _inputs(shape, about.input, stated.taken)
    if math.prod(shape) != math.prod((inputs.channels, *inputs.size)):
        raise UsageError(f"the graph takes {shape}, not {(inputs.channels, *inputs.size)}")
    value = _output(graph, reading, (inputs.channels, *inputs.size))
    layers, readout, _ = layers_of(value, 1)
    classes = len(readout.weight)
    said = tuple(map(str, range(classes))) if about.labels is None else tuple(about.labels.split("\n"))
    labels = stated.labels or said
    if len(labels) != classes:
        raise UsageError(f"{len(labels)} labels for {classes} outputs")
    named = (about.labels or stated.labels) is not None
    return Graph(graph, reading, tuple(layers), readout, inputs, labels, named, about.origin or stated.origin)


def packed_of(found: Graph, encoding: str) -> tuple[PackedNetwork, Compared]:
    """`found` as a packed network, run beside the graph's own nodes on random inputs.

    Raises NetworkError if hidden weights are in full precision or the two predict otherwise.
    """
    packed = packed_network(
        found.layers, found.readout, inputs=found.inputs, labels=found.labels, timesteps=found.reading.timesteps,
        encoding=encoding, origin=found.origin,
    )  # fmt: skip
    return packed, compared(found, "packed network", PackedSNN(packed))


def _reading(about: Metadata, stated: Stated) -> Reading:
    timesteps = stated.timesteps or about.timesteps
    if stated.made_by is not None and stated.made_by not in LIBRARIES:
        raise UsageError(f"--made-by is one of {', '.join(LIBRARIES)}, not {stated.made_by!r}")
    if timesteps is None:
        raise UsageError("the graph does not say how many timesteps a sample has; give --timesteps")
    stepping = LIBRARIES[stated.made_by] if stated.made_by else Stepping()
    if about.dt is not None and stated.made_by is None:
        stepping = Stepping(about.dt, strict=False)
    if stated.dt is not None:
        stepping = replace(stepping, dt=stated.dt)
    return Reading(stepping, timesteps, about.leak)


def _shape(graph: Any) -> tuple[int, ...]:
    """(C, H, W) or (features,) of what goes in, without the axes of samples and time that some exporters leave there."""
    inputs = [node for node in graph.nodes.values() if type(node).__name__ == "Input"]
    if len(inputs) != 1:
        raise NetworkError(f"the graph has {len(inputs)} inputs; a packed network has one")
    shape = tuple(int(side) for side in np.ravel(inputs[0].input_type["input"]))
    return shape[-3:] if len(shape) > 2 else shape[-1:]


def _inputs(shape: tuple[int, ...], said: InputSpec | None, taken: Mapping[str, object] | None) -> InputSpec:
    """What the network takes: as the file says, but for what was stated."""
    channels, *size = (1, 1, *shape)[-3:]
    found = {"kind": "images", "channels": channels, "size": size} if said is None else said.model_dump()
    try:
        return InputSpec.model_validate_json(json.dumps({**found, **(taken or {})}))
    except ValidationError as error:
        raise UsageError(f"the network's input: {explain(error)}") from None


def _output(graph: Any, reading: Reading, shape: tuple[int, ...]) -> Value:
    """The logits by what makes them, as if a run on one sample of `shape` had been recorded."""
    made: dict[str, Value] = {}
    numbers = itertools.count()

    def value(part: Any, sources: tuple[Value, ...], out: tuple[int, ...], where: str) -> Value:
        return Value(part, sources, out, where, next(numbers), reading.timesteps * math.prod(out))

    for name, leading in in_order(graph).items():
        node, where = graph.nodes[name], f"{name} ({type(graph.nodes[name]).__name__})"
        sources = tuple(made[source] for source in leading)
        if not sources:
            made[name] = value(Given(), (), shape, where)
            continue
        into = sources[0] if len(sources) == 1 else value(Added(), sources, sources[0].shape, where)
        try:
            require_fields(node, into.shape)
            parts = parts_of(node, into.shape, reading.stepping)
        except NetworkError as error:
            raise NetworkError(f"{where} has {error}") from None
        for part in parts:
            into = value(part, (into,), out_of(part, into.shape), where)
        made[name] = into
        if type(node).__name__ == "Output":
            if reading.leak:
                into = value(Leaky(reading.leak), (into,), into.shape, where)
            return value(Summed(False), (into,), into.shape, where)
    raise NetworkError("the graph has no output")


def random_inputs(found: Graph) -> Tensor:
    """Inputs that the network takes, normally distributed, or numbers of events."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(INPUTS, *found.inputs.shape(found.reading.timesteps), generator=generator)
    return drawn.abs().round() if found.inputs.kind == "events" else drawn


def compared(found: Graph, what: str, run: Callable[[Tensor, Callable[[str, Tensor], None]], Tensor]) -> Compared:
    """Random inputs in `what`, which `run` gives the logits of and shows spikes by layer to a function, and in the graph's nodes.

    Raises NetworkError if more predictions differ than rounding explains.
    """
    spiking: set[str] = set()

    def observe(layer: str, spikes: Tensor) -> None:
        if bool(spikes.any()):
            spiking.add(layer)

    inputs = random_inputs(found)
    given = inputs if len(_shape(found.nodes)) == 3 else inputs.flatten(-3)
    logits, expected = run(inputs, observe), nir_logits(found.nodes, given, found.reading)
    agreeing = int((logits.argmax(1) == expected.argmax(1)).sum())
    if INPUTS - agreeing > 1:
        raise NetworkError(
            f"the {what} predicts {INPUTS - agreeing} of {INPUTS} random inputs otherwise than the graph's nodes (logits "
            f"differ by up to {float((logits - expected).abs().max()):.3g}); nothing was written; please report this"
        )
    return Compared(INPUTS, agreeing, tuple(layer.name for layer in found.layers if layer.name not in spiking))
