"""The leaky integrate-and-fire neuron over all timesteps of a layer (Eq. 1).

    u[t] = decay * u[t-1] * (1 - s[t-1]) + I[t]
    s[t] = 1 if u[t] >= threshold else 0

Two implementations compute the same: `lif_reference`, written as the equation reads, and `lif_fused`, one autograd
function over all timesteps that keeps a single byte a neuron and timestep for the backward pass. The fused one applies
where gradients stop at the reset, which is what makes its backward pass a recursion over those bytes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tnacli.recipe.schema.model import Neuron
from tnacli.snn import triton_lif
from tnacli.snn.fused import scaled_lif, why_not
from tnacli.snn.surrogate import spike
from tnacli.snn.triton_lif import Layer

_SPIKED, _INSIDE = 1, 2


def lif_over_time(current: Tensor, timesteps: int, neuron: Neuron) -> list[Tensor]:
    """Spikes [...] at each of the timesteps, of neurons driven by `current` [T, ...], or [1, ...] where it is always the same."""
    spikes: list[Tensor] = []
    potential: Tensor | None = None
    for t in range(timesteps):
        drive = current[t if current.shape[0] > 1 else 0]
        if potential is None:
            potential = drive
        else:
            reset = spikes[-1].detach() if neuron.detach_reset else spikes[-1]
            potential = potential * (1 - reset) * neuron.decay + drive
        spikes.append(
            spike(potential, threshold=neuron.threshold, height=neuron.surrogate_height, window=neuron.surrogate_window)
        )
    return spikes


def lif_reference(current: Tensor, timesteps: int, neuron: Neuron) -> Tensor:
    """Spikes [T, ...] of neurons driven by `current` [T, ...], or [1, ...] where it is the same at every timestep."""
    return torch.stack(lif_over_time(current, timesteps, neuron))


def lif_steps(currents: Iterable[Tensor], *, decay: float, threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Eq. 1 without a gradient: the membrane potential before the reset and the spikes, bool, of each timestep's current.

    The potential is written over at the next timestep. Each multiplication and addition is rounded on its own.
    """
    potential: Tensor | None = None
    for current in currents:
        potential = current.clone() if potential is None else potential.mul_(decay).add_(current)
        spiked = potential >= threshold
        yield potential, spiked
        potential.masked_fill_(spiked, 0.0)


class _FusedLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, timesteps: int, neuron: Neuron) -> Tensor:
        spikes = _empty_over_time(current, timesteps)
        keep = ctx.needs_input_grad[0]
        codes = torch.empty_like(spikes, dtype=torch.uint8) if keep else None
        currents = (current[t if current.shape[0] > 1 else 0] for t in range(timesteps))
        steps = lif_steps(currents, decay=neuron.decay, threshold=neuron.threshold)
        for t, (potential, spiked) in enumerate(steps):
            spikes[t] = spiked
            if codes is not None:
                inside = (potential - neuron.threshold).abs_() <= neuron.surrogate_window
                torch.add(spiked.view(torch.uint8), inside.view(torch.uint8), alpha=_INSIDE, out=codes[t])
        ctx.neuron = neuron
        ctx.repeated = current.shape[0] == 1 and timesteps > 1
        if codes is not None:
            ctx.save_for_backward(codes)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None]:
        (codes,) = ctx.saved_tensors
        neuron: Neuron = ctx.neuron
        timesteps = codes.shape[0]
        # dL/du[t] = dL/ds[t] * surrogate[t] + decay * (1 - s[t]) * dL/du[t+1];  dL/dI[t] = dL/du[t]
        grad = torch.empty_like(grad_spikes)
        later: Tensor | None = None
        for t in reversed(range(timesteps)):
            now = torch.mul(grad_spikes[t], (codes[t] >= _INSIDE), out=grad[t]).mul_(neuron.surrogate_height)
            if later is not None:
                silent = (codes[t] & _SPIKED) == 0
                now.add_(later * silent, alpha=neuron.decay)
            later = now
        return (grad.sum(0, keepdim=True) if ctx.repeated else grad), None, None


def _empty_over_time(current: Tensor, timesteps: int) -> Tensor:
    """An uninitialised tensor like `current` [T or 1, N, ...] with `timesteps` first, in the memory format of its rest."""
    first = current[0]
    if first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last):
        flat = torch.empty(
            (timesteps * first.shape[0], *first.shape[1:]),
            dtype=first.dtype,
            device=first.device,
            memory_format=torch.channels_last,
        )
        return flat.view(timesteps, *first.shape)
    return torch.empty((timesteps, *first.shape), dtype=first.dtype, device=first.device)


def lif_fused(current: Tensor, timesteps: int, neuron: Neuron) -> Tensor:
    """What `lif_reference` computes where the reset is detached, in less time and memory; the same shapes."""
    spikes: Tensor = _FusedLIF.apply(current, timesteps, neuron)
    return spikes


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons: [T, N, ...] or [1, N, ...] currents to [T, N, ...] spikes.

    With `scale` and `shift` [channels] the current is `current * scale + shift`: each is rounded once, as in a packed file,
    whether a kernel computes it (where no gradient is asked for) or PyTorch.
    """

    def __init__(self, neuron: Neuron, timesteps: int) -> None:
        super().__init__()
        self.neuron = neuron
        self.timesteps = timesteps

    def forward(self, current: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if scale is not None and shift is not None:
            if not torch.is_grad_enabled():
                if why_not(current, self.neuron) is None:
                    return scaled_lif(current, scale, shift, neuron=self.neuron, timesteps=self.timesteps)
                if triton_lif.why_not(current, Layer(self.neuron, self.timesteps, current.shape[1])) is None:
                    return triton_lif.scaled_lif(current, scale, shift, neuron=self.neuron, timesteps=self.timesteps)
            places = (-1,) + (1,) * (current.dim() - 3)
            current = current * scale.view(places) + shift.view(places)
        run = lif_fused if self.neuron.detach_reset else lif_reference
        return run(current, self.timesteps, self.neuron)

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}, {self.neuron!r}"
