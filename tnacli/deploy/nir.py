"""A packed network in the Neuromorphic Intermediate Representation (NIR, Pedersen et al. 2024).

NIR's neurons are differential equations; a consumer turns them into steps of `DT` seconds by Euler's method. With
`tau = DT / (1 - decay)` and `r = tau / DT` that step is `v = decay * v + I`, our Eq. 1; `decay` 1 is NIR's IF with
`r = 1 / DT`. docs/deployment.md says what is mapped to what, and where consumers differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tnacli.errors import UsageError
from tnacli.packed.model import PackedLayer, PackedNetwork

DT = 1e-4
"""Seconds of a timestep: what NIR's consumers take where nothing else is said."""


def nir_graph(network: PackedNetwork) -> Any:
    """The `nir.NIRGraph` of `network`: one step's input (C, H, W) to the output neurons' potentials (classes,).

    Batch norm is folded into weights and biases: a ternary weight w becomes w * scale of its output channel, and the node's
    metadata holds that scale. The logits are the output's sum over all timesteps. Raises UsageError if the package nir is
    missing.
    """
    nir = _nir()
    about = network.about
    shape: tuple[int, ...] = (about.input.channels, *about.input.size)
    nodes: dict[str, Any] = {"input": nir.Input(input_type=np.array(shape))}
    for layer, behind in zip(network.layers, about.out_shapes(), strict=True):
        name = layer.facts.name
        if layer.facts.kind == "fc" and len(shape) == 3:
            nodes[f"{name}_flatten"] = _flatten(nir, shape)
            shape = (prod(shape),)
        nodes[name] = _weights(nir, layer, shape)
        shape = behind if layer.facts.kind == "fc" else (behind[0], *shape[1:])
        nodes[f"{name}_neurons"] = _neurons(nir, shape, about.neuron.decay, about.neuron.threshold)
        if layer.facts.pool > 1:
            side = np.array([layer.facts.pool] * 2)
            nodes[f"{name}_pool"] = nir.AvgPool2d(kernel_size=side, stride=side, padding=np.array([0, 0]))
        shape = behind
    if len(shape) == 3:
        nodes["readout_flatten"] = _flatten(nir, shape)
    nodes["readout"] = nir.Affine(weight=network.readout_weight, bias=network.readout_bias)
    nodes["readout_neurons"] = _integrators(nir, len(about.labels), about.readout.leak)
    nodes["output"] = nir.Output(output_type=np.array([len(about.labels)]))
    names = list(nodes)
    graph = nir.NIRGraph(nodes=nodes, edges=list(itertools.pairwise(names)))
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
def nir_logits(graph: Any, inputs: Tensor, timesteps: int, dt: float = DT) -> Tensor:
    """Logits [N, classes] of a chain of NIR nodes, stepped by Euler's method: what a consumer of the file computes.

    `inputs` are images [N, C, H, W], the same at every step, or frames [N, T, C, H, W]. Neurons fire at `v >= v_threshold`,
    as ours do. Raises ValueError for a graph that is no chain or has nodes that `nir_graph` does not make.
    """
    chain = list(_chain(graph))
    states: list[Tensor | float] = [0.0] * len(chain)
    logits = None
    for t in range(timesteps):
        x = inputs[:, t] if inputs.dim() == 5 else inputs
        for place, node in enumerate(chain):
            x, states[place] = _step(node, x, states[place], dt)
        logits = x if logits is None else logits + x
    if logits is None:
        raise ValueError("at least one timestep is needed")
    return logits


def _step(node: Any, x: Tensor, state: Tensor | float, dt: float) -> tuple[Tensor, Tensor | float]:
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x, state
    if kind == "Conv2d":
        return F.conv2d(x, _tensor(node.weight), _tensor(node.bias), padding=tuple(int(p) for p in node.padding)), state
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


def _chain(graph: Any) -> Iterator[Any]:
    following = dict(graph.edges)
    if len(following) != len(graph.edges):
        raise ValueError("the graph branches")
    name: str | None = "input"
    while name is not None:
        yield graph.nodes[name]
        name = following.get(name)


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


def _weights(nir: Any, layer: PackedLayer, shape: tuple[int, ...]) -> Any:
    weight = layer.stored if layer.facts.encoding == "fp32" else layer.ternary().astype(np.float32)
    scaled = weight * layer.scale.reshape(-1, *[1] * (weight.ndim - 1))
    if layer.facts.kind == "fc":
        node = nir.Affine(weight=scaled, bias=layer.shift)
    else:
        half = layer.facts.weight[-1] // 2
        node = nir.Conv2d(
            input_shape=(shape[1], shape[2]), weight=scaled, bias=layer.shift, stride=(1, 1), padding=(half, half),
            dilation=(1, 1), groups=1,
        )  # fmt: skip
    node.metadata = {
        "tnacli_weights": "fp32" if layer.facts.encoding == "fp32" else "ternary",
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
