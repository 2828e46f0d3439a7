"""A packed network as an ONNX graph: every timestep unrolled, any batch size, hidden layers in integers.

Spikes behind a pooling travel as counts in one byte, as in the packed engine; `ConvInteger` and `MatMulInteger` add them up
exactly. Their scale is divided by the pooling's square first, a power of two, which changes no bit of the product. Only
operators of the standard set are used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.errors import FileFormatError, UsageError
from tnacli.packed.model import PackedLayer, PackedNetwork, PackedWeights
from tnacli.version import __version__

OPSET = 13
INPUT, OUTPUT = "input", "logits"


def onnx_bytes(network: PackedNetwork) -> bytes:
    """The ONNX file of `network`: "input" float32 [N, C, H, W] or [N, T, C, H, W], normalised, to "logits" [N, classes].

    Class names, mean and std are in the file's metadata. Raises UsageError if the package onnx is missing.
    """
    onnx = _onnx()
    graph = _Graph()
    about = network.about
    images = about.input.kind == "images"
    shape = ["N", *([] if images else [about.timesteps]), about.input.channels, *about.input.size]
    frames = [INPUT] if images else graph.frames(about.timesteps)
    values = _first_layer(graph, network, frames)
    behind = {network.layers[0].facts.name: values}
    for layer, before in zip(network.layers[1:], network.layers, strict=False):
        values = behind[layer.facts.name] = _hidden_layer(graph, network, layer, before, behind)
    graph.node("Identity", [_readout(graph, network, values)], out=OUTPUT)
    helper, kind = onnx.helper, onnx.TensorProto
    proto = helper.make_graph(
        graph.nodes,
        "tnacli",
        [helper.make_tensor_value_info(INPUT, kind.FLOAT, shape)],
        [helper.make_tensor_value_info(OUTPUT, kind.FLOAT, ["N", len(about.labels)])],
        graph.initialisers,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="tnacli",
        producer_version=__version__,
        ir_version=8,  # the newest that runtimes of the last few years read
    )
    helper.set_model_props(model, _metadata(network))
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def onnx_logits(data: bytes, inputs: NDArray[np.float32], *, at_once: int = 64) -> NDArray[np.float32]:
    """Logits [N, classes] that ONNX Runtime gives for `inputs` with the file `data`, `at_once` samples in a batch.

    Raises UsageError if the package onnxruntime is missing, FileFormatError if it cannot run the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(_MISSING.format("onnxruntime")) from None
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        parts = [inputs[i : i + at_once] for i in range(0, len(inputs), at_once)]
        logits: NDArray[np.float32] = np.concatenate([session.run([OUTPUT], {INPUT: part})[0] for part in parts])
    except Exception as error:
        # ONNX Runtime raises a type of its own for each failure; for the user all of them mean the same.
        raise FileFormatError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run the exported network: {error}"
        ) from None
    return logits


_MISSING = "the ONNX export needs the package {}; install it with `pip install 'tnacli[onnx]'`"


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise UsageError(_MISSING.format("onnx")) from None
    return onnx


class _Graph:
    """Nodes and constants so far; every value gets a name of its own."""

    def __init__(self) -> None:
        self._onnx = _onnx()
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initialisers.append(self._onnx.numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], *, out: str | None = None, **attributes: Any) -> str:
        name = out or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def cast(self, value: str, to: str) -> str:
        return self.node("Cast", [value], to=getattr(self._onnx.TensorProto, to))

    def frames(self, timesteps: int) -> list[str]:
        """The frames [N, C, H, W] of event inputs, one name for each timestep."""
        places = [self.constant(f"frame_{t}", np.array(t, np.int64)) for t in range(timesteps)]
        return [self.node("Gather", [INPUT, place], axis=1) for place in places]


def _first_layer(graph: _Graph, network: PackedNetwork, frames: Sequence[str]) -> list[str]:
    layer = network.layers[0]
    facts = layer.facts
    currents = []
    weight = graph.constant(f"{facts.name}.weight", layer.stored if facts.kind == "conv" else layer.stored.T)
    scale, shift = _by_channel(graph, facts.name, layer)
    for frame in frames:
        if facts.kind == "conv":
            summed = graph.node("Conv", [frame, weight], **_geometry(layer))
        else:
            summed = graph.node("MatMul", [graph.node("Flatten", [frame], axis=1), weight])
        currents.append(_driven(graph, summed, scale, shift))
    return _neurons(graph, network, layer, currents)


def _hidden_layer(
    graph: _Graph, network: PackedNetwork, layer: PackedLayer, before: PackedLayer, behind: dict[str, list[str]]
) -> list[str]:
    counts, shortcut = behind[before.facts.name], layer.facts.shortcut
    if layer.facts.kind == "fc" and before.facts.kind == "conv":
        counts = [graph.node("Flatten", [value], axis=1) for value in counts]
    currents = _currents(graph, layer.facts.name, layer, before.facts.pool**2, counts)
    if shortcut is not None:
        pool = next(one.facts.pool for one in network.layers if one.facts.name == shortcut.source)
        name, skipped = f"{layer.facts.name}.shortcut", behind[shortcut.source]
        if layer.shortcut is not None:
            added = _currents(graph, name, layer.shortcut, pool**2, skipped)
        else:
            share = graph.constant(f"{name}.share", np.array(1 / pool**2, np.float32))
            added = [graph.node("Mul", [graph.cast(value, "FLOAT"), share]) for value in skipped]
        currents = [graph.node("Add", list(pair)) for pair in zip(currents, added, strict=True)]
    return _neurons(graph, network, layer, currents)


def _currents(graph: _Graph, name: str, weights: PackedWeights, counts_to: int, counts: Sequence[str]) -> list[str]:
    """What ternary weights make of spike counts up to `counts_to`, a name for each timestep."""
    ternary, is_conv = weights.ternary(), len(weights.facts.weight) == 4
    stored = graph.constant(f"{name}.weight", ternary if is_conv else ternary.T)
    scale, shift = _by_channel(graph, name, weights, divisor=counts_to)
    currents = []
    for value in counts:
        if is_conv:
            summed = graph.node("ConvInteger", [value, stored], **_geometry(weights))
        else:
            summed = graph.node("MatMulInteger", [value, stored])
        currents.append(_driven(graph, graph.cast(summed, "FLOAT"), scale, shift))
    return currents


def _geometry(weights: PackedWeights) -> dict[str, Any]:
    return {"pads": [weights.facts.weight[-1] // 2] * 4, "strides": [weights.facts.stride] * 2}


def _by_channel(graph: _Graph, name: str, weights: PackedWeights, divisor: int = 1) -> tuple[str, str]:
    shape = (1, -1, 1, 1) if len(weights.facts.weight) == 4 else (1, -1)
    scale = (weights.scale / np.float32(divisor)).reshape(shape)
    return graph.constant(f"{name}.scale", scale), graph.constant(f"{name}.shift", weights.shift.reshape(shape))


def _driven(graph: _Graph, summed: str, scale: str, shift: str) -> str:
    return graph.node("Add", [graph.node("Mul", [summed, scale]), shift])


def _neurons(graph: _Graph, network: PackedNetwork, layer: PackedLayer, currents: Sequence[str]) -> list[str]:
    """Pooled spike counts, uint8, one name for each timestep; a single current is the same at every one."""
    neuron, name, pool = network.about.neuron, layer.facts.name, layer.facts.pool

    def constant(key: str, value: float) -> str:
        return graph.constant(f"{name}.{key}", np.array(value, np.float32))

    threshold, zero = constant("threshold", neuron.threshold), constant("zero", 0.0)
    # A constant that no node uses makes ONNX Runtime complain.
    decay = constant("decay", neuron.decay) if network.about.timesteps > 1 else ""
    square = constant("square", pool**2) if pool > 1 else ""
    spikes, potential = [], None
    for t in range(network.about.timesteps):
        driven = currents[min(t, len(currents) - 1)]
        if potential is not None:
            driven = graph.node("Add", [graph.node("Mul", [potential, decay]), driven])
        spiked = graph.node("GreaterOrEqual", [driven, threshold])
        potential = graph.node("Where", [spiked, zero, driven])
        if pool > 1:
            averaged = graph.node(
                "AveragePool", [graph.cast(spiked, "FLOAT")], kernel_shape=[pool] * 2, strides=[pool] * 2
            )
            spikes.append(graph.cast(graph.node("Mul", [averaged, square]), "UINT8"))
        else:
            spikes.append(graph.cast(spiked, "UINT8"))
    return spikes


def _readout(graph: _Graph, network: PackedNetwork, counts: Sequence[str]) -> str:
    last = network.layers[-1].facts
    weight = graph.constant("readout.weight", network.readout_weight.T)
    bias = graph.constant("readout.bias", network.readout_bias)
    leak = graph.constant("readout.leak", np.array(network.about.readout.leak, np.float32)) if len(counts) > 1 else ""
    share = graph.constant("readout.share", np.array(1 / last.pool**2, np.float32))
    potential, logits = "", ""
    for value in counts:
        averaged = graph.node("Mul", [graph.cast(value, "FLOAT"), share])
        current = graph.node("Add", [graph.node("MatMul", [graph.node("Flatten", [averaged], axis=1), weight]), bias])
        potential = graph.node("Add", [graph.node("Mul", [potential, leak]), current]) if potential else current
        logits = graph.node("Add", [logits, potential]) if logits else potential
    return logits


def _metadata(network: PackedNetwork) -> dict[str, str]:
    """What a user needs besides the graph: JSON under keys that begin with "tnacli."."""
    about = network.about
    return {
        "tnacli.input": about.input.model_dump_json(),
        "tnacli.labels": json.dumps(about.labels),
        "tnacli.origin": about.origin.model_dump_json(),
    }
