"""A training step of every contender on the fake device "cuda", as test_cuda.py starts it.

Prints a JSON object: of each contender by precision the operators that are no part of PyTorch, the copies between host and
device and the waits for it, or why it failed.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import Pair
from benchmarks.suites import plan
from benchmarks.training import CONTENDERS
from benchmarks.work import Work
from tests.training.fake_cuda.step import Numbers, Watch, applied


class Operators(TorchDispatchMode):
    """The namespaces of all operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.spaces.add(str(func).split(".")[0])
        return func(*args, **(kwargs or {}))


def step(name: str, precision: str) -> dict[str, Any]:
    """The second one, of the smallest network."""
    with FakeTensorMode(allow_non_fake_inputs=True), Numbers():
        turn = CONTENDERS[name](Work(1 / 32, 4, precision, "cuda"))
        turn()
        with Watch() as seen, Operators() as operators:
            turn()
    return {
        "copies": seen.copies,
        "waits": seen.waits,
        "spaces": sorted(operators.spaces - {"aten", "prim", "profiler"}),
    }


def main() -> None:
    found: dict[str, dict[str, Any]] = {}
    for what in plan("full", "cuda", ["bf16", "fp32"], Path()):
        if not isinstance(what, Pair) or "compile" in what.theirs:  # whose tracing takes no made-up device
            continue
        for name in (what.ours, what.theirs):
            case = f"{name}, {what.work.precision}"
            try:
                found[case] = found.get(case) or step(name, what.work.precision)
            except Exception:
                found[case] = {"failed": traceback.format_exc()[-1500:]}
    print(json.dumps(found))
    sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    nn.Module._apply = applied  # type: ignore[method-assign]
    torch.cuda.mem_get_info = lambda device=None: (78 * 2**30, 80 * 2**30)
    FakeTensorMode.avoid_device_init = True  # type: ignore[method-assign, assignment]
    main()
    os._exit(0)  # before CUDA's own clean-up, which there is no driver for
