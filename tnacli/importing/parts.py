"""What modules compute, in the terms of a packed file: weights, batch norm, neurons, pooling, leaky readouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tnacli.errors import NetworkError


@dataclass(frozen=True)
class Weighted:
    """A convolution, `weight` [out, in / groups, k, k], or matrix product, `weight` [out, in], with `bias` [out]."""

    weight: Tensor
    bias: Tensor
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Affine:
    """`x * scale + shift` by channel, float64 [channels]: a batch norm."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Neurons:
    """LIF neurons: `u = decay * u + gain * current`, a spike where u reaches the threshold (`strict`: passes it), then 0.

    With `subtract`, a soft reset: u is less by that after a spike, of which there may be `most` in a timestep, one for each
    threshold in u. What is left of u is `lowest` at least.
    """

    decay: float
    threshold: float
    gain: float = 1.0
    strict: bool = False
    subtract: float | None = None
    most: int = 1
    lowest: float | None = None

    def over(self, unit: float) -> Neurons:
        """The same neurons with potentials in units of so much."""
        taken, lowest = (None if value is None else value / unit for value in (self.subtract, self.lowest))
        return replace(self, threshold=self.threshold / unit, subtract=taken, lowest=lowest)


@dataclass(frozen=True)
class Leaky:
    """Neurons that never spike: `u = leak * u + gain * current`. `output` is which of several results u is."""

    leak: float
    gain: float = 1.0
    output: int = 0


@dataclass(frozen=True)
class Pool:
    """Squares of `size` x `size` become their mean, or `summed` up."""

    size: int
    summed: bool = False


@dataclass(frozen=True)
class Adaptive:
    """Average pooling to a map of `size`, height and width, whatever map there is; None keeps a side."""

    size: tuple[int | None, int | None]

    def of(self, shape: tuple[int, ...]) -> Pool:
        """What it is for maps (C, H, W). Raises NetworkError unless those are squares side by side that fill the map."""
        height, width = shape[-2:]
        rows, columns = (side if to is None else to for side, to in zip((height, width), self.size, strict=True))
        side = height // rows
        if (side * rows, side * columns) != (height, width):
            raise NetworkError(
                f"pooling of {height}x{width} to {rows}x{columns}; packed files pool by squares side by side that fill the map"
            )
        return Pool(side)


@dataclass(frozen=True)
class MaxPool:
    """The largest of each square of `size` x `size`, one every `stride`, with `padding` places around that are none of them."""

    size: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Vote:
    """Each `size` neighbouring features become their mean, the vote for a class."""

    size: int


@dataclass(frozen=True)
class LeakyReadout:
    """Weights and leaky neurons in one."""

    weights: Weighted
    leak: float


@dataclass(frozen=True)
class Same:
    """Changes nothing but the order of a tensor's axes, if that."""


Part = Weighted | Affine | Neurons | Leaky | Pool | Adaptive | MaxPool | Vote | LeakyReadout | Same


def convolution(
    weight: Tensor,
    bias: Tensor,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> Weighted:
    """A convolution with these settings, height before width. Raises NetworkError if a packed file has none such."""
    size = tuple(weight.shape[2:])
    if tuple(dilation) != (1, 1):
        raise NetworkError("its dilation; kernels are dense")
    if size[0] != size[1] or size[0] % 2 == 0 or stride[0] != stride[1] or stride[0] not in (1, 2):
        raise NetworkError(
            f"a kernel of {size[0]}x{size[1]} with stride {stride}; kernels are square and odd, strides 1 or 2"
        )
    around: Any = padding
    if isinstance(padding, str):
        around = {"same": (size[0] // 2,) * 2, "valid": (0, 0)}[padding]
    if around[0] != around[1] or not 0 <= around[0] < size[0]:
        raise NetworkError(f"padding {padding}; it is the same on all sides, and less than the kernel")
    return Weighted(weight, bias, stride[0], around[0], groups)


def pool(size: Any, *, stride: Any, padding: Any, ceil_mode: bool, summed: bool = False) -> Pool:
    """Pooling with these settings, each a number or a pair. Raises NetworkError if a packed file has none such."""
    (size, also), stride, padding = _pair(size), _pair(size if stride in (None, ()) else stride), _pair(padding)
    if size != also or stride != (size, size) or padding != (0, 0) or ceil_mode:
        rounded = ", rounding up" if ceil_mode else ""
        raise NetworkError(
            f"pooling of {size}x{also} with stride {stride[0]} and padding {padding[0]}{rounded}; packed files have squares side "
            f"by side, without padding, and what fills none is dropped"
        )
    return Pool(size, summed)


def max_pool(size: Any, *, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> MaxPool:
    """Maximum pooling with these settings, each a number or a pair. Raises NetworkError if a packed file has none such."""
    size, stride = _pair(size), _pair(size if stride in (None, ()) else stride)
    padding, dilation = _pair(padding), _pair(dilation)
    side, step, around = size[0], stride[0], padding[0]
    if (
        (size, stride, padding, dilation) != ((side, side), (step, step), (around, around), (1, 1))
        or ceil_mode
        or not (2 <= side <= 8 and 1 <= step <= 8)
    ):
        raise NetworkError(
            f"maximum pooling of {size[0]}x{size[1]} with stride {stride}, padding {padding}, dilation {dilation} and "
            f"ceil_mode={ceil_mode}; packed files have dense squares up to 8x8, strides up to 8, and round down"
        )
    return MaxPool(side, step, around)


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def adaptive(size: Any) -> Adaptive:
    """Average pooling to `size`, a number or a pair."""
    return Adaptive(_pair(size))


def refused(why: str) -> Callable[[Any], Part]:
    """What a module is that no packed file can say, for the reason `why`."""

    def refuse(module: object) -> Part:
        raise NetworkError(why)

    return refuse
