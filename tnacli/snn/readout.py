"""The output layer: no spikes, logits are the membrane potentials summed over time."""

from __future__ import annotations

from torch import Tensor, nn

from tnacli.snn.ordered import has_order, in_order


class Readout(nn.Linear):
    """Fully connected output neurons that never spike: [T, N, features] spikes to [N, classes] logits.

    `u[t] = leak * u[t-1] + W s[t] + b` and `logits = sum over t of u[t]`. A `leak` of 1 only sums the input current.
    An input [1, N, features] is the same at each of `timesteps`, where those are given.
    """

    def __init__(self, features: int, classes: int, leak: float, timesteps: int | None = None) -> None:
        super().__init__(features, classes)
        self.leak = leak
        self.timesteps = timesteps

    def forward(self, spikes: Tensor) -> Tensor:
        first, *later = self.potentials(spikes)
        return sum(later, start=first)

    def potentials(self, spikes: Tensor) -> list[Tensor]:
        """The membrane potentials u[t], each [N, classes], first to last."""
        if self.training or not has_order(spikes):
            current = super().forward(spikes)
        else:
            current = in_order(spikes.flatten(0, 1), self.weight).unflatten(0, spikes.shape[:2]) + self.bias
        # The sums over time are held in fp32 under autocast too: logits feed the losses and the matching.
        currents = current.float().unbind()  # together: backwards, each by itself would be a tensor of all timesteps
        found = [currents[0]]
        steps = len(currents)
        for t in range(1, self.timesteps if steps == 1 and self.timesteps else steps):
            found.append(found[-1] * self.leak + currents[t % steps])
        return found


def readout_leak(kind: str, decay: float) -> float:
    """The leak of the readout `kind` ("leaky", "sum" or "none") beside neurons with `decay`."""
    return {"leaky": decay, "sum": 1.0, "none": 0.0}[kind]
