"""How the kernels of `tnacli.snn.triton_kernels` are launched: counts, tiles, and the constants that are compiled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from tnacli.snn.dropout import limit


class Launch(NamedTuple):
    """What a launch is made from. Without pooling all places are samples of one pixel, which needs no divisions."""

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

    @property
    def tile(self) -> tuple[int, int, int]:
        """R, K and B of the kernels, some thousand neurons in all: fewer where each takes more registers."""
        most = (1024 if self.T <= 8 and not self.two else 512) if self.T <= 16 else 256
        pixels = triton.next_power_of_2(self.P * self.P)
        channels = min(64, triton.next_power_of_2(self.C), max(8, most // pixels))
        return max(1, most // (pixels * channels)), pixels, channels

    @property
    def unroll(self) -> int:
        return min(self.T, 4)

    @property
    def code(self) -> tl.dtype:
        return tl.int32 if self.T <= 16 else tl.int64

    def grid(self, *, whole: bool) -> tuple[int, int]:
        *_, rows, columns = self.windows(whole=whole)
        windows_each, _, channels = self.tile
        return max(1, triton.cdiv(self.N * rows * columns, windows_each)), triton.cdiv(self.C, channels)

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
