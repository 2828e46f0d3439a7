"""A packed network as an ONNX graph: every timestep unrolled, any batch size or a fixed one, hidden layers in integers.

Spikes after a pooling travel as counts in one byte, as in the packed engine; `ConvInteger` and `MatMulInteger` add them up
exactly. For runtimes that have neither, `Conv` and `MatMul` add the same whole numbers in float32, as exactly. Their scale is
divided by the pooling's square first, a power of two, which changes no bit of the product. Only operators of the standard set
are used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnacli.errors import FileFormatError, UsageError
from tnacli.packed.network import PackedNetwork, PackedWeights
from tnacli.packed.spec import EXACT_POOLS, ConvolutionSpec, LayerSpec
from tnacli.packed.steps import Current, Input, LIFLayer
from tnacli.version import __version__

OPSET = 13
INPUT, OUTPUT = "input", "logits"


def onnx_bytes(network: PackedNetwork, *, floats: bool = False, batch: int | None = None) -> bytes:
    """The ONNX file of `network`: "input" float32 [N, C, H, W] or [N, T, C, H, W], normalised, to "logits" [N, classes].

    `floats`: counts and ternary weights are float32, and no operator is one of integers. `batch`: N, where it is to be fixed.
    Class names, mean and std are in the file's metadata. Raises UsageError if the package onnx is missing.
    """
    onnx = _onnx()
    graph = _Graph(floats)
    about = network.about
    images = about.input.kind == "images"
    shape = [batch or "N", *([] if images else [about.timesteps]), about.input.channels, *about.input.size]
    frames = [INPUT] if images else graph.frames(about.timesteps)
    given: dict[Input | LIFLayer, list[str]] = {network.steps.input: frames}
    for layer in network.steps.layers:
        own, *others = (_currents(graph, network, current, given[current.source]) for current in layer.currents)
        for other in others:
            own = [graph.node("Add", list(pair)) for pair in zip(own, other, strict=True)]
        if layer.max_of == "currents":
            own = [graph.node("MaxPool", [driven], **_squares(layer)) for driven in own]
        added = () if layer.added is None else given[layer.added]
        given[layer] = _neurons(graph, network, layer, currents=own, added=added)
    graph.node("Identity", [_readout(graph, network, given[network.steps.readout.source])], out=OUTPUT)
    helper, kind = onnx.helper, onnx.TensorProto
    proto = helper.make_graph(
        graph.nodes,
        "tnacli",
        [helper.make_tensor_value_info(INPUT, kind.FLOAT, shape)],
        [helper.make_tensor_value_info(OUTPUT, kind.FLOAT, [batch or "N", len(about.labels)])],
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
    network = OnnxNetwork(data)
    fixed = network.batch
    if fixed is None:
        return np.concatenate([network(inputs[i : i + at_once]) for i in range(0, len(inputs), at_once)])
    filled = np.concatenate([inputs, np.zeros((-len(inputs) % fixed, *inputs.shape[1:]), np.float32)])
    return np.concatenate([network(filled[i : i + fixed]) for i in range(0, len(filled), fixed)])[: len(inputs)]


class OnnxNetwork:
    """An ONNX file, or its bytes, in ONNX Runtime on the CPU; `metadata` is what `onnx_bytes` has put in.

    Raises UsageError if the package onnxruntime is missing, FileFormatError if it cannot read or run the file.
    """

    def __init__(self, source: Path | bytes) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UsageError(_MISSING.format("onnxruntime")) from None
        self._name = str(source) if isinstance(source, Path) else "the exported network"
        self._runtime = f"ONNX Runtime {onnxruntime.__version__}"
        given = str(source) if isinstance(source, Path) else source
        try:
            self._session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._refused(error) from None
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [N, classes] of normalised `inputs`."""
        try:
            logits: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: inputs})[0]
        except Exception as error:
            raise self._refused(error) from None
        return logits

    @property
    def batch(self) -> int | None:
        """How many samples it takes at once; None if any number."""
        size = self._session.get_inputs()[0].shape[0]
        return size if isinstance(size, int) else None

    @property
    def frames(self) -> int | None:
        """How many frames of events it takes; None of images."""
        shape = self._session.get_inputs()[0].shape
        return int(shape[1]) if len(shape) == 5 else None

    def _refused(self, error: Exception) -> FileFormatError:
        # ONNX Runtime raises a type of its own for each failure; for the user all of them mean the same.
        return FileFormatError(f"{self._runtime} cannot run {self._name}: {error}")


_MISSING = "ONNX files need the package {}; install it with `pip install 'tnacli[onnx]'`"


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
    """Nodes and constants so far; every value gets a name of its own. `floats`: spike counts are float32, not bytes."""

    def __init__(self, floats: bool) -> None:
        self._onnx = _onnx()
        self.floats = floats
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

    def counted(self, value: str, *, of_bool: bool = False) -> str:
        """Spike counts as they travel, from floats or from what is true where a neuron spiked."""
        if self.floats:
            return self.cast(value, "FLOAT") if of_bool else value
        return self.cast(value, "UINT8")

    def summable(self, counts: str) -> str:
        """Spike counts as floats."""
        return counts if self.floats else self.cast(counts, "FLOAT")

    def frames(self, timesteps: int) -> list[str]:
        """The frames [N, C, H, W] of event inputs, one name for each timestep."""
        places = [self.constant(f"frame_{t}", np.array(t, np.int64)) for t in range(timesteps)]
        return [self.node("Gather", [INPUT, place], axis=1) for place in places]


def _currents(graph: _Graph, network: PackedNetwork, current: Current, values: Sequence[str]) -> list[str]:
    """What a step's `current` makes of the inputs, or of the spike counts that leave its source, a name for each timestep."""
    name, divisor = current.name, current.source.divisor
    if current.spec is None:
        share = graph.constant(f"{name}.share", np.array(1 / divisor, np.float32))
        return [graph.node("Mul", [graph.summable(value), share]) for value in values]
    weights = network.weights[name]
    exact = current.spec.encoding != "fp32" and not graph.floats
    operator = ("Conv" if current.is_conv else "MatMul") + ("Integer" if exact else "")
    geometry = _geometry(current.spec) if current.is_conv else {}
    if exact and current.flattens:
        values = [graph.node("Flatten", [value], axis=1) for value in values]
    stored = weights.values() if current.is_conv else weights.values().T
    weight = graph.constant(f"{name}.weight", stored if exact else stored.astype(np.float32))
    scale, shift = _by_channel(graph, name, weights, divisor=divisor)
    currents = []
    for value in values:
        x = graph.node("Flatten", [value], axis=1) if current.flattens and not exact else value
        summed = graph.node(operator, [x, weight], **geometry)
        currents.append(_driven(graph, graph.cast(summed, "FLOAT") if exact else summed, scale, shift))
    return currents


def _geometry(spec: LayerSpec | ConvolutionSpec) -> dict[str, Any]:
    return {"pads": [spec.around] * 4, "strides": [spec.stride] * 2, "group": spec.groups}


def _squares(layer: LIFLayer) -> dict[str, Any]:
    size, stride, padding = layer.squares
    return {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [padding] * 4}


def _by_channel(graph: _Graph, name: str, weights: PackedWeights, divisor: int = 1) -> tuple[str, str]:
    shape = (1, -1, 1, 1) if len(weights.spec.weight) == 4 else (1, -1)
    scale = (weights.scale / np.float32(divisor)).reshape(shape)
    return graph.constant(f"{name}.scale", scale), graph.constant(f"{name}.shift", weights.shift.reshape(shape))


def _driven(graph: _Graph, summed: str, scale: str, shift: str) -> str:
    return graph.node("Add", [graph.node("Mul", [summed, scale]), shift])


def _neurons(
    graph: _Graph, network: PackedNetwork, layer: LIFLayer, *, currents: Sequence[str], added: Sequence[str]
) -> list[str]:
    """Pooled spike counts, uint8, one name for each timestep, `added` ones among them.

    A single current is the same at every timestep.
    """
    neuron, name, pool = layer.neuron, layer.name, layer.pool

    def constant(key: str, value: float) -> str:
        return graph.constant(f"{name}.{key}", np.array(value, np.float32))

    # A constant that no node uses makes ONNX Runtime complain.
    threshold = constant("threshold", neuron.threshold)
    goes_on = network.about.timesteps > 1
    subtract = "" if neuron.subtract is None or not goes_on else constant("subtract", neuron.subtract)
    zero = constant("zero", 0.0) if goes_on and not subtract else ""
    lowest = "" if neuron.lowest is None or not goes_on else constant("lowest", neuron.lowest)
    several = constant("most", neuron.most_spikes) if neuron.most_spikes > 1 else ""
    decay = constant("decay", neuron.decay) if network.about.timesteps > 1 else ""
    square = constant("square", pool**2) if pool > 1 else ""
    spikes, potential = [], None
    for t in range(network.about.timesteps):
        driven = currents[min(t, len(currents) - 1)]
        if potential is not None:
            driven = graph.node("Add", [graph.node("Mul", [potential, decay]), driven])
        spiked = graph.node("GreaterOrEqual", [driven, threshold])
        as_number = pool > 1 or layer.max_of == "spikes" or several or added
        fired = graph.cast(spiked, "FLOAT") if as_number else ""
        if several:
            fitting = graph.node("Floor", [graph.node("Div", [driven, threshold])])
            fired = graph.node("Mul", [fired, graph.node("Min", [fitting, several])])
        if t + 1 < network.about.timesteps:
            taken = graph.node("Mul", [fired, subtract]) if several else subtract
            left = graph.node("Sub", [driven, taken]) if subtract else zero
            potential = graph.node("Where", [spiked, left, driven])
            potential = graph.node("Max", [potential, lowest]) if lowest else potential
        if added:
            fired = graph.node("Add", [fired, graph.summable(added[t])])
        if pool > 1:
            summed = graph.node("Mul", [graph.node("AveragePool", [fired], **_squares(layer)), square])
            # Means of other squares are rounded, and casts cut off.
            spikes.append(graph.counted(summed if pool in EXACT_POOLS else graph.node("Round", [summed])))
        elif layer.max_of == "spikes":
            spikes.append(graph.counted(graph.node("MaxPool", [fired], **_squares(layer))))
        else:
            spikes.append(graph.counted(fired) if as_number else graph.counted(spiked, of_bool=True))
    return spikes


def _readout(graph: _Graph, network: PackedNetwork, counts: Sequence[str]) -> str:
    weight = graph.constant("readout.weight", network.readout_weight.T)
    bias = graph.constant("readout.bias", network.readout_bias)
    leak = graph.constant("readout.leak", np.array(network.about.readout.leak, np.float32)) if len(counts) > 1 else ""
    share = graph.constant("readout.share", np.array(1 / network.steps.readout.source.divisor, np.float32))
    potential, logits = "", ""
    for value in counts:
        averaged = graph.node("Mul", [graph.summable(value), share])
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
