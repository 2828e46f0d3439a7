"""A packed network in the Neuromorphic Intermediate Representation (NIR, Pedersen et al. 2024).

NIR's neurons are differential equations; a consumer turns them into steps of `DT` seconds by Euler's method. With
`tau = DT / (1 - decay)` and `r = 1` that step is `v = decay * v + (1 - decay) * I`; the weights are divided by `1 - decay`,
which makes it our Eq. 1. `decay` 1 is NIR's IF with `r = 1 / DT`. Only nodes that other libraries' importers know are made, and
the graph ends at the readout's currents. docs/deployment.md says what is mapped to what, and where consumers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tnacli.deploy.nir_steps import DT
from tnacli.errors import UsageError
from tnacli.packed.network import Floats, PackedNetwork, PackedWeights
from tnacli.packed.spec import ConvolutionSpec, LayerSpec
from tnacli.packed.steps import Current, Input, LIFLayer, Shape

READOUT = (
    "Run the graph tnacli_timesteps times, from potentials of 0, in steps of tnacli_dt seconds. With its output of each step: "
    "potential = tnacli_leak * potential + output, logits = logits + potential, both 0 at first. The class is the largest logit."
)
"""What a consumer does with the output: the file says so itself."""


def nir_graph(network: PackedNetwork) -> Any:
    """The `nir.NIRGraph` of `network`: one step's input (C, H, W) to the readout's currents (classes,).

    Batch norm, the pooling's division and the neurons' gain are folded into weights and biases: a ternary weight w becomes
    w * scale of its output channel, and the node's metadata holds that scale. Logits are made of the currents of all
    timesteps as the graph's metadata says. Raises UsageError if the package nir is missing, or for what NIR has no node for.
    """
    nir = _nir()
    about, steps = network.about, network.steps
    nodes: dict[str, Any] = {"input": nir.Input(input_type=np.array(steps.input.out))}
    edges: list[tuple[str, str]] = []
    leaving: dict[Input | LIFLayer, str] = {steps.input: "input"}  # the node that the values of each step leave

    def add(name: str, node: Any, *sources: str) -> str:
        nodes[name] = node
        edges.extend((source, name) for source in sources)
        return name

    def add_current(current: Current, gain: float) -> str:
        source, name, shape = leaving[current.source], current.name.replace(".", "_"), current.source.out
        # A sum of spikes stands for their mean, and neurons with r of 1 take a share, the gain, of their current.
        mean = 1 / current.source.divisor
        if current.spec is None:
            return source if mean == gain else add(name, _multiplied(nir, mean / gain, shape), source)
        if current.flattens:
            source = add(f"{name}_flatten", _flatten(nir, shape), source)
        return add(name, _weights(nir, network.weights[current.name], shape, mean=mean, gain=gain), source)

    for layer in steps.layers:
        # What leads into a node is added up: a shortcut is an edge more.
        _refuse(layer)
        currents = [add_current(current, _gain(layer.neuron.decay)) for current in layer.currents]
        neurons = _neurons(nir, layer.neurons, layer.neuron.decay, layer.neuron.threshold)
        last = add(f"{layer.name}_neurons", neurons, *currents)
        if layer.pool > 1:
            side = np.array([layer.pool] * 2)
            pool = nir.SumPool2d(kernel_size=side, stride=side, padding=np.array([0, 0]))
            last = add(f"{layer.name}_pool", pool, last)
        leaving[layer] = last
    before = steps.readout.source
    last = leaving[before]
    if len(before.out) == 3:
        last = add("readout_flatten", _flatten(nir, before.out), last)
    weight = _folded(network.readout_weight, 1 / before.divisor)
    last = add("readout", nir.Affine(weight=weight, bias=network.readout_bias), last)
    add("output", nir.Output(output_type=np.array([len(about.labels)])), last)
    graph = nir.NIRGraph(nodes=nodes, edges=edges)
    graph.metadata = {
        "tnacli_timesteps": about.timesteps,
        "tnacli_dt": DT,
        "tnacli_leak": about.readout.leak,
        "tnacli_readout": READOUT,
        "tnacli_labels": "\n".join(about.labels),
        "tnacli_input": about.input.model_dump_json(),
        "tnacli_origin": about.origin.model_dump_json(),
    }
    return graph


def nir_write(path: Path, graph: Any) -> None:
    """Write `graph` to `path` in NIR's HDF5 form."""
    _nir().write(path, graph)


def nir_read(path: Path) -> Any:
    """The graph in the file `path`; shapes that exporters leave open, or with axes of samples, are read as they are."""
    return _nir().read(path, type_check=False)


def _nir() -> Any:
    try:
        import nir
    except ImportError:
        raise UsageError("the NIR export needs the package nir; install it with `pip install 'tnacli[nir]'`") from None
    return nir


def _refuse(layer: LIFLayer) -> None:
    if layer.added is not None:
        raise UsageError(
            f"layer {layer.name} adds the spikes of {layer.added.name} to its own, for which the NIR export has no form; export "
            f"with --format packed, c or onnx"
        )
    if layer.max_pool is not None:
        raise UsageError(
            f"layer {layer.name} pools by maxima, and NIR has no node for that; export with --format packed, c or onnx"
        )
    if layer.neuron.subtract is not None or layer.neuron.lowest is not None:
        raise UsageError(
            f"layer {layer.name} has a soft reset or a lowest potential, and NIR's neurons are reset to one; export with "
            f"--format packed, c or onnx"
        )


def _flatten(nir: Any, shape: Sequence[int]) -> Any:
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)


def _weights(nir: Any, layer: PackedWeights, shape: Shape, *, mean: float, gain: float) -> Any:
    """The node of weights and biases divided by `gain`; the weights times `mean` besides, which makes means of sums."""
    scale, shift = _folded(layer.scale, mean / gain), _folded(layer.shift, 1 / gain)
    weight = layer.dense().astype(np.float32)  # nir 1.0 refuses the shapes of what goes into convolutions with groups
    scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    if weight.ndim == 2:
        node = nir.Affine(weight=scaled, bias=shift)
    else:
        node = _convolution(nir, scaled, shift, spec=layer.spec, shape=shape)
    node.metadata = {
        "tnacli_weights": "fp32" if layer.spec.encoding == "fp32" else "ternary",
        "tnacli_scale": scale,
    }
    return node


def _multiplied(nir: Any, factor: float, shape: Shape) -> Any:
    """Every map times `factor`, as a 1x1 convolution: NIR's own Scale has no module elsewhere."""
    channels = shape[0]
    weight = np.eye(channels, dtype=np.float32)[:, :, None, None] * np.float32(factor)
    node = _convolution(nir, weight, np.zeros(channels, np.float32), spec=None, shape=shape)
    node.metadata = {"tnacli_factor": factor}
    return node


def _convolution(
    nir: Any, weight: Floats, bias: Floats, *, spec: LayerSpec | ConvolutionSpec | None, shape: Shape
) -> Any:
    stride, around = (1, 0) if spec is None else (spec.stride, spec.around)
    return nir.Conv2d(
        input_shape=(shape[1], shape[2]), weight=weight, bias=bias, stride=(stride, stride), padding=(around, around),
        dilation=(1, 1), groups=1,
    )  # fmt: skip


def _folded(constants: Floats, factor: float) -> Floats:
    """`constants` times `factor`, rounded once."""
    return (constants.astype(np.float64) * factor).astype(np.float32)


def _neurons(nir: Any, shape: Sequence[int], decay: float, threshold: float) -> Any:
    zero, level = np.zeros(shape), np.full(shape, threshold)
    if decay == 1:
        return nir.IF(r=np.full(shape, 1 / DT), v_threshold=level, v_reset=zero)
    tau = np.full(shape, DT / (1 - decay))
    return nir.LIF(tau=tau, r=np.ones(shape), v_leak=zero, v_threshold=level, v_reset=zero.copy())


def _gain(decay: float) -> float:
    """The share of its current that a neuron with r of 1 adds to its potential in a step of DT; an IF takes it whole."""
    return 1.0 if decay == 1 else 1 - decay
