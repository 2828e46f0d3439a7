"""How the kernels of `tnacli.snn.triton_kernels` are launched: counts, tiles, and the constants that are compiled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import triton.language as tl
from torch import Tensor

from tnacli.snn.dropout import limit


@dataclass(frozen=True)
class Launch:
    """What a launch is made from. Without pooling all places are samples of one pixel, which needs no divisions.

    In plain Python: Triton's own `cdiv` and `next_power_of_2` take the host several microseconds.
    """

    N: int
    H: int
    W: int
    C: int
    T: int
    P: int
    repeated: bool
    two: bool
    samples: int
    dropout: tuple[int, int, int, float]

    @classmethod
    def of(cls, branches: Sequence[Tensor], counts: Sequence[int], factors: Sequence[float]) -> Launch:
        x, (samples, timesteps, pool, *key), dropout = branches[0], counts, factors[4]
        height, width = x.shape[2:] if x.dim() == 4 else (1, 1)
        repeated = x.shape[0] == samples and timesteps > 1
        places = (samples, height, width) if pool > 1 else (samples * height * width, 1, 1)
        drops = (key[0], key[1], limit(dropout), 1 / (1 - dropout))
        return cls(*places, x.shape[1], timesteps, pool, repeated, len(branches) > 2, samples, drops)

    def windows(self, *, whole: bool) -> tuple[int, int, int, int, int]:
        """Samples, height and width, and the windows of P x P in either direction: only whole ones, or all."""
        rest = 0 if whole else self.P - 1
        return self.N, self.H, self.W, (self.H + rest) // self.P, (self.W + rest) // self.P

    @cached_property
    def tile(self) -> tuple[int, int]:
        """R and B of the kernels, a thousand neurons at a time: fewer where each takes more registers."""
        most = (1024 if self.T <= 8 and not self.two else 512) if self.T <= 16 else 256
        channels = min(64, 1 << (self.C - 1).bit_length())
        return most // channels, channels

    @property
    def backward_warps(self) -> int:
        """Warps of 32 threads that share a tile in the backward pass, which keeps more than the forward pass."""
        rows, channels = self.tile
        return 8 if rows * channels >= 1024 else 4

    @property
    def counting(self) -> tuple[tl.dtype, int, int]:
        """What spikes of a window are counted in, the bits that a timestep takes of it, and how many timesteps it holds."""
        bits = (self.P * self.P).bit_length()
        if self.P == 1 or self.T * bits <= 30:
            return tl.int32, bits, self.T
        return tl.int64, bits, min(self.T, 62 // bits)

    @property
    def unroll(self) -> int:
        return min(self.T, 4)

    @property
    def code(self) -> tl.dtype:
        return tl.int32 if self.T <= 16 else tl.int64

    def tiles(self, *, whole: bool) -> int:
        """How many tiles there are for each block of channels."""
        *_, rows, columns = self.windows(whole=whole)
        return max(1, -(-self.N * rows * columns // self.tile[0]))

    @property
    def blocks(self) -> int:
        """Blocks of channels."""
        return -(-self.C // self.tile[1])

    @staticmethod
    def branches(branches: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, table, *other = branches
        return (x, table, *(other or (x, table)))

    @staticmethod
    def normed(branches: Sequence[Tensor]) -> tuple[bool, bool]:
        first, *second = (len(table) == 4 for table in branches[1::2])
        return first, bool(second) and second[0]

    def empty_spikes(self, x: Tensor) -> Tensor:
        if x.dim() == 2:
            return x.new_empty((self.T * self.samples, self.C))
        shape = (self.T * self.samples, self.C, x.shape[2] // self.P, x.shape[3] // self.P)
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
