"""How a run is executed: its threads and its memory. Neither changes what is computed; each choice tells its reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from math import prod

import torch

from tnacli.objectives.objective import Objective
from tnacli.recipe.schema import Settings
from tnacli.snn.network import SpikingNetwork
from tnacli.training.device import keep_freed_memory, return_freed_memory

# Multiply-accumulates of a step's forward pass below which threads wait for each other longer than they work: a step of a
# few milliseconds. The quickstart has 22 million, CIFARNet at a quarter of its width and batch 64 has 25,000 million.
_ONE_THREAD_BELOW = 200e6


def prepare(objective: Objective, settings: Settings) -> None:
    """Set up memory as `runtime.memory` says: for the whole process, and for the networks that are trained."""
    if settings.runtime.memory == "normal":
        keep_freed_memory()
        return
    return_freed_memory()
    for network in objective.networks.values():
        if isinstance(network, SpikingNetwork):
            network.keep_small()


@contextlib.contextmanager
def threads(objective: Objective, settings: Settings, device: torch.device) -> Iterator[str | None]:
    """Compute with the threads that `runtime.threads` says; why there are as many, where that was chosen here."""
    count, reason = _threads(objective, settings, device)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield reason
    finally:
        torch.set_num_threads(before)


def _threads(objective: Objective, settings: Settings, device: torch.device) -> tuple[int, str | None]:
    # What PyTorch took at its start: from OMP_NUM_THREADS, else the number of cores.
    wanted, usual = settings.runtime.threads, torch.get_num_threads()
    if wanted != "auto":
        return wanted, None
    if (
        device.type != "cpu"
        or usual == 1
        or not all(isinstance(n, SpikingNetwork) for n in objective.networks.values())
    ):
        return usual, None
    work = sum(multiply_accumulates(n) for n in objective.networks.values() if isinstance(n, SpikingNetwork))
    if work * settings.train.batch_size < _ONE_THREAD_BELOW:
        return 1, f"one thread of {usual}: its steps are too small to share (runtime.threads)"
    return usual, None


def multiply_accumulates(network: SpikingNetwork) -> int:
    """Of the forward pass of one image over all timesteps; the first layer is computed once."""
    once, *hidden = [prod(shape.out) * prod(shape.weight[1:]) for shape in network.shapes]
    return once + network.timesteps * sum(hidden)
