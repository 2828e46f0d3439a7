"""What a process holds, and the most that it held since it was last asked."""

from __future__ import annotations

import contextlib
import gc
import resource
import sys
from pathlib import Path

import torch

from tnacli.training.device import status_mb


def held_mb(device: str) -> float:
    """Memory held now in MB (1e6 bytes), from here on also the peak: of the CUDA device, else of this process."""
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew (proc(5))
        return status_mb("VmRSS")
    return peak_mb(device)


def peak_mb(device: str) -> float:
    """The most held since `held_mb`; where the system cannot begin anew, since the process began."""
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 1e6
    with contextlib.suppress(OSError):
        return status_mb("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
