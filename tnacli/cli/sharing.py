"""How the GPUs or the cores of this machine are shared out among processes that train at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tnacli.cli.shards import pieces
from tnacli.recipe.costs import costs
from tnacli.recipe.identity import Run

_PROCESS_BYTES = 1_500_000_000
"""What a process holds besides its training step: Python, torch, a data set such as CIFAR-10."""


@dataclass(frozen=True)
class Sharing:
    """For each process the variables of its environment that give it its share; `text` says it to people."""

    environments: tuple[dict[str, str], ...]
    text: str


def share_out(jobs: str, runs: Sequence[Run]) -> Sharing:
    """The machine shared out among `jobs` processes, a number or "auto", but no more than there are pieces of work.

    What a process gets follows from the command and the machine alone, not from what is finished already: a run that goes on
    later computes with as many threads as before.
    """
    import torch

    work, cores = len(pieces(runs)), torch.get_num_threads()
    on_gpus = any(run.settings.runtime.device in ("auto", "cuda") for run in runs) and torch.cuda.is_available()
    gpus = torch.cuda.device_count() if on_gpus else 0
    wanted = int(jobs) if jobs != "auto" else gpus or min(cores, _fitting(runs))
    count = max(1, min(wanted, work))
    threads = max(1, cores // count)
    share = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))).split(",")
    environments = tuple(
        {**share, "CUDA_VISIBLE_DEVICES": visible[number % gpus]} if gpus else share for number in range(count)
    )
    each = f"a GPU of {gpus}" if gpus else f"{threads} of {cores} threads"
    text = f"--jobs {jobs}: {count} at once, each with {each}" if count > 1 else f"--jobs {jobs}: one at a time"
    if wanted > work:
        text += (
            f"; {work} {'pieces' if work > 1 else 'piece'} of work: runs that share a teacher or epochs stay together"
        )
    return Sharing(environments, text)


def _fitting(runs: Sequence[Run]) -> int:
    """How many processes fit into the memory of this machine at once, as far as it is known."""
    if not hasattr(os, "sysconf"):
        return 1
    found = [costs(run.settings) for run in runs]
    step = max((one.step_bytes or 0 for one in found if one is not None), default=0)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (_PROCESS_BYTES + step)
