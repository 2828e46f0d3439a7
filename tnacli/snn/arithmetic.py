"""How fp32 is computed: as IEEE 754 says, or rounded to TF32 on its way into a GPU's matrix units.

PyTorch's own defaults are mixed: convolutions on CUDA in TF32, matrix products not, and a process may have asked for less
(`torch.set_float32_matmul_precision`), on CPUs too. Evaluation has to be exact, or spikes are not a packed file's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch


@contextlib.contextmanager
def fp32_as(how: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Within, products of fp32 numbers are computed so on CUDA, and as IEEE says on the CPU, whatever was set before."""
    backends = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = how if place in places[:2] else "ieee"
        yield
    finally:
        for place, setting in zip(places, before, strict=True):
            place.fp32_precision = setting


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Within, cuDNN takes algorithms that give the same bits every time, and times none to choose among them."""
    with _cudnn(deterministic=True, benchmark=False):
        yield


@contextlib.contextmanager
def fastest() -> Iterator[None]:
    """Within, cuDNN times its algorithms and takes the fastest, also those whose sums come in any order."""
    with _cudnn(deterministic=False, benchmark=True):
        yield


@contextlib.contextmanager
def _cudnn(*, deterministic: bool, benchmark: bool) -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    try:
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Within, fp32 is IEEE fp32 and repeatable: no TF32, no bf16 and no autocast, on any device."""
    with fp32_as("ieee"), repeatable(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
