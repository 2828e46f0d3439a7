"""Operators that PyTorch's tracers see, and that take little Python where nobody traces.

An operator that is defined in Python takes PyTorch's dispatcher as long as the kernels of a small layer, and the host is what a
step of small layers waits for. So tensors that hold numbers are computed with at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


class Operator(Generic[P, R]):
    """`function`, whose first argument is a tensor or a list of them, and PyTorch's operator `traced` that does the same."""

    def __init__(self, function: Callable[P, R], traced: Any) -> None:
        self.function, self.traced = function, traced

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        if holds_numbers(first if isinstance(first, Tensor) else first[0]):
            return self.function(*args, **kwargs)
        found: R = self.traced(*args, **kwargs)
        return found

    def shapes(self, function: Callable[P, R]) -> Callable[P, R]:
        """A decorator: `function` makes what the operator makes, of tensors that have shapes alone."""
        self.traced.register_fake(function)
        return function


def operator(define: Callable[..., Any]) -> Callable[[Callable[P, R]], Operator[P, R]]:
    """A decorator: `define` makes PyTorch's operator of the function, as `torch.library.triton_op(name, ...)` does."""
    return lambda function: Operator(function, define(function))


def holds_numbers(x: Tensor) -> bool:
    """Whether `x` is no stand-in of a tracer, and no compiler is watching."""
    return type(x) is Tensor and not x.is_meta and not torch.compiler.is_compiling()
