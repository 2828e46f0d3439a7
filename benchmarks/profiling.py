"""Where the time of a training step goes, by torch.profiler."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.training import tnacli
from benchmarks.work import Work

# The first part whose words are all in an operator's name (lower case) takes its own time, without that of what it calls.
_PARTS = (
    ("convolutions, backward", (("convolution_backward",), ("conv", "backward"), ("wgrad",), ("dgrad",))),
    ("convolutions, forward", (("convolution",), ("conv2d",), ("fprop",))),
    ("optimiser", (("adam",), ("optimizer",))),
    ("batch norm, neurons and pooling, backward",
     (("normlifpool", "backward"), ("lif", "backward"), ("gradient_kernel",), ("sums_kernel",))),
    ("batch norm, neurons and pooling, forward", (("normlifpool",), ("lif",), ("forward_kernel",), ("batch_norm",))),
    ("matrix products, both ways", (("addmm",), ("mm",), ("linear",), ("matmul",))),
    ("batch norm, neurons and pooling, forward", (("pool",),)),
    ("copies and changes of layout", (("copy",), ("clone",), ("contiguous",), ("to_dense",), ("::to",), ("empty",), ("zero",))),
)  # fmt: skip


def part_of(operator: str) -> str:
    """The part of a step that an operator belongs to."""
    name = operator.lower()
    for part, choices in _PARTS:
        if any(all(word in name for word in words) for words in choices):
            return part
    return "everything else"


def profile(work: Work, steps: int = 2) -> dict[str, Any]:
    """Shares of a step's time in % by part, largest first, and its largest operators.

    The operators' own time on the CPU, or the kernels' where the work is on a CUDA device.
    """
    step = tnacli(work)
    for _ in range(2):
        step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if work.device != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
    attribute = "self_cpu_time_total" if work.device == "cpu" else "self_device_time_total"
    operators = {
        event.key: float(getattr(event, attribute))
        for event in profiler.key_averages()
        if work.device == "cpu" or "CUDA" in str(event.device_type)  # an operator's kernels count once, as kernels
    }
    total = sum(operators.values()) or 1.0
    parts: dict[str, float] = {}
    for name, microseconds in operators.items():
        part = part_of(name)
        parts[part] = parts.get(part, 0.0) + 100 * microseconds / total
    largest = sorted(operators.items(), key=lambda item: -item[1])[:12]
    return {
        "ms": total / steps / 1000,
        "parts": dict(sorted(parts.items(), key=lambda item: -item[1])),
        "operators": {name: 100 * microseconds / total for name, microseconds in largest},
    }
