"""Samples that do not fit on a GPU, sent there one batch ahead of the step that computes with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class Uploads:
    """Copies to a CUDA device on a stream of their own, from pinned memory.

    Neither the host nor the step that is being computed waits for them. PyTorch's allocators keep what is being read or
    written: pinned memory until its copy has been made, memory of the device until the stream that was told of it has used it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def begin(self, samples: Tensor, rows: Tensor) -> Tensor:
        """The `rows` [n] of `samples`, both on the CPU, on their way to the device: not to be read before `arrived`."""
        pinned = torch.empty((len(rows), *samples.shape[1:]), dtype=samples.dtype, pin_memory=True)
        torch.index_select(samples, 0, rows, out=pinned)
        with torch.cuda.stream(self._stream):
            return pinned.to(self._device, non_blocking=True)

    def arrived(self, coming: Tensor) -> Tensor:
        """`coming`, which was begun last, for what the current stream computes from here on."""
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        coming.record_stream(current)
        return coming


def one_ahead(uploads: Uploads, samples: Tensor, shares: Iterable[Tensor]) -> Iterator[Tensor]:
    """The rows of `samples` that each of `shares` [n] names, in turn, on the device; the next ones are on their way meanwhile."""
    begun = (uploads.begin(samples, rows) for rows in shares)
    coming = next(begun, None)
    while coming is not None:
        arrived, coming = uploads.arrived(coming), next(begun, None)
        yield arrived
