"""What a network says after each timestep, at what cost, and what is saved where a sample leaves once it is sure.

Potentials run forward in time, so that the logits and operations of the first t timesteps are those of the same network with
T = t (of event frames: with the first t frames). One pass over the samples gives all of them. Operations are those of
`tnacli.evaluation.activity`, weights that are 0 left out. Leaving early by the confidence of the output is what Li et al. 2023
("SEENN: towards temporal spiking early-exit neural networks") do with SEENN-I.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.data.batches import Batch
from tnacli.errors import UsageError
from tnacli.evaluation.activity import of_network, of_packed
from tnacli.evaluation.energy import Prices
from tnacli.packed.network import PackedNetwork
from tnacli.snn.arithmetic import exact
from tnacli.snn.network import Network, SpikingNetwork


@dataclass(frozen=True)
class Stopped:
    """Samples that stop after some timesteps, each after its own or all after the same number.

    `timesteps` is the mean, `accuracy` in %, `loss` the mean cross-entropy; operations and energy are those of one sample on
    average, weights that are 0 left out.
    """

    timesteps: float
    accuracy: float
    loss: float
    macs: float
    additions_nonzero: float
    energy_nj: float


@dataclass(frozen=True)
class ByTimestep:
    """What was seen of each sample: `logits` [T, N, classes] after each timestep, `macs` and `additions` [T, N] until then."""

    logits: Tensor
    labels: Tensor
    macs: Tensor
    additions: Tensor
    prices: Prices

    def stopped(self, after: Tensor) -> Stopped:
        """The samples, each stopped after the number of timesteps that `after` [N] says."""
        step, sample = after - 1, torch.arange(len(after))
        logits = self.logits[step, sample]
        macs, additions = (float(of[step, sample].mean()) for of in (self.macs, self.additions))
        return Stopped(
            timesteps=float(after.double().mean()),
            accuracy=100 * int((logits.argmax(1) == self.labels).sum()) / len(after),
            loss=float(F.cross_entropy(logits, self.labels)),
            macs=macs,
            additions_nonzero=additions,
            energy_nj=self.prices.operations_pj(macs, additions) / 1000,
        )

    def after(self, timesteps: int) -> Stopped:
        """All samples stopped after `timesteps`."""
        return self.stopped(torch.full_like(self.labels, timesteps))

    def leaving(self, confidence: float) -> Stopped:
        """Each sample stopped as soon as the softmax of its logits reaches `confidence`, or after T timesteps."""
        sure = self.logits.softmax(-1).amax(-1) >= confidence
        sure[-1] = True
        return self.stopped(sure.int().argmax(0) + 1)


@torch.inference_mode()
@exact()
def by_timestep(network: Network | PackedNetwork, batches: Iterable[Batch], prices: Prices | None = None) -> ByTimestep:
    """Run `network` once on all samples of `batches`. Raises UsageError if it has no timesteps that can be told apart."""
    if isinstance(network, PackedNetwork):
        (layers, run), readout, timesteps = of_packed(network), network.readout_weight.size, network.about.timesteps
    elif isinstance(network, SpikingNetwork) and network.model.spiking:
        (layers, run), readout, timesteps = of_network(network), network.readout.weight.numel(), network.timesteps
    else:
        why = "a network of model.build" if not isinstance(network, SpikingNetwork) else "an artificial network"
        raise UsageError(f"{why} gives one set of logits: no timesteps to stop at")
    places = {layer.name: number for number, layer in enumerate(layers)}
    parts: dict[str, list[Tensor]] = {}

    def observe(name: str, spikes: Tensor) -> None:
        number = places[name]
        given = layers[number].give(spikes.cpu())
        ways = [way for later in layers[number + 1 :] for way in later.ways if way.source == name]
        none = torch.zeros(len(given), dtype=torch.float64)
        each = sum((way.met(given, nonzero=True) for way in ways), start=none)
        parts.setdefault(name, []).append(each.unflatten(0, spikes.shape[:2]))

    logits, labels, macs, additions = [], [], [], []
    count = torch.arange(1, timesteps + 1, dtype=torch.float64)
    for batch in batches:
        parts.clear()
        potentials = run(batch.inputs, observe).float().cpu()
        frames = count if batch.inputs.dim() == 5 else torch.ones_like(count)
        logits.append(torch.stack(list(accumulate(potentials))))
        labels.append(batch.labels.cpu())
        additions.append(torch.stack([torch.cat(part, 1) for part in parts.values()]).sum(0).cumsum(0))
        macs.append((frames * layers[0].dense() + count * readout)[:, None].expand(-1, len(batch.labels)))
    if not labels:
        raise ValueError("at least one sample is needed")
    return ByTimestep(
        torch.cat(logits, 1), torch.cat(labels), torch.cat(macs, 1), torch.cat(additions, 1), prices or Prices()
    )
