"""Batch norm, neurons and pooling of a layer as regions that `torch.compile` makes a few kernels of.

They stand in for the plain path of `SpikingLayer` on the CPU, where the C kernels of `tnacli.snn.fused` do not apply: with
the reset attached. On CUDA `tnacli.snn.triton_lif` does what they would, in less memory. A region is the readable path itself
(PyTorch's batch norm, `lif_over_time`), and nothing is compiled beyond it: convolutions and matrix products are library calls
that gain nothing, and dropout outside draws the random numbers that it always draws. For the backward pass a region keeps its
summed input and computes potentials anew from it.

Within a region arithmetic is fp32 even where its input is bf16 (float64 stays). Only training uses regions: in evaluation
every rounding is that of a packed file, which a compiler is free to change.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.recipe.schema.model import Neuron
from tnacli.snn.lif import lif_over_time

Part = tuple[Tensor, nn.Module | None]
"""A part of the current [rows, C, ...] of a layer's neurons, and the batch norm that it is still to pass."""
_Tensors = tuple[Tensor, ...]  # a part's current and, after it, what its batch norm holds
_Region = Callable[[list[_Tensors]], Tensor]


@dataclass(frozen=True)
class _Shape:
    """All that a region is compiled for: samples, the neurons, their pooling; of each part its tensor, eps and momentum."""

    samples: int
    neuron: Neuron
    timesteps: int
    pool: int
    tensors: tuple[object, ...]
    norms: tuple[tuple[float, float] | None, ...]


_COMPILED: dict[_Shape, _Region] = {}
"""Of this process: layers, networks and runs of the same shape share a region."""


class Regions:
    """What has the layers of a run pass through compiled regions.

    Only batches of `samples` samples do. A batch of another size, such as the last of an epoch, takes the plain path, so
    that nothing is compiled for it. The first region that cannot be compiled switches all off: `failure` then says why,
    `tell` is called with it once, and training goes on without.
    """

    def __init__(self, samples: int, tell: Callable[[str], None] = lambda message: None) -> None:
        self.samples, self.failure = samples, ""
        self._tell = tell

    def take(self, samples: int) -> bool:
        """Whether a batch of `samples` is to pass through regions."""
        return samples == self.samples and not self.failure

    def spikes(self, parts: Sequence[Part], neuron: Neuron, timesteps: int, pool: int) -> Tensor:
        """Spikes [T, N, ...], pooled, of neurons whose current is the sum of `parts`, each after its batch norm if it has one.

        Parts are [T * N or N, C, ...]. Running statistics of the norms are updated as in training.
        """
        # A batch norm over several processes has to talk to the others first.
        given = [part if part[1] is None or _is_plain(part[1]) else (part[1](part[0]), None) for part in parts]
        tensors = [(current, *_held(norm)) for current, norm in given]
        shape = _Shape(
            self.samples, neuron, timesteps, pool,
            tuple((x.shape, x.stride(), x.dtype, x.device, x.requires_grad) for x, *_ in tensors),
            tuple(_rates(norm) for _, norm in given),
        )  # fmt: skip
        region = _COMPILED.get(shape) or self._compiled(shape, tensors)
        for _, norm in given:
            if norm is not None:
                cast("Tensor", norm.num_batches_tracked).add_(1)
        spikes: Tensor = region(tensors).unflatten(0, (timesteps, self.samples))
        return spikes

    def _compiled(self, shape: _Shape, tensors: list[_Tensors]) -> _Region:
        plain = _region(shape)
        if self.failure:
            return plain
        try:
            # dynamic: without it, the second shape would be compiled for any. deterministic: kernels are not chosen by their
            # time on this occasion, so that a run that goes on tomorrow adds in the same order.
            made = cast("_Region", torch.compile(plain, fullgraph=True, dynamic=False, options={"deterministic": True}))
            with _quiet():
                _try(made, tensors)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a compiler fails in any way it likes
            self.failure = f"torch.compile failed ({_first_line(error)}); layers run as they are, with the same result"
            self._tell(self.failure)
            return plain
        _COMPILED[shape] = made
        return made


def why_not_here(device: torch.device) -> str | None:
    """Why `torch.compile` cannot work on `device`, as far as one sees without trying; None if it may."""
    if device.type == "cpu":
        usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
        compiler = os.environ.get("CXX", usual)
        return None if shutil.which(compiler) else f"there is no C++ compiler {compiler} (Debian: apt install g++)"
    if device.type == "cuda":
        return "on CUDA the operator in Triton computes layers, which compiled ones only take more memory than"
    return f"it is not tried on {device.type}"


def _region(shape: _Shape) -> _Region:
    """What a layer computes from its parts to its pooled spikes [T * N, C, ...], in plain PyTorch."""
    samples, neuron, timesteps, pool = shape.samples, shape.neuron, shape.timesteps, shape.pool
    norms = shape.norms

    def region(parts: list[_Tensors]) -> Tensor:
        first, dtype = parts[0][0], parts[0][0].dtype
        currents = []
        for (current, *held), norm in zip(parts, norms, strict=True):
            precise = current if dtype == torch.float64 else current.float()
            if norm is not None:
                eps, momentum = norm
                weight, bias, mean, var = held
                precise = F.batch_norm(precise, mean, var, weight, bias, training=True, momentum=momentum, eps=eps)
            currents.append(precise)
        current = currents[0] if len(currents) == 1 else currents[0] + currents[1]
        spikes = lif_over_time(current.unflatten(0, (-1, samples)), timesteps, neuron)
        pooled = torch.cat([_averaged(now, pool) for now in spikes]).to(dtype)
        if first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last):
            return pooled.contiguous(memory_format=torch.channels_last)
        return pooled

    # PyTorch counts recompilations by code object, and gives up at the ninth: each region is to have one of its own.
    code = region.__code__.replace(co_name=f"region{len(_COMPILED)}")
    return types.FunctionType(code, globals(), code.co_name, None, region.__closure__)


def _is_plain(norm: nn.Module) -> bool:
    return type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d)


def _held(norm: nn.Module | None) -> _Tensors:
    """Weight, bias, running mean and running variance [C]."""
    if norm is None:
        return ()
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.weight, norm.bias, norm.running_mean, norm.running_var


def _rates(norm: nn.Module | None) -> tuple[float, float] | None:
    """Eps and momentum."""
    if norm is None:
        return None
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    return norm.eps, 0.1 if norm.momentum is None else norm.momentum


def _averaged(spikes: Tensor, pool: int) -> Tensor:
    """Average pooling [N, C, H, W]: `avg_pool2d`, whose backward pass compiles to slower code and keeps its input."""
    if pool == 1:
        return spikes
    height, width = (side // pool * pool for side in spikes.shape[2:])
    windows: Tensor = spikes[:, :, :height, :width].unflatten(3, (-1, pool)).unflatten(2, (-1, pool))
    return windows.mean((3, 5))


def _try(made: _Region, tensors: list[_Tensors]) -> None:
    """Have both passes of a region compiled now, where a failure can be answered, without a trace in the statistics."""
    with torch.enable_grad():
        trial = [
            (x.detach().requires_grad_(x.requires_grad), *held[:2], *(statistic.clone() for statistic in held[2:]))
            for x, *held in tensors
        ]
        spikes = made(trial)
        wanted = [x for part in trial for x in part[:3] if x.requires_grad]
        if wanted:
            torch.autograd.grad(spikes, wanted, torch.zeros_like(spikes))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what torch.compile says of things that do not matter here: TF32, and a CUDA that is not used."""
    loader = logging.getLogger("torch.utils.cpp_extension")
    level = loader.level
    loader.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
            yield
    finally:
        loader.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
