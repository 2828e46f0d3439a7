"""A graph of NIR nodes, run: each node's differential equation turned into steps as a library turns it.

The same constants of a step serve to verify our own files and to read those of others (`tnacli.importing.nir`).
"""

from __future__ import annotations

import functools
import graphlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tnacli.errors import NetworkError
from tnacli.snn.arithmetic import exact

DT = 1e-4
"""Seconds of a timestep: what NIR's consumers take where nothing else is said."""


@dataclass(frozen=True)
class Stepping:
    """How equations become steps of `dt` seconds: by Euler's method, or `exactly`, the current constant within a step.

    Neurons spike where their potential passes the threshold (`strict`) or where it reaches it. `whole`: an IF adds its current
    as it is, whatever r and dt.
    """

    dt: float = DT
    exactly: bool = False
    strict: bool = True
    whole: bool = False


@dataclass(frozen=True)
class Reading:
    """How a graph is run: `timesteps` steps, whose outputs an output neuron with `leak` adds up to logits."""

    stepping: Stepping
    timesteps: int
    leak: float

    @classmethod
    def of_ours(cls, graph: Any) -> Reading:
        """What the metadata of an exported graph asks for."""
        about = graph.metadata
        stepping = Stepping(float(about["tnacli_dt"]), strict=False)
        return cls(stepping, int(about["tnacli_timesteps"]), float(about["tnacli_leak"]))


def step_constants(node: Any, stepping: Stepping) -> tuple[Any, Any, Any]:
    """`keep`, `gain` and `rest` of a node IF, LIF, I or LI, whose step is `v = keep * v + gain * current + rest`."""
    if type(node).__name__ in ("IF", "I"):
        return 1.0, (1.0 if stepping.whole else node.r * stepping.dt), 0.0
    share = -np.expm1(-stepping.dt / node.tau) if stepping.exactly else stepping.dt / node.tau
    return 1 - share, node.r * share, node.v_leak * share


def in_order(graph: Any) -> dict[str, list[str]]:
    """The nodes from input to output, each after those that lead into it, which are listed. Raises NetworkError on a cycle."""
    leading: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in dict.fromkeys(map(tuple, graph.edges)):
        leading[target].append(source)
    try:
        return {name: leading[name] for name in graphlib.TopologicalSorter(leading).static_order()}
    except graphlib.CycleError as error:
        around = " -> ".join(map(str, error.args[1]))
        raise NetworkError(f"the graph has a cycle, {around}; a packed network has no recurrent weights") from None


@torch.inference_mode()
@exact()
def nir_logits(graph: Any, inputs: Tensor, reading: Reading | None = None) -> Tensor:
    """Logits [N, classes] of a graph of NIR nodes, stepped as `reading` says; without it, as our own files ask for.

    `inputs` are images [N, C, H, W], or rows [N, features], the same at every step, or frames [N, T, ...] of them.
    What leads into a node is added up. Raises NetworkError for a graph with a cycle or with a node that is not known here.
    """
    reading = reading or Reading.of_ours(graph)
    sources = in_order(graph)
    states: dict[str, Tensor | float] = dict.fromkeys(sources, 0.0)
    potential = logits = torch.zeros(())
    for t in range(reading.timesteps):
        given: dict[str, Tensor] = {}
        for name, leading in sources.items():
            frame = inputs[:, t] if inputs.dim() in (3, 5) else inputs
            x = functools.reduce(torch.add, (given[source] for source in leading)) if leading else frame
            given[name], states[name] = _step(graph.nodes[name], x, states[name], reading.stepping)
            if type(graph.nodes[name]).__name__ == "Output":
                potential = potential * reading.leak + x
        logits = logits + potential
    return logits


def _step(node: Any, x: Tensor, state: Tensor | float, stepping: Stepping) -> tuple[Tensor, Tensor | float]:
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x, state
    if kind == "Conv2d":
        stride, padding = pair(node.stride), node.padding if isinstance(node.padding, str) else pair(node.padding)
        return F.conv2d(x, _tensor(node.weight), _tensor(node.bias), stride, padding, 1, int(node.groups)), state
    if kind in ("Affine", "Linear"):
        return F.linear(x.flatten(1), _tensor(node.weight), _tensor(getattr(node, "bias", 0.0))), state
    if kind == "Scale":
        return x * _tensor(node.scale), state
    if kind in ("SumPool2d", "AvgPool2d"):
        size = pair(node.kernel_size)
        return F.avg_pool2d(x, size, divisor_override=1 if kind == "SumPool2d" else math.prod(size)), state
    if kind == "Flatten":
        return x.flatten(1), state
    if kind not in ("IF", "LIF", "I", "LI"):
        raise NetworkError(f"a node {kind}, which is not known here")
    keep, gain, rest = (_tensor(constant) for constant in step_constants(node, stepping))
    potential = state * keep + (x * gain + rest)
    if kind in ("I", "LI"):
        return potential, potential
    threshold = _tensor(node.v_threshold)
    spikes = potential > threshold if stepping.strict else potential >= threshold
    return spikes.float(), torch.where(spikes, _tensor(node.v_reset), potential)


def pair(value: Any) -> tuple[int, int]:
    """A number, or two, as two."""
    height, width = np.broadcast_to(np.asarray(value, int), 2).tolist()
    return height, width


def _tensor(value: NDArray[Any] | float) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32))
