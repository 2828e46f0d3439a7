"""Running totals of an epoch, kept on the device so that no step waits for a number to come back."""

from __future__ import annotations

import torch
from torch import Tensor

from tnacli.objectives.objective import Losses


class EpochSums:
    """Loss, its parts and correct predictions, summed over the samples seen so far in an epoch.

    Where several processes share the work, each holds its share of the sums, but the number of samples over all. All sums are
    one tensor: one after the other they would take more kernels than the losses.
    """

    def __init__(self, device: torch.device, totals: dict[str, float] | None = None) -> None:
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        totals = dict(totals or {})
        self.samples = int(totals.pop("samples", 0))
        self._device, self._start = device, totals
        self._names: list[str] = []
        self._sums: Tensor | None = None

    @torch.no_grad()
    def add(self, losses: Losses, labels: Tensor, samples: int) -> None:
        """A batch of `samples` over all processes; `losses` and `labels` are this one's share of it."""
        self.samples += samples
        means = torch.stack([losses.total, *losses.parts.values()]) * samples
        correct = (torch.stack(list(losses.logits.values())).argmax(2) == labels).sum(1)
        sums = torch.cat([means.to(self._dtype), correct.to(self._dtype)])
        names = ["loss", *(f"part/{name}" for name in losses.parts), *(f"correct/{name}" for name in losses.logits)]
        if self._sums is None:
            self._names, start = names, [self._start.get(name, 0.0) for name in names]
            self._sums = (
                torch.tensor(start, dtype=self._dtype, device=self._device) if any(start) else sums.new_zeros(len(sums))
            )
        self._sums = self._sums + sums

    def totals(self) -> dict[str, float]:
        """Plain numbers, from which an equal object can be made."""
        sums = self._start if self._sums is None else dict(zip(self._names, self._sums.tolist(), strict=True))
        return {"samples": float(self.samples), **sums}

    @property
    def loss(self) -> float:
        """The mean over samples of the loss that was minimised."""
        return self.totals()["loss"] / max(1, self.samples)

    @property
    def parts(self) -> dict[str, float]:
        return {name: value / max(1, self.samples) for name, value in self._under("part/").items()}

    @property
    def accuracy(self) -> dict[str, float]:
        """Training accuracy in %, by network, as seen while training."""
        return {name: 100 * value / max(1, self.samples) for name, value in self._under("correct/").items()}

    def _under(self, prefix: str) -> dict[str, float]:
        return {n.removeprefix(prefix): value for n, value in self.totals().items() if n.startswith(prefix)}
