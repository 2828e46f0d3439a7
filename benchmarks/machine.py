"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tnacli.machine import processor
from tnacli.snn.native import native
from tnacli.training.precision import fast_bf16
from tnacli.version import __version__

PACKAGES = ("torch", "numpy", "spikingjelly", "snntorch", "sinabs", "norse", "onnx", "onnxruntime")


def machine(device: str) -> dict[str, Any]:
    """Plain values: processor, cores, threads, what its arithmetic can, memory, GPU, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts: dict[str, Any] = {
        "processor": processor() or platform.machine(), "cores": cores, "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(), "memory_gb": _memory_gb(), "system": platform.system(),
        "fast_bf16": fast_bf16(torch.device(device))[0], "kernels": native().reason,
        "versions": {"python": platform.python_version(), "tnacli": __version__},
    }  # fmt: skip
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["versions"]["cuda"] = torch.version.cuda
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            facts["versions"][package] = version(package)
    return facts


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None
