"""What a node of a NIR graph computes, in the terms of a packed file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tnacli.deploy.nir_steps import Stepping, pair, step_constants
from tnacli.errors import NetworkError
from tnacli.importing.libraries import number
from tnacli.importing.metadata import numbers_said
from tnacli.importing.packing import are_signs
from tnacli.importing.parts import Affine, Leaky, Neurons, Part, Pool, Weighted, convolution, pool
from tnacli.importing.recording import Scaled


def parts_of(node: Any, shape: tuple[int, ...], stepping: Stepping) -> list[Part | Scaled]:
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
    if (factor := numbers_said(about, "tnacli_factor", 1)) is not None:
        return [Scaled(float(factor[0]))]
    if (scales := numbers_said(about, "tnacli_scale", len(weight))) is not None:
        scale = _tensor(scales)
        codes = weight / scale.view(-1, *[1] * (weight.dim() - 1))
        if are_signs(codes):
            # Signs as they were, where a row's scale is negative.
            return [replace(found, weight=codes, bias=torch.zeros_like(bias)), Affine(scale.double(), bias.double())]
    return [found]


def out_of(part: Part | Scaled, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(part, Weighted):
        out, within = len(part.weight), 2 * part.padding - part.weight.shape[-1]
        return (out, *((side + within) // part.stride + 1 for side in shape[1:])) if part.weight.dim() == 4 else (out,)
    if isinstance(part, Pool):
        return (shape[0], *(side // part.size for side in shape[1:]))
    return shape


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))
