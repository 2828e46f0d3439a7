"""Spikes kept for the backward pass in one byte each instead of four.

A convolution or matrix product needs its input again for the gradient of its weights. Averaged spikes are multiples of
1/64 between 0 and 1, so a byte holds them exactly, and the gradient is the same, bit for bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

LARGEST_POOL = 8  # spikes are averaged over up to 8 x 8
_UNIT = LARGEST_POOL * LARGEST_POOL
# Worked through one after the other, so that no second copy of the spikes is made. Elsewhere than on a CPU each part is launched.
_PARTS_ON_CPU, _PARTS = 16, 4


@contextlib.contextmanager
def kept_small(spikes: Tensor) -> Iterator[None]:
    """Within, whatever autograd keeps of `spikes` (multiples of 1/64 from 0 to 1, any shape) takes a byte each."""
    place, shape = spikes.data_ptr(), spikes.shape  # the hooks outlive this call, and would keep the spikes alive

    def pack(kept: Tensor) -> Tensor | tuple[Tensor, torch.dtype]:
        if kept.data_ptr() != place or kept.shape != shape:
            return kept
        packed = torch.empty_like(kept, dtype=torch.uint8)
        parts = _PARTS_ON_CPU if kept.device.type == "cpu" else _PARTS
        for to, part in zip(packed.chunk(parts), kept.chunk(parts), strict=True):
            to.copy_(part * _UNIT)
        return packed, kept.dtype

    def unpack(packed: Tensor | tuple[Tensor, torch.dtype]) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        counts, dtype = packed
        return counts.to(dtype).mul_(1 / _UNIT)

    with saved_tensors_hooks(pack, unpack):
        yield
