"""From a graph of NIR nodes to a packed network: our own files, and those of other libraries' exporters.

NIR's equations say neither how long a timestep is nor how they become steps, and each exporter writes what its own importer
takes: `LIBRARIES` says what that is. Written from SpikingJelly 2.0, snnTorch 1.0, norse 1.1, sinabs 2.0 and 3.1.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from tnacli.deploy.nir_steps import Reading, Stepping, in_order, nir_logits, pair, step_constants
from tnacli.errors import NetworkError, UsageError
from tnacli.importing.layers import layers_of
from tnacli.importing.libraries import number
from tnacli.importing.packing import packed_network
from tnacli.importing.parts import Affine, Leaky, Neurons, Part, Pool, Weighted, convolution, pool
from tnacli.importing.recording import Added, Given, Scaled, Summed, Value
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
    encoding: str = "ternary2"


@dataclass(frozen=True)
class Compared:
    """Of `samples` random inputs, `agreeing` predicted alike by the graph's own steps, and the layers that never spiked."""

    samples: int
    agreeing: int
    silent: tuple[str, ...]


def network_from_nir(graph: Any, stated: Stated) -> tuple[PackedNetwork, Compared]:
    """The packed network of `graph` (a `nir.NIRGraph`), run beside the graph's own nodes on random inputs.

    Raises NetworkError that names the first node that no packed file can say, or if the two predict otherwise; UsageError if
    nothing says how many timesteps there are, or what is stated does not fit.
    """
    about = {key: value.decode() if isinstance(value, bytes) else value for key, value in graph.metadata.items()}
    ours, reading = "tnacli_input" in about, _reading(about, stated)
    shape = _shape(graph)
    inputs = _inputs(shape, about.get("tnacli_input"), stated.taken)
    if math.prod(shape) != math.prod((inputs.channels, *inputs.size)):
        raise UsageError(f"the graph takes {shape}, not {(inputs.channels, *inputs.size)}")
    value = _output(graph, reading, (inputs.channels, *inputs.size))
    layers, readout, timesteps = layers_of(value, 1)
    classes = len(readout.weight)
    labels = stated.labels or (tuple(about["tnacli_labels"].split("\n")) if ours else tuple(map(str, range(classes))))
    if len(labels) != classes:
        raise UsageError(f"{len(labels)} labels for {classes} outputs")
    packed = packed_network(
        layers, readout, inputs=inputs, labels=labels, timesteps=timesteps, encoding=stated.encoding,
        origin=Origin.model_validate_json(about["tnacli_origin"]) if ours else stated.origin,
    )  # fmt: skip
    return packed, _compare(packed, graph, reading)


def _reading(about: dict[str, Any], stated: Stated) -> Reading:
    timesteps = stated.timesteps or about.get("tnacli_timesteps")
    if stated.made_by is not None and stated.made_by not in LIBRARIES:
        raise UsageError(f"--made-by is one of {', '.join(LIBRARIES)}, not {stated.made_by!r}")
    if timesteps is None:
        raise UsageError("the graph does not say how many timesteps a sample has; give --timesteps")
    stepping = LIBRARIES[stated.made_by] if stated.made_by else Stepping()
    if "tnacli_dt" in about and stated.made_by is None:
        stepping = Stepping(float(about["tnacli_dt"]), strict=False)
    if stated.dt is not None:
        stepping = replace(stepping, dt=stated.dt)
    return Reading(stepping, int(timesteps), float(about.get("tnacli_leak", 0)))


def _shape(graph: Any) -> tuple[int, ...]:
    """(C, H, W) or (features,) of what goes in, without the axes of samples and time that some exporters leave there."""
    inputs = [node for node in graph.nodes.values() if type(node).__name__ == "Input"]
    if len(inputs) != 1:
        raise NetworkError(f"the graph has {len(inputs)} inputs; a packed network has one")
    shape = tuple(int(side) for side in np.ravel(inputs[0].input_type["input"]))
    return shape[-3:] if len(shape) > 2 else shape[-1:]


def _inputs(shape: tuple[int, ...], said: str | None, taken: Mapping[str, object] | None) -> InputSpec:
    """What the network takes: as the file says, but for what was stated."""
    channels, *size = (1, 1, *shape)[-3:]
    found = {"kind": "images", "channels": channels, "size": size} if said is None else json.loads(said)
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
            parts = _parts(node, into.shape, reading.stepping)
        except NetworkError as error:
            raise NetworkError(f"{where} has {error}") from None
        for part in parts:
            into = value(part, (into,), _out(part, into.shape), where)
        made[name] = into
        if type(node).__name__ == "Output":
            if reading.leak:
                into = value(Leaky(reading.leak), (into,), into.shape, where)
            return value(Summed(False), (into,), into.shape, where)
    raise NetworkError("the graph has no output")


def _parts(node: Any, shape: tuple[int, ...], stepping: Stepping) -> list[Part | Scaled]:
    """What `node` makes of values of `shape`, one part after the other."""
    kind = type(node).__name__
    if kind in ("Flatten", "Output"):
        return []
    if kind == "Scale":
        return [Scaled(number(node.scale, "scale"))]
    if kind in ("SumPool2d", "AvgPool2d"):
        sides = {"stride": pair(node.stride), "padding": pair(node.padding)}
        return [pool(pair(node.kernel_size), **sides, ceil_mode=False, summed=kind == "SumPool2d")]
    if kind in ("Conv2d", "Affine", "Linear"):
        return _weighted(node, shape)
    if kind in ("IF", "LIF", "I", "LI"):
        keep, gain, rest = (number(constant, "time constant or r") for constant in step_constants(node, stepping))
        # The last digits are those of tau, which the decay was made of.
        keep = float(f"{keep:.12g}")
        if rest or (kind in ("IF", "LIF") and np.any(node.v_reset)):
            raise NetworkError("a resting potential or a reset to one other than 0 (v_leak, v_reset)")
        if not 0 <= keep <= 1:
            raise NetworkError(
                f"a decay of {keep:g} in steps of {stepping.dt:g} s; --dt and --made-by set how long they are"
            )
        if kind in ("I", "LI"):
            return [Leaky(keep, gain)]
        return [Neurons(keep, number(node.v_threshold, "threshold"), gain, stepping.strict)]
    raise NetworkError(_UNKNOWN.get(kind, "a meaning that no packed file can say"))


_UNKNOWN = {
    "CubaLIF": "synaptic currents with a time constant (tau_syn)",
    "CubaLI": "synaptic currents with a time constant (tau_syn)",
    "NIRGraph": "a graph of its own within the graph",
    "Delay": "delays",
    "Conv1d": "a convolution in one dimension",
}


def _weighted(node: Any, shape: tuple[int, ...]) -> list[Part | Scaled]:
    weight = _tensor(node.weight)
    bias = _tensor(getattr(node, "bias", np.zeros(len(weight))))
    about = getattr(node, "metadata", None) or {}
    if weight.dim() == 2:
        if weight.shape[1] != math.prod(shape):
            raise NetworkError(f"weights for {weight.shape[1]} values, and {shape} lead into it")
        found = Weighted(weight, bias)
    else:
        found = convolution(
            weight, bias, stride=pair(node.stride), dilation=pair(node.dilation), groups=int(node.groups),
            padding=node.padding if isinstance(node.padding, str) else pair(node.padding),
        )  # fmt: skip
        if len(shape) != 3 or weight.shape[1] * found.groups != shape[0]:
            raise NetworkError(f"weights for {weight.shape[1] * found.groups} feature maps, and {shape} lead into it")
    if about.get("tnacli_factor") is not None:
        return [Scaled(float(about["tnacli_factor"]))]
    if "tnacli_scale" in about:
        scale = _tensor(about["tnacli_scale"])
        codes = weight / scale.view(-1, *[1] * (weight.dim() - 1))
        if bool(((codes == 0) | (codes.abs() == 1)).all()):
            # Signs as they were, where a row's scale is negative.
            return [replace(found, weight=codes, bias=torch.zeros_like(bias)), Affine(scale.double(), bias.double())]
    return [found]


def _out(part: Part | Scaled, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(part, Weighted):
        out, within = len(part.weight), 2 * part.padding - part.weight.shape[-1]
        return (out, *((side + within) // part.stride + 1 for side in shape[1:])) if part.weight.dim() == 4 else (out,)
    if isinstance(part, Pool):
        return (shape[0], *(side // part.size for side in shape[1:]))
    return shape


def _compare(packed: PackedNetwork, graph: Any, reading: Reading) -> Compared:
    """Random inputs in both. Raises NetworkError if more predictions differ than rounding explains."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(INPUTS, *packed.about.input.shape(packed.about.timesteps), generator=generator)
    inputs = drawn.abs().round() if packed.about.input.kind == "events" else drawn
    spiking: set[str] = set()

    def observe(layer: str, spikes: Tensor) -> None:
        if bool(spikes.any()):
            spiking.add(layer)

    given = inputs if len(_shape(graph)) == 3 else inputs.flatten(-3)
    found, expected = PackedSNN(packed)(inputs, observe), nir_logits(graph, given, reading)
    agreeing = int((found.argmax(1) == expected.argmax(1)).sum())
    if INPUTS - agreeing > 1:
        raise NetworkError(
            f"the packed network predicts {INPUTS - agreeing} of {INPUTS} random inputs otherwise than the graph's nodes (logits "
            f"differ by up to {float((found - expected).abs().max()):.3g}); nothing was written; please report this"
        )
    return Compared(INPUTS, agreeing, tuple(layer.name for layer in packed.about.layers if layer.name not in spiking))


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))
