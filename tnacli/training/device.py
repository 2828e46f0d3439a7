"""Which device computes, and the memory of it and of this process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import resource
import sys
from pathlib import Path

import torch

from tnacli.errors import DeviceError
from tnacli.snn.memory import use_region


def resolve_device(wanted: str) -> torch.device:
    """The device called `wanted`: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.

    Raises DeviceError if it is not there, or is a GPU that the installed PyTorch has no code for.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
            raise DeviceError(f"device {wanted} is not there; CUDA devices found: {there}. Use --device cpu or auto.")
        if (why_not := why_not_built_for(device)) is not None:
            raise DeviceError(f"{why_not}. Install a PyTorch that is built for it, or use --device cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not there: it needs an Apple GPU. Use --device cpu or auto.")
    return device


def why_not_built_for(device: torch.device) -> str | None:
    """Why the installed PyTorch cannot compute on this CUDA device; None if it can, or does not say what it is built for.

    Machine code (sm_80) runs on its own generation from that capability on, PTX (compute_80) on every later one
    (CUDA C++ Programming Guide, binary and PTX compatibility); code for one capability alone (sm_90a) does not count.
    """
    built = [re.fullmatch(r"(sm|compute)_(\d+)(\d)", name) for name in torch.cuda.get_arch_list()]
    codes = [(code[1], (int(code[2]), int(code[3]))) for code in built if code]
    has = torch.cuda.get_device_capability(device)
    if not codes or any(of <= has and (kind == "compute" or of[0] == has[0]) for kind, of in codes):
        return None
    there = " ".join(torch.cuda.get_arch_list())
    name = torch.cuda.get_device_name(device)
    return (
        f"{name} has capability {has[0]}.{has[1]}, which PyTorch {torch.__version__} is not built for (it has {there})"
    )


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
    use_region(True)


def return_freed_memory() -> None:
    """Have the allocator return what a step frees to the system at once (glibc only): slower, and no memory lies idle."""
    _tune_allocator(mappings=65536, trim=_MAPPED_FROM)
    use_region(False)


_MAPPED_FROM = 1 << 20  # bytes; smaller ones are no activations


def _tune_allocator(mappings: int, trim: int) -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_threshold, m_mmap_max, m_arena_max = -1, -3, -4, -8
        mallopt(m_arena_max, 1)  # of all threads: what one frees is the next one's
        mallopt(m_mmap_max, mappings)
        mallopt(m_mmap_threshold, _MAPPED_FROM)
        mallopt(m_trim_threshold, trim)
