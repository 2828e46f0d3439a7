"""Adam without PyTorch's compiler.

The methods of `torch.optim.Adam` load `torch._dynamo` for hints to it: 150 MB of modules, which take as long as PyTorch's own
import, and in every process that trains.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, step for step; its methods are called past what wraps them."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        inspect.unwrap(torch.optim.Adam.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        inspect.unwrap(torch.optim.Adam.zero_grad)(self, set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return inspect.unwrap(torch.optim.Adam.step)(self, closure)
