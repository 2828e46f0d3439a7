"""How a run is executed: threads, memory, compiled regions. None changes what is computed; each choice tells its reason."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from tnacli.data.batches import Batches
from tnacli.errors import RecipeError
from tnacli.objectives.objective import Objective, TwinObjective
from tnacli.objectives.side_by_side import SideBySide, in_turn
from tnacli.recipe.costs import multiply_accumulates as of_layers
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.schema.recipe import Settings
from tnacli.runs.metadata import Kernels, Precision
from tnacli.snn.lif import LIF
from tnacli.snn.native import native
from tnacli.snn.network import SpikingLayer, SpikingNetwork
from tnacli.snn.regions import Regions, why_not_here
from tnacli.snn.triton_lif import why_not_here as why_no_operator
from tnacli.training.device import keep_freed_memory, return_freed_memory
from tnacli.training.distributed import Ranks

# Multiply-accumulates of a step's forward pass below which threads wait for each other longer than they work: a step of a
# few milliseconds. The quickstart has 22 million, CIFARNet at a quarter of its width and batch 64 has 25,000 million.
_ONE_THREAD_BELOW = 200e6


@dataclass(frozen=True)
class Execution:
    """What the steps of a run are carried out by: a device, its arithmetic, and the processes that share the work."""

    device: torch.device
    precision: Precision
    ranks: Ranks


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
def threads(objective: Objective, settings: Settings, execution: Execution) -> Iterator[str | None]:
    """Compute with the threads that `runtime.threads` says; why there are as many, where that was chosen here."""
    count, reason = _threads(objective, settings, execution.device)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with side_by_side(objective, settings, execution):
            yield reason
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def side_by_side(objective: Objective, settings: Settings, execution: Execution) -> Iterator[None]:
    """Compute twins that cost the same in a thread each, where they can share PyTorch's threads evenly."""
    networks = objective.networks.values()
    each, left = divmod(torch.get_num_threads(), len(networks))
    costs = {(n.shapes, n.timesteps) if isinstance(n, SpikingNetwork) else None for n in networks}
    alike = len(costs) == 1 and None not in costs
    alone = execution.device.type == "cpu" and execution.ranks.alone and settings.runtime.compile == "off"
    if left or not (alike and alone and isinstance(objective, TwinObjective) and objective.features is None):
        yield
        return
    objective.outputs_of = beside = SideBySide(len(networks), each)
    try:
        yield
    finally:
        objective.outputs_of = in_turn
        beside.close()


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
    frames = DATASETS[settings.data.name].is_events
    work = sum(
        multiply_accumulates(n, frames=frames) for n in objective.networks.values() if isinstance(n, SpikingNetwork)
    )
    if work * settings.train.batch_size < _ONE_THREAD_BELOW:
        return 1, f"one thread of {usual}: its steps are too small to share (runtime.threads)"
    return usual, None


def multiply_accumulates(network: SpikingNetwork, *, frames: bool) -> int:
    """Of the forward pass of one sample over all timesteps; the first layer is computed once for an image."""
    return sum(of_layers(network.shapes, network.timesteps, frames=frames))


def kernels(objective: Objective, device: torch.device, before: Kernels | None = None) -> tuple[Kernels, str | None]:
    """What computes spiking layers but those in a compiled region: "compiled" kernels or "plain" PyTorch; and why not the first.

    The kernels are C on the CPU, Triton on CUDA. There is no why where there are none to apply. A run that began otherwise, as
    its checkpoint says in `before`, is "mixed".
    """
    missing: str | None = ""
    if any(True for _ in _spiking_layers(objective)):
        if device.type == "cpu":
            missing = None if native().library is not None else native().reason
        elif device.type == "cuda":
            missing = why_no_operator(device)
    now: Kernels = "compiled" if missing is None else "plain"
    why_not = f"the slow path, without compiled kernels: {missing}" if missing else None
    return (now if before in (None, now) else "mixed"), why_not


def _spiking_layers(objective: Objective) -> Iterator[SpikingLayer]:
    parts = objective.networks.modules()
    return (part for part in parts if isinstance(part, SpikingLayer) and isinstance(part.neurons, LIF))


def compile_regions(
    objective: Objective,
    settings: Settings,
    device: torch.device,
    batches: Batches,
    *,
    tell: Callable[[str], None] = lambda message: None,
) -> tuple[Regions | None, str | None]:
    """Have layers pass through compiled regions if `runtime.compile` is on: what they pass through, and what is to be said.

    `batches` are those to train on. `tell` hears of it if a region cannot be compiled later on. Raises RecipeError if it is on,
    and the networks have no spiking layers of ours.
    """
    if settings.runtime.compile == "off":
        return None, None
    layers = list(_spiking_layers(objective))
    if not layers:
        why = "no network has spiking layers made from a layout"
        raise RecipeError(f"runtime.compile: is on and has no effect, because {why}; leave it out")
    if (why_not := why_not_here(device)) is not None:
        return None, f"layers are not compiled: {why_not}"
    share = len(range(batches.rank, batches.bounds[1], batches.world))
    regions = Regions(share, tell)
    for layer in layers:
        layer.regions = regions
    return regions, "layers are compiled from batch norm to pooling, which takes minutes at first (runtime.compile)"
