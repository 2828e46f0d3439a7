"""Memory for the largest tensors of a step, laid out without holes (Linux, while training).

Every step asks for the same tensors, and memory that it frees is kept for the next (`tnacli.training.device`). glibc's
allocator needs a third to a half more than the tensors that there are: until its version 2.38 an aligned tensor does not fit
where one of its size was freed, and whatever is left of a step parts what is free. So those tensors lie in a region of their
own, each in the lowest place that is large enough.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
import threading
import weakref
from bisect import insort
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

_LARGE = 1 << 20  # bytes; smaller ones are left to the allocator
_RESERVED = 1 << 38  # bytes of addresses, of which those are memory that were written to
_NO_RESERVE = 0x4000  # Linux: MAP_NORESERVE
_ALIGNED = 64


class Region:
    """Addresses that are given out, and come back once no tensor uses them."""

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        self._memory = memoryview(mmap.mmap(-1, _RESERVED, flags=flags))
        self._taken: list[tuple[int, int]] = []
        # A tensor may end at any time, within `take` as well.
        self._ended: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview | None:
        """So many bytes, taken until the view and all tensors of it are gone; None if there are not so many left."""
        with self._lock:
            while self._ended:
                self._taken.remove(self._ended.popleft())
            start = self._place(size)
            if start + size > _RESERVED:
                return None
            taken = start, -(-(start + size) // _ALIGNED) * _ALIGNED
            insort(self._taken, taken)
        view = self._memory[start : start + size]
        weakref.finalize(view, self._ended.append, taken).atexit = False
        return view

    def _place(self, size: int) -> int:
        """The lowest place with so many bytes."""
        reached = 0
        for start, end in self._taken:
            if start - reached >= size:
                break
            reached = end
        return reached

    @property
    def taken(self) -> list[tuple[int, int]]:
        """Where what is in use begins and ends."""
        with self._lock:
            return [each for each in self._taken if each not in self._ended]


@dataclass
class _Use:
    region: Region | None = None
    wanted: bool = False


_use = _Use()


def use_region(wanted: bool) -> None:
    """Have large tensors lie in a region from now on, if the system has one to give, or not."""
    _use.wanted = wanted
    if wanted and _use.region is None and sys.platform == "linux":
        with contextlib.suppress(OSError, OverflowError):
            _use.region = Region()


def room(count: int, dtype: torch.dtype) -> Tensor:
    """An empty tensor [count]."""
    size = count * dtype.itemsize
    view = _use.region.take(size) if _use.wanted and _use.region is not None and size >= _LARGE else None
    return torch.empty(count, dtype=dtype) if view is None else torch.frombuffer(view, dtype=dtype)


def empty_rows(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty tensor [rows, C, H, W], channels last, or [rows, C]."""
    count, channels, *sides = shape
    return room(math.prod(shape), dtype).view(count, *sides, channels).movedim(-1, 1)
