"""Dropout from a counter: which neurons are left out follows from a key and their place alone, on every device alike.

PyTorch's own generators draw other numbers on a CPU than on a GPU, and on GPUs of different size. Here bits are those of an
integer hash of (key, place), which the Triton kernels compute too.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 2**32 - 1


def key_words(key: int) -> tuple[int, int]:
    """The lowest 62 bits of a key as two numbers below 2**31, which fit any integer of a kernel."""
    return key & (2**31 - 1), key >> 31 & (2**31 - 1)


def limit(probability: float) -> int:
    """Of 24 random bits, the number below which a neuron is dropped."""
    return round(probability * 2**24)


def dropout_mask(like: Tensor, probability: float, key: int | None) -> Tensor:
    """What dropout multiplies `like` [N, ...] with: 0, or 1 / (1 - probability), in its type.

    Drawn from PyTorch's generator where there is no key. The place of a value is its number with channels last, as
    [N, H, W, C], or [N, C].
    """
    if key is None:
        return torch.nn.functional.dropout(torch.ones_like(like), probability)
    last = like.movedim(1, -1)
    first, second = key_words(key)
    h = torch.arange(like.numel(), device=like.device) & _WORD
    h = _mixed(_mixed(h ^ first) + second & _WORD)
    kept = (h >> 8 >= limit(probability)).view(last.shape).movedim(-1, 1)
    return kept.to(like.dtype) * (1 / (1 - probability))


def _mixed(h: Tensor) -> Tensor:
    """32 bits mixed, held in int64 (Wellons, hash-prospector, lowbias32)."""
    h = (h ^ h >> 16) * 0x7FEB352D & _WORD
    h = (h ^ h >> 15) * 0x846CA68B & _WORD
    return h ^ h >> 16
