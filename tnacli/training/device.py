"""Which device computes, and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

import torch

from tnacli.errors import DeviceError
from tnacli.runs.metadata import Precision


def resolve_device(wanted: str) -> torch.device:
    """The device called `wanted`: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.

    Raises DeviceError if it is not there.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
            raise DeviceError(f"device {wanted} is not there; CUDA devices found: {there}. Use --device cpu or auto.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not there: it needs an Apple GPU. Use --device cpu or auto.")
    return device


def fast_bf16(device: torch.device) -> bool:
    """Whether `device` has bf16 arithmetic that is faster than fp32: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX.

    The environment's TNA_FAST_BF16=0 or 1 says so in its place.
    """
    if (said := os.environ.get("TNA_FAST_BF16")) in ("0", "1"):
        return said == "1"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        try:
            return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _cpu_flag("avx512_bf16", "amx_bf16", "bf16")
        except (AttributeError, RuntimeError):
            return False
    return False


def _cpu_flag(*names: str) -> bool:
    """Whether the processor lists one of these features; False where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        for line in info:
            if line.startswith(("flags", "Features")):
                return not set(names).isdisjoint(line.split())
    return False


def resolve_precision(wanted: str, device: torch.device) -> Precision:
    """ "fp32" or "bf16"; `auto` is bf16 where the hardware is good at it. Raises DeviceError if the device has none."""
    if wanted == "auto":
        return "bf16" if fast_bf16(device) else "fp32"
    if wanted == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"{torch.cuda.get_device_name(device)} has no bf16; use precision fp32 or auto.")
    return "bf16" if wanted == "bf16" else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which forward passes of training run."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def peak_memory_mb(device: torch.device) -> float:
    """The most memory held so far, in MB (1e6 bytes): of the CUDA device, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def settled_memory_mb(device: torch.device) -> float | None:
    """Memory held now, in MB, what is free returned to the system first: of the CUDA device, else of this process.

    From here on also the peak that `peak_beyond_mb` tells. None where the system cannot begin a peak anew: not Linux.
    """
    torch.optim.Adam([torch.zeros(1)])  # loads 150 MB of modules once, which are no run's
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e6
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc only
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)
        return status_mb("VmRSS")
    return None


def peak_beyond_mb(device: torch.device, held_mb: float | None) -> float | None:
    """How far memory rose above `held_mb` since `settled_memory_mb` was last called, in MB; None where that gave None."""
    if held_mb is None:
        return None
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6 - held_mb
    return max(0.0, status_mb("VmHWM") - held_mb)


def status_mb(key: str) -> float:
    """A size of this process, in MB (Linux). Raises OSError where the system does not tell."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"{key} is not in /proc/self/status")


def keep_freed_memory() -> None:
    """Have the allocator keep what a step frees for the next one, instead of returning it to the system (glibc only).

    Every step allocates the same activations. Mapping them anew each time costs a page fault per 4 KiB, on small networks
    a third of a step.
    """
    _tune_allocator(mappings=0, trim=2**31 - 1)


def return_freed_memory() -> None:
    """Have the allocator return what a step frees to the system at once (glibc only): slower, and no memory lies idle."""
    _tune_allocator(mappings=65536, trim=_MAPPED_FROM)


_MAPPED_FROM = 1 << 20  # bytes; smaller ones are no activations


def _tune_allocator(mappings: int, trim: int) -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_threshold, m_mmap_max = -1, -3, -4
        mallopt(m_mmap_max, mappings)
        mallopt(m_mmap_threshold, _MAPPED_FROM)
        mallopt(m_trim_threshold, trim)
