"""The one definition of what a network is fed with: in training, in evaluation, by a packed network and by `tnacli.load`.

For tensors, and for arrays where torch is not loaded, the same operations in the same order. `tnacli/deploy/c.py` writes the
same in exported C; docs/packed-format.md, "Arithmetic", says it in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Scale = Tensor | tuple[float, ...] | None
    """A value for each channel, as fp32 of a tensor where it is on the device already; None leaves the step out."""

_AT_ONCE = 1 << 18


def as_input(samples: Tensor, mean: Scale, std: Scale, kind: str) -> Tensor:
    """uint8 samples as the float32 that a network is fed with.

    Pixels [N, C, H, W] become (pixel / 255 - mean) / std per channel, torchvision's ToTensor and Normalize,
    or pixel / 255 without a mean. Event counts [N, T, C, H, W] stay counts: they are the current fed in,
    batch norm after the first layer sets their scale, and 0, no events, stays 0.
    """
    import torch

    if kind == "events":
        return samples.to(torch.float32)
    return standardised(samples.to(torch.float32, copy=True).div_(255), mean, std)


def standardised(values: Tensor, mean: Scale, std: Scale) -> Tensor:
    """(values - mean) / std per channel, in place; `values` float32 from 0 to 1, [N, C, H, W]."""
    import torch

    if mean is None or std is None:
        return values
    shape = (-1, 1, 1)
    values.sub_(torch.as_tensor(mean, dtype=torch.float32, device=values.device).view(shape))
    return values.div_(torch.as_tensor(std, dtype=torch.float32, device=values.device).view(shape))


def array_as_input(
    samples: NDArray[np.uint8], mean: tuple[float, ...] | None, std: tuple[float, ...] | None, kind: str
) -> NDArray[np.float32]:
    """`as_input` of an array."""
    values = samples.astype(np.float32)
    if kind == "events":
        return values
    values /= np.float32(255)
    return standardised_array(values, mean, std)


def standardised_array(
    values: NDArray[np.float32], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> NDArray[np.float32]:
    """`standardised` of an array, a new one."""
    if mean is None or std is None:
        return values
    per_channel = [np.array(one, np.float32).reshape(-1, 1, 1) for one in (mean, std)]
    return (values - per_channel[0]) / per_channel[1]


def histogram(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of the 256 values of a byte occurs. By pairs, and in pieces, as counting makes eight bytes of each."""
    flat = values.reshape(-1)
    pairs = flat[: flat.size // 2 * 2].view(np.uint16)
    seen = np.zeros(1 << 16, np.int64)
    for i in range(0, pairs.size, _AT_ONCE):
        seen += np.bincount(pairs[i : i + _AT_ONCE], minlength=seen.size)
    counts = np.bincount(flat[2 * pairs.size :], minlength=256)
    for axis in (0, 1):
        counts += seen.reshape(256, 256).sum(axis=axis)
    return counts
