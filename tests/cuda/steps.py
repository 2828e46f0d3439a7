"""Training steps of full-size networks on the CUDA device at hand, as test_steps.py starts it: `python -m tests.cuda.steps`.

The cases are those that tests/training/fake_cuda/step.py counts without a GPU. Prints a JSON object: of each case the time of
a step, the kernels it launched, the most bytes that the allocator had given out and reserved, and whether the loss is finite.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import time
import traceback
from itertools import cycle
from typing import Any

import torch

from tests.training.fake_cuda.step import STEPS, trainer
from tnacli.snn.network import SpikingNetwork
from tnacli.training.loop import Trainer
from tnacli.training.precision import arithmetic

_WARM, _TIMED = 3, 10


def facts(**settings: Any) -> dict[str, Any]:
    """Of one case: warm, then timed without a wait in between, then one step that is to wait for nothing."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.manual_seed(0)
    made = trainer(**settings)
    with arithmetic(made.precision):
        weigh(made)
        made._compress_what_is_due()
        made.objective.train()
        batches = list(made.splits.train.epoch(0))
        turn = cycle(batches)
        for _ in range(_WARM):
            losses = made._step(next(turn))
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(_TIMED):
            began = time.perf_counter()
            losses = made._step(next(turn))
            launched = time.perf_counter() - began
            torch.cuda.synchronize()
            times.append((time.perf_counter() - began, launched))
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        waited = wait_of(made, next(turn))
        kernels = launches(made, next(turn))
    whole, host = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    return {
        "ms": whole, "host_ms": host, "kernels": kernels, "peak_gb": peak / 1e9, "reserved_gb": reserved / 1e9,
        "waited": waited, "finite": math.isfinite(losses.total.item()),
    }  # fmt: skip


def weigh(made: Trainer) -> None:
    """Weights as large as after training, so that a quarter of the ternary ones is not zero."""
    for network in made.objective.networks.values():
        if isinstance(network, SpikingNetwork) and made.settings.compression is not None:
            with torch.no_grad():
                for layer in network.hidden.values():
                    layer.synapse.weight.normal_(0, 0.09)


def wait_of(made: Trainer, batch: Any) -> str:
    """Where a step waits for the device; empty if nowhere."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        made._step(batch)
    except RuntimeError:
        return traceback.format_exc()[-800:]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def launches(made: Trainer, batch: Any) -> int:
    """Kernels that a step launches; copies and fills within the device count too."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        made._step(batch)
        torch.cuda.synchronize()
    return sum(str(event.device_type).endswith("CUDA") for event in profiler.events() or ())


def main(wanted: list[str]) -> None:
    found = {}
    for case, settings in STEPS.items():
        if not wanted or case in wanted:
            try:
                found[case] = facts(**settings)
            except Exception:
                found[case] = {"failed": traceback.format_exc()[-1500:]}
            print(case, json.dumps(found[case]), file=sys.stderr, flush=True)
    name = torch.cuda.get_device_name()
    print(json.dumps({"gpu": name, "torch": torch.__version__, "cases": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
