"""How much of a network spikes, how many operations that costs, and how much energy by a stated price list.

What is counted, for one sample on average over the samples:

- First layer: a multiply-accumulate (MAC) for each weight and place that it is applied to. An image is the same current at
  every timestep and is encoded once; event frames are encoded one after the other, T times.
- Hidden layers: an addition for each input that is not zero and each weight that it meets ("synaptic operation"), at every
  timestep; places beyond the border of a feature map are not met. Behind a pooling the inputs are averages of spikes: those
  that are not zero are one addition each, as a packed network adds their number of spikes. `additions` counts every weight,
  `additions_nonzero` only those that are not 0, which a ternary network need not add.
- Readout: a MAC for each weight at every timestep.
- Left out: biases, batch norm, membrane potentials, pooling, and every access to memory. An energy made of this is a lower
  bound, good for comparing networks and not for sizing batteries.

Beside it stands the same layout as a network without spikes: each layer once, in MACs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.data.batches import Batch
from tnacli.packed.engine import PackedSNN
from tnacli.packed.model import PackedNetwork
from tnacli.snn.network import SpikingNetwork

SATURATED = 0.99
"""The firing rate from which a channel counts as saturated."""


@dataclass(frozen=True)
class Prices:
    """Energy of one operation in pJ: 32-bit floats in 45 nm at 0.9 V (Horowitz, ISSCC 2014, figure 1.1.9).

    A multiplication is 3.7 pJ and an addition 0.9 pJ, so that a MAC is 4.6 pJ. Additions of small integers, which are what
    a ternary layer makes, would be 0.03 to 0.1 pJ; the field's custom is to price them as floats, and so does this.
    """

    mac_pj: float = 4.6
    addition_pj: float = 0.9


@dataclass(frozen=True)
class LayerActivity:
    """One layer, for one sample on average. Rates and shares are None for the readout, which does not spike.

    `firing_rate` is in spikes a neuron and timestep; `silent` and `saturated` are the shares of channels (feature maps, or
    neurons of a fully connected layer) that never spiked on any sample, and that did so at a rate of `SATURATED` or more.
    `ann_macs` are the layer's MACs in a network without spikes.
    """

    name: str
    firing_rate: float | None
    silent: float | None
    saturated: float | None
    macs: float
    additions: float
    additions_nonzero: float
    ann_macs: float

    def energy_pj(self, prices: Prices) -> float:
        """Energy of a sample in pJ, weights that are 0 left out."""
        return self.macs * prices.mac_pj + self.additions_nonzero * prices.addition_pj


@dataclass(frozen=True)
class Activity:
    """The layers of a network, first to readout, and what their operations cost."""

    layers: tuple[LayerActivity, ...]
    samples: int
    timesteps: int
    prices: Prices

    def total(self, of: str) -> float:
        """The sum over the layers of "macs", "additions", "additions_nonzero" or "ann_macs"."""
        return float(sum(getattr(layer, of) for layer in self.layers))

    @property
    def energy_nj(self) -> float:
        """Energy of a sample in nJ, weights that are 0 left out."""
        return sum(layer.energy_pj(self.prices) for layer in self.layers) / 1000

    @property
    def energy_dense_nj(self) -> float:
        """The same with an addition for weights that are 0 as well."""
        return (self.total("macs") * self.prices.mac_pj + self.total("additions") * self.prices.addition_pj) / 1000

    @property
    def ann_energy_nj(self) -> float:
        """Energy in nJ of the same layout without spikes."""
        return self.total("ann_macs") * self.prices.mac_pj / 1000

    def as_json(self) -> dict[str, Any]:
        """Plain values; counts and energies are those of one sample on average."""
        totals = {key: self.total(key) for key in ("macs", "additions", "additions_nonzero", "ann_macs")}
        layers = [{**dataclasses.asdict(n), "energy_nj": n.energy_pj(self.prices) / 1000} for n in self.layers]
        energy = {
            "energy_nj": self.energy_nj, "energy_dense_nj": self.energy_dense_nj, "ann_energy_nj": self.ann_energy_nj,
        }  # fmt: skip
        return {
            "samples": self.samples,
            "prices": dataclasses.asdict(self.prices),
            **totals,
            **energy,
            "layers": layers,
        }


@dataclass
class _Layer:
    """A layer's weights, and what has been seen of it so far.

    `weight` is [out, in, k, k] or [out, in]; `places` are the neurons of a channel, `shape` its input (C, H, W).
    """

    name: str
    weight: Tensor
    shape: tuple[int, ...]
    pool: int
    spikes: Tensor = field(default_factory=lambda: torch.zeros(()))
    chances: int = 0
    additions: float = 0.0
    additions_nonzero: float = 0.0

    def dense(self) -> int:
        """MACs of one pass over an input without zeros; what lies beyond the border is not met."""
        return round(_met(torch.ones(1, *self.shape), self.weight, nonzero=False))

    def take(self, counts: Tensor) -> None:
        """Add up the operations that inputs [n, ...], zero or not, cause."""
        self.additions += _met(counts, self.weight, nonzero=False)
        self.additions_nonzero += _met(counts, self.weight, nonzero=True)

    def give(self, spikes: Tensor) -> Tensor:
        """Note spikes [T, N, C, ...] of the layer; what comes out of its pooling [T * N, ...] is returned."""
        flat = spikes.flatten(0, 1).float()
        # In float64: a channel can spike more often than fp32 can count.
        axes = (0, *range(2, flat.dim()))
        self.spikes = self.spikes + flat.sum(axes, dtype=torch.float64)
        self.chances += flat.numel() // flat.shape[1]
        return F.avg_pool2d(flat, self.pool) if self.pool > 1 else flat

    def activity(self, macs: float, samples: int) -> LayerActivity:
        rates = self.spikes / max(self.chances, 1)
        return LayerActivity(
            self.name,
            firing_rate=float(rates.mean()),
            silent=float((self.spikes == 0).float().mean()),
            saturated=float((rates >= SATURATED).float().mean()),
            macs=macs,
            additions=self.additions / samples,
            additions_nonzero=self.additions_nonzero / samples,
            ann_macs=self.dense(),
        )


def _met(inputs: Tensor, weight: Tensor, *, nonzero: bool) -> float:
    """Pairs of an input [n, ...] that is not zero and a weight that it meets; with `nonzero`, weights that are not zero."""
    meeting = (weight != 0).float() if nonzero else torch.ones_like(weight, dtype=torch.float32)
    # Summed over the output channels first: how many weights each input meets, by channel and offset.
    each = meeting.sum(0, keepdim=True)
    active = (inputs != 0).float()
    is_conv = weight.dim() == 4
    pairs = F.conv2d(active, each, padding=weight.shape[-1] // 2) if is_conv else F.linear(active.flatten(1), each)
    return float(pairs.sum(dtype=torch.float64))


@torch.inference_mode()
def measure_activity(
    network: SpikingNetwork | PackedNetwork, batches: Iterable[Batch], prices: Prices | None = None
) -> Activity:
    """Spikes, operations and energy of `network` on all samples of `batches`, at `prices` (45 nm by default).

    A network from a checkpoint runs where it is, in evaluation mode; a packed one on the CPU. Both give the same counts.
    """
    if isinstance(network, SpikingNetwork):
        layers, run, readout, timesteps = *_of_network(network), network.readout.weight.shape, network.timesteps
    else:
        layers, run, readout = *_of_packed(network), torch.Size(network.readout_weight.shape)
        timesteps = network.about.timesteps
    by_name = {layer.name: number for number, layer in enumerate(layers)}

    def observe(name: str, spikes: Tensor) -> None:
        number = by_name[name]
        given = layers[number].give(spikes.cpu())
        if number + 1 < len(layers):
            layers[number + 1].take(given)

    samples, frames = 0, 1
    for batch in batches:
        run(batch.inputs, observe)
        samples += len(batch.inputs)
        frames = timesteps if batch.inputs.dim() == 5 else 1
    if not samples:
        raise ValueError("activity needs at least one sample")
    rows = [layer.activity(0 if number else frames * layer.dense(), samples) for number, layer in enumerate(layers)]
    weights = prod(readout)
    rows.append(LayerActivity("readout", None, None, None, timesteps * weights, 0, 0, weights))
    return Activity(tuple(rows), samples, timesteps, prices or Prices())


_Observer = Callable[[str, Tensor], None]
_Run = Callable[[Tensor, _Observer], None]


def _of_network(network: SpikingNetwork) -> tuple[list[_Layer], _Run]:
    layers = []
    shape: tuple[int, ...] = network.input_shape
    for facts, (name, layer) in zip(network.shapes, network.spiking.items(), strict=False):
        layers.append(_Layer(name, layer.synapse.weight.detach().cpu(), shape, facts.pool))
        shape = facts.pooled

    def run(inputs: Tensor, observe: _Observer) -> None:
        def watch(name: str) -> Callable[[object, object, Tensor], None]:
            return lambda module, given, spikes: observe(name, spikes)

        hooks = [layer.neurons.register_forward_hook(watch(name)) for name, layer in network.spiking.items()]
        training = network.training
        network.eval()
        try:
            network(inputs)
        finally:
            network.train(training)
            for hook in hooks:
                hook.remove()

    return layers, run


def _of_packed(network: PackedNetwork) -> tuple[list[_Layer], _Run]:
    about, layers = network.about, []
    shape: tuple[int, ...] = (about.input.channels, *about.input.size)
    for layer, behind in zip(network.layers, about.out_shapes(), strict=True):
        weight = layer.stored.copy() if layer.facts.encoding == "fp32" else layer.ternary()
        layers.append(_Layer(layer.facts.name, torch.from_numpy(weight), shape, layer.facts.pool))
        shape = behind
    engine = PackedSNN(network)

    def run(inputs: Tensor, observe: _Observer) -> None:
        engine(inputs.cpu(), observe)

    return layers, run
