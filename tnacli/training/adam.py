"""Adam without PyTorch's compiler.

The methods of `torch.optim.Adam` load `torch._dynamo` for hints to it: 150 MB of modules, which take as long as PyTorch's own
import, and in every process that trains.
"""

from __future__ import annotations

import inspect
import mmap
from collections.abc import Callable
from typing import Any

import torch

_MOMENTS = ("exp_avg", "exp_avg_sq")
_ALIGNED = 16  # numbers: a row of a cache


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, step for step; its methods are called past what wraps them."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        inspect.unwrap(torch.optim.Adam.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        inspect.unwrap(torch.optim.Adam.zero_grad)(self, set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._make_moments()
        return inspect.unwrap(torch.optim.Adam.step)(self, closure)

    def _make_moments(self) -> None:
        """What the first step makes on a CPU, but in memory of its own, not among a step's activations.

        There it would lie where they leave holes that larger ones do not fit in: a tenth of a step's peak, in bf16 a fifth.
        """
        groups = (group["params"] for group in self.param_groups if not group["amsgrad"])
        new = [p for params in groups for p in params if p.grad is not None and not self.state[p]]
        new = [p for p in new if p.device.type == "cpu" and p.dtype == torch.float32]
        if not new:
            return
        room = [-(-p.numel() // _ALIGNED) * _ALIGNED for p in new for _ in _MOMENTS]
        memory = torch.frombuffer(mmap.mmap(-1, 4 * sum(room)), dtype=torch.float32)  # zeros
        parts = iter(memory.split(room))
        for p in new:
            moments = {name: next(parts).as_strided(p.shape, p.stride()) for name in _MOMENTS}
            self.state[p] = {"step": torch.zeros(()), **moments}
