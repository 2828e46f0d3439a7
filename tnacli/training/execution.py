"""How a run is executed: threads, memory, compiled regions. None changes what is computed; each choice tells its reason."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from tnacli.data.batches import Batches
from tnacli.errors import RecipeError
from tnacli.objectives.objective import Objective
from tnacli.recipe import costs
from tnacli.recipe.schema import Settings
from tnacli.runs.metadata import Kernels
from tnacli.snn.lif import LIF
from tnacli.snn.native import Native, native
from tnacli.snn.network import SpikingLayer, SpikingNetwork
from tnacli.snn.regions import Regions, why_not_here
from tnacli.training.device import keep_freed_memory, return_freed_memory

# Multiply-accumulates of a step's forward pass below which threads wait for each other longer than they work: a step of a
# few milliseconds. The quickstart has 22 million, CIFARNet at a quarter of its width and batch 64 has 25,000 million.
_ONE_THREAD_BELOW = 200e6

# Compiling takes a minute or two, once, of which a run has to get back some hundredths of a second a step.
_COMPILED_FROM_STEPS = 5000


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
    return sum(costs.multiply_accumulates(network.shapes, network.timesteps))


def kernels(objective: Objective, device: torch.device, before: Kernels | None = None) -> tuple[Kernels, str | None]:
    """What computes spiking layers but those in a compiled region: "compiled" kernels or "plain" PyTorch; and why not the first.

    There is no why where they do not apply. A run that began otherwise, as its checkpoint says in `before`, is "mixed".
    """
    apply = device.type == "cpu" and any(True for _ in _spiking_layers(objective))
    found = native() if apply else Native(None, "")
    now: Kernels = "plain" if found.library is None else "compiled"
    why_not = f"the slow path, without compiled kernels: {found.reason}" if apply and now == "plain" else None
    return (now if before in (None, now) else "mixed"), why_not


def _spiking_layers(objective: Objective) -> Iterator[SpikingLayer]:
    parts = objective.networks.modules()
    return (part for part in parts if isinstance(part, SpikingLayer) and isinstance(part.neurons, LIF))


def compile_regions(
    objective: Objective,
    settings: Settings,
    device: torch.device,
    batches: Batches,
    tell: Callable[[str], None] = lambda message: None,
) -> tuple[Regions | None, str]:
    """Have layers pass through compiled regions if `runtime.compile` says so: what they pass through, and the reason.

    `batches` are those to train on. `tell` hears of it if a region cannot be compiled later on. The choice depends on the
    whole run, not on what is left of it, so that a run that goes on makes it again. Raises RecipeError if it is on, and the
    networks have no spiking layers of ours.
    """
    wanted = settings.runtime.compile
    layers = list(_spiking_layers(objective))
    steps = settings.train.epochs * len(batches)
    why_not = None
    if wanted == "off":
        why_not = "runtime.compile is off"
    elif not layers:
        why_not = "no network has spiking layers made from a layout"
        if wanted == "on":
            raise RecipeError(f"runtime.compile: is on and has no effect, because {why_not}; leave it out")
    elif wanted == "auto" and device.type != "cuda":
        why_not = "runtime.compile is auto, which means on a GPU"
    elif wanted == "auto" and steps < _COMPILED_FROM_STEPS:
        why_not = f"{steps} steps are too few to pay for it (runtime.compile)"
    why_not = why_not or why_not_here(device)
    if why_not is not None:
        return None, f"layers are not compiled: {why_not}"
    share = len(range(batches.rank, batches.bounds[1], batches.world))
    regions = Regions(share, tell)
    for layer in layers:
        layer.regions = regions
    return regions, "layers are compiled from batch norm to pooling, which takes minutes at first (runtime.compile)"
