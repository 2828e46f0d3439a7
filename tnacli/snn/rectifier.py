"""Rectified linear units in place of spiking neurons: what makes a network of the same layers an ANN."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rectifier(nn.Module):
    """max(0, current), element by element; no state, so the axis of time is like that of samples.

    With `scale` and `shift` [channels] the current is `current * scale + shift`, as for `tnacli.snn.lif.LIF`.
    """

    def forward(self, current: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if scale is not None and shift is not None:
            places = (-1,) + (1,) * (current.dim() - 3)
            current = current * scale.view(places) + shift.view(places)
        return torch.relu(current)
