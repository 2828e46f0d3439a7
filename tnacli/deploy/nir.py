"""A packed network in the Neuromorphic Intermediate Representation (NIR, Pedersen et al. 2024).

NIR's neurons are differential equations; a consumer turns them into steps of `DT` seconds by Euler's method. With
`tau = DT / (1 - decay)` and `r = tau / DT` that step is `v = decay * v + I`, our Eq. 1; `decay` 1 is NIR's IF with
`r = 1 / DT`. docs/deployment.md says what is mapped to what, and where consumers differ.
"""

from __future__ import annotations

import functools
import graphlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tnacli.errors import UsageError
from tnacli.packed.network import PackedNetwork, PackedWeights
from tnacli.packed.steps import Current, Input, LIFLayer
from tnacli.snn.arithmetic import exact

DT = 1e-4
"""Seconds of a timestep: what NIR's consumers take where nothing else is said."""


def nir_graph(network: PackedNetwork) -> Any:
    """The `nir.NIRGraph` of `network`: one step's input (C, H, W) to the output neurons' potentials (classes,).

    Batch norm is folded into weights and biases: a ternary weight w becomes w * scale of its output channel, and the node's
    metadata holds that scale. The logits are the output's sum over all timesteps. Raises UsageError if the package nir is
    missing.
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

    def add_current(current: Current) -> str:
        source, name = leaving[current.source], current.name.replace(".", "_")
        if current.spec is None:
            return source
        if current.flattens:
            source = add(f"{name}_flatten", _flatten(nir, current.source.out), source)
        return add(name, _weights(nir, network.weights[current.name], current.source.out), source)

    for layer in steps.layers:
        # What leads into a node is added up: a shortcut is an edge more.
        currents = [add_current(current) for current in layer.currents]
        neurons = _neurons(nir, layer.neurons, about.neuron.decay, about.neuron.threshold)
        last = add(f"{layer.name}_neurons", neurons, *currents)
        if layer.pool > 1:
            side = np.array([layer.pool] * 2)
            pool = nir.AvgPool2d(kernel_size=side, stride=side, padding=np.array([0, 0]))
            last = add(f"{layer.name}_pool", pool, last)
        leaving[layer] = last
    last = leaving[steps.readout.source]
    if len(steps.readout.source.out) == 3:
        last = add("readout_flatten", _flatten(nir, steps.readout.source.out), last)
    last = add("readout", nir.Affine(weight=network.readout_weight, bias=network.readout_bias), last)
    last = add("readout_neurons", _integrators(nir, len(about.labels), about.readout.leak), last)
    add("output", nir.Output(output_type=np.array([len(about.labels)])), last)
    graph = nir.NIRGraph(nodes=nodes, edges=edges)
    graph.metadata = {
        "tnacli_timesteps": about.timesteps,
        "tnacli_dt": DT,
        "tnacli_labels": "\n".join(about.labels),
        "tnacli_input": about.input.model_dump_json(),
    }
    return graph


def nir_write(path: Path, graph: Any) -> None:
    """Write `graph` to `path` in NIR's HDF5 form."""
    _nir().write(path, graph)


def nir_read(path: Path) -> Any:
    """The graph in the file `path`."""
    return _nir().read(path)


@torch.inference_mode()
@exact()
def nir_logits(graph: Any, inputs: Tensor, timesteps: int, dt: float = DT) -> Tensor:
    """Logits [N, classes] of a graph of NIR nodes, stepped by Euler's method: what a consumer of the file computes.

    `inputs` are images [N, C, H, W], the same at every step, or frames [N, T, C, H, W]. Neurons fire at `v >= v_threshold`,
    as ours do; what leads into a node is added up. Raises ValueError for a graph with a cycle or with nodes that `nir_graph`
    does not make.
    """
    sources = _in_order(graph)
    states: dict[str, Tensor | float] = dict.fromkeys(sources, 0.0)
    logits = None
    for t in range(timesteps):
        given: dict[str, Tensor] = {}
        for name, leading in sources.items():
            frame = inputs[:, t] if inputs.dim() == 5 else inputs
            x = functools.reduce(torch.add, (given[source] for source in leading)) if leading else frame
            given[name], states[name] = _step(graph.nodes[name], x, states[name], dt)
        logits = given["output"] if logits is None else logits + given["output"]
    if logits is None:
        raise ValueError("at least one timestep is needed")
    return logits


def _step(node: Any, x: Tensor, state: Tensor | float, dt: float) -> tuple[Tensor, Tensor | float]:
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x, state
    if kind == "Conv2d":
        stride, padding = (tuple(int(side) for side in sides) for sides in (node.stride, node.padding))
        return F.conv2d(x, _tensor(node.weight), _tensor(node.bias), stride, padding), state
    if kind == "Affine":
        return F.linear(x, _tensor(node.weight), _tensor(node.bias)), state
    if kind == "AvgPool2d":
        return F.avg_pool2d(x, tuple(int(k) for k in node.kernel_size)), state
    if kind == "Flatten":
        return x.flatten(1), state
    if kind in ("I", "IF"):
        keep, gain, rest = 1.0, node.r * dt, 0.0
    elif kind in ("LI", "LIF"):
        # v + dt / tau * (v_leak - v + r * I), with v's two shares gathered
        keep, gain, rest = 1 - dt / node.tau, node.r * dt / node.tau, node.v_leak * dt / node.tau
    else:
        raise ValueError(f"the exported graph holds a node {kind}, which is not of our making")
    potential = state * _tensor(keep) + (x * _tensor(gain) + _tensor(rest))
    if kind in ("I", "LI"):
        return potential, potential
    spikes = potential >= _tensor(node.v_threshold)
    return spikes.float(), torch.where(spikes, _tensor(node.v_reset), potential)


def _in_order(graph: Any) -> dict[str, list[str]]:
    """The nodes from input to output, each after those that lead into it, which are listed."""
    leading: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        leading[target].append(source)
    try:
        return {name: leading[name] for name in graphlib.TopologicalSorter(leading).static_order()}
    except graphlib.CycleError:
        raise ValueError("the graph has a cycle") from None


def _tensor(value: NDArray[Any] | float) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32))


def _nir() -> Any:
    try:
        import nir
    except ImportError:
        raise UsageError("the NIR export needs the package nir; install it with `pip install 'tnacli[nir]'`") from None
    return nir


def _flatten(nir: Any, shape: Sequence[int]) -> Any:
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)


def _weights(nir: Any, layer: PackedWeights, shape: tuple[int, ...]) -> Any:
    weight = layer.values().astype(np.float32)
    scaled = weight * layer.scale.reshape(-1, *[1] * (weight.ndim - 1))
    if weight.ndim == 2:
        node = nir.Affine(weight=scaled, bias=layer.shift)
    else:
        half, stride = layer.spec.weight[-1] // 2, layer.spec.stride
        node = nir.Conv2d(
            input_shape=(shape[1], shape[2]), weight=scaled, bias=layer.shift, stride=(stride, stride),
            padding=(half, half),
            dilation=(1, 1), groups=1,
        )  # fmt: skip
    node.metadata = {
        "tnacli_weights": "fp32" if layer.spec.encoding == "fp32" else "ternary",
        "tnacli_scale": layer.scale,
    }
    return node


def _neurons(nir: Any, shape: Sequence[int], decay: float, threshold: float) -> Any:
    zero, level = np.zeros(shape), np.full(shape, threshold)
    if decay == 1:
        return nir.IF(r=np.full(shape, 1 / DT), v_threshold=level, v_reset=zero)
    tau = _tau(decay)
    return nir.LIF(
        tau=np.full(shape, tau), r=np.full(shape, tau / DT), v_leak=zero, v_threshold=level, v_reset=zero.copy()
    )


def _integrators(nir: Any, classes: int, leak: float) -> Any:
    if leak == 1:
        return nir.I(r=np.full(classes, 1 / DT))
    tau = _tau(leak)
    return nir.LI(tau=np.full(classes, tau), r=np.full(classes, tau / DT), v_leak=np.zeros(classes))


def _tau(decay: float) -> float:
    """Seconds after which an Euler step of DT keeps `decay`, below 1."""
    return DT / (1 - decay)
