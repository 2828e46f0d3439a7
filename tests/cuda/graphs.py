"""Whether a training step can be captured as a CUDA graph, and what a replay takes: `python -m tests.cuda.graphs`.

An attempt, not a part of training: the learning rate and dropout's keys of the captured step are those of every replay. Prints
a JSON object: of each network the time of a step as it is and as a graph, or why there is none.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from tests.training.fake_cuda.step import trainer
from tnacli.training.precision import arithmetic

CASES: dict[str, dict[str, Any]] = {
    "baseline, width 1/8": {"width": 0.125},
    "twin, width 1/8": {"objective": "twin", "width": 0.125},
    "twin": {"objective": "twin"},
}
_TIMED = 20


def milliseconds(run: Callable[[], object]) -> float:
    """Of one `run` among many that nothing waits for in between."""
    run()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(_TIMED):
        run()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began) / _TIMED


def facts(**settings: Any) -> dict[str, Any]:
    """Warm on a stream of its own, as capturing wants it, then as it is, then captured and replayed."""
    made = trainer(precision="bf16", **settings)
    made.objective.train()
    batch = next(made.splits.train.epoch(0))
    for group in made._adam.param_groups:
        group["capturable"] = True

    def step() -> object:
        return made._step(batch)

    # Seeding the generator of a CUDA device is not allowed while capturing; the networks do not draw from it.
    with arithmetic("bf16"), mock.patch("torch.manual_seed"):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        as_it_is, graph = milliseconds(step), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return {"ms": as_it_is, "ms as a graph": milliseconds(graph.replay)}


def main() -> None:
    found: dict[str, Any] = {}
    for case, settings in CASES.items():
        try:
            found[case] = facts(**settings)
        except Exception:
            found[case] = {"failed": traceback.format_exc()[-1500:]}
        print(case, json.dumps(found[case]), file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
