"""Out of memory in a run is one error that says what a step needs, what the device has, and what would fit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import torch

from tnacli.errors import DeviceError, ran_out_of_memory
from tnacli.recipe.costs import Sample, costs
from tnacli.recipe.gpu_costs import gpu_step
from tnacli.recipe.gpus import remedies
from tnacli.recipe.schema.recipe import Settings
from tnacli.training.device import resolve_device
from tnacli.training.distributed import Ranks


@contextlib.contextmanager
def memory_explained(settings: Settings, ranks: Ranks, sample: Callable[[], Sample | None]) -> Iterator[None]:
    """Raises DeviceError in place of whatever PyTorch, CUDA or Python raises for want of memory within.

    `sample` says what one is of the data that the run learns from, None if that is not known yet.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        device = resolve_device(ranks.device(settings.runtime.device))
        explain = _on_cuda if device.type == "cuda" else _elsewhere
        raise DeviceError(
            f"{explain(settings, device, sample(), ranks.world)} What was saved of the run is whole."
        ) from None


def _on_cuda(settings: Settings, device: torch.device, sample: Sample | None, world: int) -> str:
    free, total = torch.cuda.mem_get_info(device)
    ours = torch.cuda.memory_reserved(device)
    name = f"{device} ({torch.cuda.get_device_name(device)})"
    others = total - free - ours
    has = f"the device has {total / 1e9:.1f} GB, of which {others / 1e9:.1f} GB are not this process's"
    step = gpu_step(settings, sample, processes=world)
    if step is None:
        return f"{name}: out of memory. What this run needs is not known beforehand; {has}. {_usual(settings)}"
    train = settings.train
    share = "" if world == 1 else f", {world} processes"
    needs = (
        f"a step (train.batch_size {train.batch_size}, {train.precision}{share}) needs about {step.step_bytes / 1e9:.1f} GB for "
        f"its tensors, an evaluation {step.evaluation_bytes / 1e9:.1f} GB"
    )
    fitting = list(remedies(settings, total - max(others, 0), sample, processes=world))
    fits = f"Would fit: {'; or '.join(fitting)}" if fitting else f"{_usual(settings)}"
    return f"{name}: out of memory: {needs}; {has}. These are estimates. {fits}."


def _elsewhere(settings: Settings, device: torch.device, sample: Sample | None, world: int) -> str:
    found, name = costs(settings, sample), "this machine" if device.type == "cpu" else str(device)
    needs = (
        "" if found is None or found.step_bytes is None else f", and a step needs about {found.step_bytes / 1e9:.1f} GB"
    )
    has = ""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        has = f": it has {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB{needs}"
    return f"{name} is out of memory{has}. {_usual(settings)}."


def _usual(settings: Settings) -> str:
    low = "" if settings.runtime.memory == "low" else "runtime.memory=low, "
    return f"What may help: {low}a smaller train.batch_size or model.width"
