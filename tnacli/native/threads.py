"""Work that releases Python's lock, as calls of compiled functions do, done in parts by several threads.

Python's own threads, so that compiled kernels need no OpenMP: a process has at most the one that PyTorch brings.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

_WORTH_A_THREAD = 500_000  # additions of bytes, which take longer than a thread takes to start


def thread_count() -> int:
    """How many threads compute: PyTorch's number where it is loaded, else $OMP_NUM_THREADS, else a thread a processor."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    with contextlib.suppress(KeyError, ValueError):
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_parts(part: Callable[[int, int], object], work: float) -> None:
    """Call `part(index, parts)` for each of the parts of `work`, about so many additions.

    A function of C that returns anything but None or 0 had no memory: raises MemoryError.
    """
    parts = max(1, min(thread_count(), int(work / _WORTH_A_THREAD)))
    returned: list[object] = [None] * parts

    def run(index: int) -> None:
        returned[index] = part(index, parts)

    others = [_pool(os.getpid()).submit(run, index) for index in range(1, parts)]
    run(0)
    for other in others:
        other.result()
    if any(returned):
        raise MemoryError("out of memory in a compiled kernel")


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that stay, so that the system finds each a processor; a process that was forked has its own."""
    return ThreadPoolExecutor(max_workers=64, thread_name_prefix=f"tnacli-{process}")
