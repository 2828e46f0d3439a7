"""Several processes that train one run together, as `torchrun` starts them.

Each takes its share of every batch (`tnacli.data.batches`), and PyTorch's DistributedDataParallel adds the gradients up. With
batch norm synchronised, which is the default, the run computes what one process would with the same recipe, but for the
order in which floats are added. The first process alone writes, shows and decides; what it decides, or why it failed, the
others are told.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tnacli.errors import Stopped, TnaError, UsageError
from tnacli.evaluation.scores import Evaluation
from tnacli.objectives.objective import Objective
from tnacli.snn.dropout import dropout_mask
from tnacli.snn.network import SpikingLayer

T = TypeVar("T")
_PATIENCE = datetime.timedelta(hours=2)  # of those that wait while the first decodes a data set or exports


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together: number `rank` of `world`, `local` on its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.world == 1

    def device(self, wanted: str) -> str:
        """`wanted`, or this process's own CUDA device where each takes one."""
        if self.alone or wanted not in ("auto", "cuda"):
            return wanted
        return f"cuda:{self.local}" if wanted == "cuda" or torch.cuda.is_available() else "cpu"

    def broadcast(self, decide: Callable[[], T]) -> T:
        """What `decide` returns in the first process, in every process. Raises its TnaError there, and ends the others."""
        if self.alone:
            return decide()
        outcome: list[object] = [None, None]
        if self.first:
            try:
                outcome[0] = decide()
            except TnaError as error:
                outcome[1] = error.exit_code
                self._share(outcome)
                raise
        self._share(outcome)
        if isinstance(outcome[1], int):
            raise SystemExit(outcome[1])  # the first process says why
        return outcome[0]  # type: ignore[return-value]

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do `work` in every process, one of each machine before the others: those find what it has prepared.

        Raises a TnaError where it happens, and ends the others.
        """
        if self.alone:
            return work()
        done: T | None = None
        for mine in (self.local == 0, self.local != 0):
            failed: TnaError | None = None
            try:
                if mine:
                    done = work()
            except TnaError as error:
                failed = error
            codes: list[int | None] = [None] * self.world
            with lost_processes_explained(self):
                dist.all_gather_object(codes, None if failed is None else failed.exit_code)
            if failed is not None:
                raise failed
            if code := next((code for code in codes if code is not None), None):
                raise SystemExit(code)
        assert done is not None
        return done

    def any(self, *asked: bool) -> tuple[bool, ...]:
        """Of each question, whether any process says yes."""
        if self.alone:
            return asked
        flags = torch.tensor([float(one) for one in asked])
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in flags)

    def sum(self, totals: dict[str, float]) -> dict[str, float]:
        """The totals of all processes, added by name but for `samples`, which each counts over all."""
        if self.alone:
            return totals
        names = [name for name in totals if name != "samples"]
        values = torch.tensor([totals[name] for name in names], dtype=torch.float64)
        dist.all_reduce(values)
        return {"samples": totals["samples"], **dict(zip(names, values.tolist(), strict=True))}

    def merged(self, share: Evaluation) -> Evaluation:
        """The evaluation of all samples, from each process's evaluation of its share."""
        if self.alone:
            return share
        names = list(share.firing_rate)
        mine = [share.accuracy, share.top5, share.loss, *share.firing_rate.values()]
        values = torch.tensor([1.0, *mine], dtype=torch.float64) * share.samples
        dist.all_reduce(values)
        samples, means = round(float(values[0])), values[1:] / values[0]
        # A percentage of hits: a whole number of them, whatever the division has left of it.
        hits, hits5 = (round(float(mean) / 100 * samples) for mean in means[:2])
        rates = dict(zip(names, means[3:].tolist(), strict=True))
        return Evaluation(100 * hits / samples, 100 * hits5 / samples, float(means[2]), samples, rates)

    def _share(self, outcome: list[object]) -> None:
        with lost_processes_explained(self):
            dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))


def ranks() -> Ranks:
    """This process's place among those that torchrun started; alone without it. Joins them on the first call.

    Raises UsageError where the environment says that there are several, and not which of them this is or where they meet.
    """
    if _given("WORLD_SIZE", 1) < 2:
        return Ranks()
    world = _given("WORLD_SIZE")
    found = Ranks(_given("RANK"), world, _given("LOCAL_RANK", 0))
    if found.rank >= world:
        raise _not_as_torchrun(f"RANK is {found.rank}, and there are only 0 to {world - 1}")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise _not_as_torchrun(f"{name} is not set")
    with lost_processes_explained(found):
        _join(own_gpu(found))
    return found


def _given(name: str, otherwise: int | None = None) -> int:
    text = os.environ.get(name, "")
    if not text and otherwise is not None:
        return otherwise
    if not text.isdecimal():
        raise _not_as_torchrun(f"{name} is {text!r}, not a whole number" if text else f"{name} is not set")
    return int(text)


def _not_as_torchrun(why: str) -> UsageError:
    return UsageError(
        f"the environment has WORLD_SIZE={os.environ['WORLD_SIZE']}, as torchrun sets it for several processes that train "
        f"together, but {why}. Start them with torchrun, or unset WORLD_SIZE to train in one."
    )


def own_gpu(found: Ranks) -> torch.device | None:
    """The CUDA device of this process, if each process of its machine can have one of its own."""
    if not torch.cuda.is_available() or torch.cuda.device_count() < max(found.local + 1, _given("LOCAL_WORLD_SIZE", 1)):
        return None
    return torch.device("cuda", found.local)


@cache
def _join(gpu: torch.device | None) -> None:
    # Loads modules of torch that keep the group for ever, as a default of their functions, where it is there before them.
    torch.optim.Adam([torch.zeros(1)])
    if gpu is None or not dist.is_nccl_available():
        dist.init_process_group("gloo", timeout=_PATIENCE)
    else:
        # Before NCCL is there, which else takes the first GPU for every process's.
        torch.cuda.set_device(gpu)
        dist.init_process_group("cpu:gloo,cuda:nccl", device_id=gpu, timeout=_PATIENCE)
    atexit.register(_leave)


_WRAPPED: weakref.WeakSet[nn.parallel.DistributedDataParallel] = weakref.WeakSet()


def _leave() -> None:
    """End the group of processes, and with it the threads that serve it, while there still is an interpreter.

    Such a thread lets go of a tensor some time after the operation that it was for has returned. One that does so while the
    interpreter is taken down aborts the process, whatever that has achieved. The threads end with the last that holds the
    group: what adds gradients up, often part of a cycle or of a kept traceback, would outlive this function.
    """
    for one in list(_WRAPPED):
        # Before the group itself: where that goes last, Python's lock is free for the threads that it waits for.
        del one.logger, one.reducer, one.process_group
    dist.destroy_process_group()


@contextlib.contextmanager
def lost_processes_explained(found: Ranks) -> Iterator[None]:
    """Turns the errors of a broken connection into one that says that another process has ended."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if found.alone or not _about_connections(error):
            raise
        raise Stopped(
            f"process {found.rank} of {found.world} lost the others: one has ended, or its machine cannot be reached; its "
            f"own message says why. The last checkpoint is whole. The same command goes on from there."
        ) from None


def _about_connections(error: Exception) -> bool:
    words = ("connection", "gloo", "nccl", "timed out", "timeout", "broken pipe", "socket", "peer")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def require_shares(found: Ranks, batch_size: int, **samples: int) -> None:
    """Raises UsageError unless every batch has two samples, and every split one, for each process."""
    if not found.alone and batch_size < 2 * found.world:
        raise UsageError(
            f"train.batch_size {batch_size} is too small for {found.world} processes: batch norm needs 2 samples in each. "
            f"Start fewer processes, or raise train.batch_size to {2 * found.world}."
        )
    for split, count in samples.items():
        if count < found.world:
            raise UsageError(f"{count} {split} samples are too few for {found.world} processes; start fewer")


def wrapped(objective: Objective, found: Ranks, device: torch.device) -> nn.Module:
    """`objective` as every process calls it: itself if alone, else within DistributedDataParallel.

    Statistics of batch norm are the first process's everywhere: all evaluate the same network, synchronised or not.
    """
    if found.alone:
        return objective
    ids = [device.index] if device.type == "cuda" else None
    # Gradients that lie in the buckets in which they are added up need no copies, and no room of their own.
    made = nn.parallel.DistributedDataParallel(objective, device_ids=ids, gradient_as_bucket_view=True)
    _WRAPPED.add(made)
    return made


def dropout_by_sample(objective: Objective, found: Ranks) -> Callable[[int], None]:
    """Have every process draw the dropout of the whole batch and keep its samples', as one process would.

    Returns a function that is to be told the size of each batch before it goes through.
    """
    batch = [0]

    def masked(probability: float) -> Callable[[nn.Module, object, Tensor], Tensor | None]:
        def hook(module: nn.Module, inputs: object, spikes: Tensor) -> Tensor | None:
            if not module.training:
                return None
            every = torch.ones((batch[0], *spikes.shape[2:]), dtype=spikes.dtype, device=spikes.device)
            assert isinstance(module, SpikingLayer)
            return spikes * dropout_mask(every, probability, module.dropout_key)[found.rank :: found.world]

        return hook

    for network in objective.networks.values():
        for layer in network.modules():
            if isinstance(layer, SpikingLayer) and layer.dropout:
                layer.register_forward_hook(masked(layer.dropout))
                layer.dropout = 0.0
    return lambda total: batch.__setitem__(0, total)
