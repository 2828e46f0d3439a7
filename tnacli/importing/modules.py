"""What the modules of PyTorch and our own compute, and those of other libraries by the names of their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from tnacli.errors import NetworkError
from tnacli.importing.libraries import THEIRS
from tnacli.importing.parts import (
    Affine,
    LeakyReadout,
    MaxPool,
    Neurons,
    Part,
    Pool,
    Same,
    Weighted,
    adaptive,
    convolution,
    max_pool,
    pool,
    refused,
)
from tnacli.snn.lif import LIF
from tnacli.snn.readout import Readout


def part_of(module: nn.Module) -> Part | None:
    """What `module` computes while it evaluates; None if it is not known, so that its own forward pass has to be looked into.

    Raises NetworkError with the reason, without the module's name, where no packed file can say it.
    """
    kind = type(module).__mro__[1] if is_parametrized(module) else type(module)
    known = kind.__name__, kind.__module__.partition(".")[0]
    if known in THEIRS:
        return THEIRS[known](module)
    for ours, describe in _OURS.items():
        if isinstance(module, ours):
            return describe(module)
    return None


def _conv(conv: nn.Conv2d) -> Weighted:
    if conv.padding_mode != "zeros":
        raise NetworkError(f"padding_mode={conv.padding_mode!r}; convolutions are padded with zeros")
    return convolution(
        conv.weight.detach(), _bias(conv), stride=conv.stride, padding=conv.padding, dilation=conv.dilation,
        groups=conv.groups,
    )  # fmt: skip


def _linear(linear: nn.Linear) -> Weighted:
    return Weighted(linear.weight.detach(), _bias(linear))


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    weight = layer.weight.detach()
    return weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()


def _norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Affine:
    if norm.running_mean is None or norm.running_var is None:
        raise NetworkError("a batch norm without running statistics, which takes those of each batch")
    weight = torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight.detach()
    bias = torch.zeros_like(norm.running_mean) if norm.bias is None else norm.bias.detach()
    scale = weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return Affine(scale, bias.double() - norm.running_mean.double() * scale)


def _avg_pool(module: nn.AvgPool2d) -> Pool:
    if module.divisor_override is not None:
        raise NetworkError("average pooling with another divisor")
    return pool(module.kernel_size, stride=module.stride, padding=module.padding, ceil_mode=module.ceil_mode)


def _ours(module: LIF) -> Neurons:
    return Neurons(module.neuron.decay, module.neuron.threshold)


def _max_pool(module: nn.MaxPool2d) -> MaxPool:
    return max_pool(
        module.kernel_size, stride=module.stride, padding=module.padding, dilation=module.dilation,
        ceil_mode=module.ceil_mode,
    )  # fmt: skip


_MAX_POOL = "maximum pooling of that kind; packed files have that of squares of maps, as of MaxPool2d"
_OURS: dict[type[nn.Module], Callable[[Any], Part]] = {
    LIF: _ours,
    Readout: lambda module: LeakyReadout(_linear(module), module.leak),
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: lambda module: adaptive(module.output_size),
    nn.MaxPool1d: refused(_MAX_POOL),
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveMaxPool2d: refused(_MAX_POOL),
    nn.MultiheadAttention: refused("attention; a packed file multiplies spikes by weights alone"),
    nn.RNNBase: refused("recurrent weights"),
    nn.Dropout: lambda module: Same(),
    nn.Dropout2d: lambda module: Same(),
    nn.Identity: lambda module: Same(),
    nn.Flatten: lambda module: Same(),
}
