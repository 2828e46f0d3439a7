"""The arithmetic of training, by name. Evaluation is fp32 as IEEE says, whatever training was (`tnacli.snn.arithmetic`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from tnacli.errors import DeviceError
from tnacli.machine import cpuinfo
from tnacli.runs.metadata import Precision
from tnacli.snn.arithmetic import fp32_as, repeatable

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(wanted: str, device: torch.device) -> tuple[Precision, str | None]:
    """The precision called `wanted` on `device`; of `auto`, bf16 or fp32, also why that was chosen.

    Raises DeviceError if the device does not have it. bf16 that a GPU only emulates is slower than fp32, and counts as none.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"device {device}"
    match wanted:
        case "auto":
            fast, why = fast_bf16(device)
            return ("bf16" if fast else "fp32"), why
        case "tf32":
            if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
                raise DeviceError(
                    f"{name} has no tf32, which CUDA GPUs of capability 8.0 have; use train.precision: fp32."
                )
            return "tf32", None
        case "bf16":
            if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
                raise DeviceError(f"{name} has no bf16 of its own; use train.precision: fp16, fp32 or auto.")
            return "bf16", None
        case "fp16":
            return "fp16", None
        case _:
            return "fp32", None


def fast_bf16(device: torch.device) -> tuple[bool, str]:
    """Whether `device` has bf16 arithmetic that is faster than fp32, CUDA from Ampere on, CPUs with AVX512-BF16 or AMX; and why.

    The environment's TNA_FAST_BF16=0 or 1 says so in its place.
    """
    if (said := os.environ.get("TNA_FAST_BF16")) in ("0", "1"):
        return said == "1", f"TNA_FAST_BF16={said}"
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
        name = torch.cuda.get_device_name(device)
        return has, f"{name} has bf16" if has else f"{name} has no bf16 of its own"
    if device.type == "cpu":
        has = _onednn_has_bf16() and _cpu_flag("avx512_bf16", "amx_bf16", "bf16")
        return has, "the processor has bf16" if has else "the processor has no bf16 of its own"
    return False, f"bf16 is not tried on {device.type}"


def _onednn_has_bf16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _cpu_flag(*names: str) -> bool:
    """Whether the processor lists one of these features; False where the system does not tell."""
    return not set(names).isdisjoint((cpuinfo("flags") or cpuinfo("Features")).split())


@contextlib.contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """The context in which steps of training run, backward passes included: IEEE but for TF32 by name, and repeatable."""
    with fp32_as("tf32" if precision == "tf32" else "ieee"), repeatable():
        yield


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which forward passes of training run."""
    half = _HALVES.get(precision)
    return torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None)


def loss_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """What keeps small gradients from vanishing in fp16; of no effect in any other precision."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
