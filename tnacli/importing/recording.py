"""What a network does with a sample, recorded while it runs: which modules take what, whoever wrote the loop around them.

Each tensor is known by what made it, whatever its timestep: a module that is called once for each timestep gives one value.
Between modules only what rearranges tensors, sums over time, adds currents, scales and pools is let through. So a record is
a guess at what the network computes that its logits on the sample have to confirm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from tnacli.errors import NetworkError
from tnacli.importing.modules import part_of
from tnacli.importing.parts import (
    Adaptive,
    Leaky,
    LeakyReadout,
    MaxPool,
    Part,
    Pool,
    Same,
    Vote,
    Weighted,
    adaptive,
    max_pool,
    pool,
)

_REARRANGES = {
    "unsqueeze", "unsqueeze_", "squeeze", "squeeze_", "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten",
    "repeat", "expand", "expand_as", "__get__", "broadcast_to", "tile", "repeat_interleave", "contiguous", "clone", "detach",
    "detach_", "transpose", "permute", "movedim", "swapaxes", "stack", "cat", "concat", "concatenate", "__getitem__", "select",
    "narrow", "index_select", "split", "chunk", "unbind", "tensor_split", "to", "float", "cpu", "type_as", "requires_grad_",
    "dropout",
}  # fmt: skip
_ADDS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
_SCALES = {"mul": 1, "mul_": 1, "__mul__": 1, "__imul__": 1, "__rmul__": 1, "multiply": 1}
_DIVIDES = {"div": -1, "div_": -1, "__truediv__": -1, "__itruediv__": -1, "true_divide": -1, "divide": -1}
_ASKS = {
    "dim", "size", "numel", "nelement", "stride", "is_floating_point", "is_contiguous", "get_device", "element_size", "__len__",
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_empty", "new_full", "argmax",
}  # fmt: skip


@dataclass(frozen=True)
class Summed:
    """Over time; divided by the number of timesteps if a `mean`."""

    mean: bool


@dataclass(frozen=True)
class Scaled:
    """Times `factor`."""

    factor: float


@dataclass(frozen=True)
class Added:
    """The sum of all sources."""


@dataclass(frozen=True)
class Given:
    """The sample itself."""


@dataclass(eq=False)
class Value:
    """A value of the network: what `part` makes of `sources`. `shape` is of one sample at one timestep, `where` its module.

    `numel` counts what was seen of it in all timesteps and samples.
    """

    part: Part | Summed | Scaled | Added | Given
    sources: tuple[Value, ...]
    shape: tuple[int, ...]
    where: str
    number: int
    numel: int = 0


class Recorder(TorchFunctionMode):
    """Records what `module` and the code around it do with tensors that come from `sample` [N, ...]."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        self._values: dict[int, tuple[Tensor, Value]] = {}
        self._made: dict[tuple[Any, ...], Value] = {}
        self._path: list[str] = []
        self._within: str | None = None
        self._parts: dict[str, Part | None] = {}
        shape = tuple(sample.shape[-3:]) if sample.dim() > 3 else tuple(sample.shape[1:])
        self._keep(sample, self._value(Given(), (), shape, "the sample"))

    def of(self, tensor: Tensor) -> Value | None:
        """What `tensor` was made by; None if not from the sample."""
        found = self._values.get(id(tensor))
        return None if found is None else found[1]

    def _keep(self, tensor: Tensor, value: Value) -> None:
        self._values[id(tensor)] = (tensor, value)

    def _value(self, part: Any, sources: tuple[Value, ...], shape: tuple[int, ...], where: str) -> Value:
        key = (where if not isinstance(part, Summed | Scaled | Added | Pool | MaxPool) else part, *map(id, sources))
        if key not in self._made:
            self._made[key] = Value(part, sources, shape, where, len(self._made))
        return self._made[key]

    # Modules

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """While inside, calls of the parts of `module` are recorded."""
        hooks = []
        inner = {id(part) for name, part in module.named_modules() if ".parametrizations" in f".{name}"}
        for name, part in module.named_modules():
            if id(part) not in inner:
                hooks.append(part.register_forward_pre_hook(self._before(name)))
                hooks.append(part.register_forward_hook(self._after(name)))
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, given: Any) -> None:
            where = f"{name or 'the module'} ({_kind(module)})"
            if self._within is None:
                if name not in self._parts:
                    try:
                        self._parts[name] = part_of(module)
                    except NetworkError as error:
                        raise NetworkError(f"{where} has {error}") from None
                if self._parts[name] is not None:
                    self._within = name
            self._path.append(where)

        return hook

    def _after(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, out: Any) -> None:
            where = self._path.pop()
            if self._within == name:
                self._within = None
                part = self._parts[name]
                assert part is not None
                self._record(part, where, given[0], out)

        return hook

    def _record(self, part: Part, where: str, given: Any, out: Any) -> None:
        source = self.of(given) if isinstance(given, Tensor) else None
        if source is None:
            raise NetworkError(f"{where} takes something that does not come from the sample, or is a state of neurons")
        results = [out] if isinstance(out, Tensor) else list(out)
        if isinstance(out, list) and isinstance(part, Leaky):
            kept = results
        else:
            kept = [results[part.output if isinstance(part, Leaky) and len(results) > 1 else 0]]
        for tensor in kept:
            self._keep(tensor, self._counted(part, source, where, given=given, out=tensor))

    def _counted(self, part: Part, source: Value, where: str, *, given: Tensor, out: Tensor) -> Value:
        if isinstance(part, Same):
            return source
        if isinstance(part, Adaptive):
            return self._pooled(part, source, where)
        if isinstance(part, LeakyReadout):
            driven = self._value(part.weights, (source,), (len(part.weights.weight),), where)
            driven.numel += given.numel() // part.weights.weight.shape[1] * len(part.weights.weight)
            leaky = self._value(Leaky(part.leak), (driven,), driven.shape, f"{where} over time")
            return self._value(Summed(False), (leaky,), driven.shape, where)
        if isinstance(part, Weighted):
            shape = tuple(out.shape[-(part.weight.dim() - 1) :])
        elif isinstance(part, Pool | MaxPool):
            shape = tuple(out.shape[-3:])
        elif isinstance(part, Vote):
            shape = (out.shape[-1],)
        else:
            shape = source.shape
        value = self._value(part, (source,), shape, where)
        value.numel += out.numel()
        return value

    def _pooled(self, part: Adaptive, source: Value, where: str, *, summed: bool = False) -> Value:
        try:
            made = replace(part.of(source.shape), summed=summed)
        except NetworkError as error:
            raise NetworkError(f"{where} has {error}") from None
        sides = (side // made.size for side in source.shape[1:])
        return self._value(made, (source,), (source.shape[0], *sides), where)

    # What is between modules

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._within is None:
            # What is looked at here is no part of what is recorded.
            with torch._C.DisableTorchFunction():
                self._note(getattr(func, "__name__", str(func)), args, kwargs or {}, out)
        return out

    def _note(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        sources = [value for value in map(self.of, given) if value is not None]
        if name == "__setitem__" and sources:
            self._keep(args[0], self._only(sources, name))
            return
        results = [one for one in pytree.tree_leaves(out) if isinstance(one, Tensor)]
        if not sources or not results or name in _ASKS:
            return
        value = self._between(name, args, kwargs, given=given, sources=sources, out=results[0])
        for tensor in results:
            self._keep(tensor, value)

    def _between(
        self, name: str, args: Any, kwargs: Any, *, given: list[Tensor], sources: list[Value], out: Tensor
    ) -> Value:
        if name in _REARRANGES:
            return self._only(sources, name)
        if name in _ADDS:
            return self._added(given, args, sources)
        if name in _SCALES | _DIVIDES:
            other = args[1] if self._is_known(args[0]) else args[0]
            if not self._is_known(other) and (not isinstance(other, Tensor) or other.numel() == 1):
                factor = float(other) ** (_SCALES | _DIVIDES)[name]
                return self._value(Scaled(factor), (sources[0],), sources[0].shape, self._here())
        if name in ("sum", "mean"):
            return self._reduced(name, args, kwargs, sources[0])
        if name in _POOLS:
            try:
                made = _POOLS[name](args, kwargs)
            except NetworkError as error:
                raise NetworkError(f"{self._here()} has {error}") from None
            if isinstance(made, Adaptive):
                return self._pooled(made, sources[0], self._here())
            return self._value(made, (sources[0],), tuple(out.shape[-3:]), self._here())
        raise NetworkError(f"{self._here()} calls torch's {name}, which no packed file can say there")

    def _added(self, given: list[Tensor], args: Any, sources: list[Value]) -> Value:
        constants = [one for one in given if self.of(one) is None] + [
            one for one in args if isinstance(one, int | float)
        ]
        if any(bool(torch.as_tensor(constant).any()) for constant in constants):
            raise NetworkError(f"{self._here()} adds a constant, which no packed file can say there")
        distinct = tuple(sorted({id(value): value for value in sources}.values(), key=lambda value: value.number))
        if len(distinct) == 1:
            # The same at another timestep: a sum over time.
            return distinct[0]
        return self._value(Added(), distinct, distinct[0].shape, self._here())

    def _reduced(self, name: str, args: Any, kwargs: Any, source: Value) -> Value:
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        over = {(dims,) if isinstance(dims, int) else tuple(dims or ())}.pop()
        rank = args[0].dim()
        over = tuple(sorted(dim % rank for dim in over))
        if len(source.shape) == 3 and over == (rank - 2, rank - 1):
            return self._pooled(Adaptive((1, 1)), source, self._here(), summed=name == "sum")
        if len(over) != 1 or over[0] >= rank - len(source.shape):
            raise NetworkError(f"{self._here()} takes a {name} over more than time, which no packed file can say there")
        return self._value(Summed(name == "mean"), (source,), source.shape, self._here())

    def _only(self, sources: list[Value], name: str) -> Value:
        if any(value is not sources[0] for value in sources):
            raise NetworkError(f"{self._here()} joins different values ({name}), which no packed file can say")
        return sources[0]

    def _is_known(self, value: Any) -> bool:
        return isinstance(value, Tensor) and self.of(value) is not None

    def _here(self) -> str:
        return self._path[-1] if self._path else "the code around the module"


def _bound(args: Any, kwargs: Any, *names: str) -> dict[str, Any]:
    """Size, stride, padding and so on as torch's pooling is given them, for `pool` and `max_pool`."""
    found = dict(zip(("input", "size", *names), args, strict=False)) | kwargs
    found |= {"size": found.pop("kernel_size", found.get("size"))}
    usual: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    return {"size": found["size"], **{name: found.get(name, usual[name]) for name in names}}


_POOLS: dict[str, Callable[[Any, Any], Part]] = {
    "avg_pool2d": lambda args, kwargs: pool(**_bound(args, kwargs, "stride", "padding", "ceil_mode")),
    "adaptive_avg_pool2d": lambda args, kwargs: adaptive(kwargs.get("output_size", args[-1])),
    "max_pool2d": lambda args, kwargs: max_pool(**_bound(args, kwargs, "stride", "padding", "dilation", "ceil_mode")),
}


def _kind(module: nn.Module) -> str:
    return type(module).__name__.removeprefix("Parametrized")
