"""Running totals of an epoch, kept on the device so that no step waits for a number to come back."""

from __future__ import annotations

import torch
from torch import Tensor

from tnacli.objectives.objective import Losses


class EpochSums:
    """Loss, its parts and correct predictions, summed over the samples seen so far in an epoch.

    Where several processes share the work, each holds its share of the sums, but the number of samples over all.
    """

    def __init__(self, device: torch.device, totals: dict[str, float] | None = None) -> None:
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        totals = dict(totals or {})
        self.samples = int(totals.pop("samples", 0))
        self._totals = {name: torch.tensor(v, dtype=self._dtype, device=device) for name, v in totals.items()}

    @torch.no_grad()
    def add(self, losses: Losses, labels: Tensor, samples: int) -> None:
        """A batch of `samples` over all processes; `losses` and `labels` are this one's share of it."""
        self.samples += samples
        self._add("loss", losses.total * samples)
        for name, part in losses.parts.items():
            self._add(f"part/{name}", part * samples)
        for name, logits in losses.logits.items():
            self._add(f"correct/{name}", (logits.argmax(1) == labels).sum())

    def _add(self, name: str, value: Tensor) -> None:
        value = value.detach().to(self._dtype)
        self._totals[name] = self._totals[name] + value if name in self._totals else value

    def totals(self) -> dict[str, float]:
        """Plain numbers, from which an equal object can be made."""
        return {"samples": float(self.samples), **{name: float(value) for name, value in self._totals.items()}}

    @property
    def loss(self) -> float:
        """The mean over samples of the loss that was minimised."""
        return float(self._totals["loss"]) / max(1, self.samples)

    @property
    def parts(self) -> dict[str, float]:
        return {name: value / max(1, self.samples) for name, value in self._under("part/").items()}

    @property
    def accuracy(self) -> dict[str, float]:
        """Training accuracy in %, by network, as seen while training."""
        return {name: 100 * value / max(1, self.samples) for name, value in self._under("correct/").items()}

    def _under(self, prefix: str) -> dict[str, float]:
        return {n.removeprefix(prefix): float(v) for n, v in self._totals.items() if n.startswith(prefix)}
