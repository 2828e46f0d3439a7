"""How much of a network spikes, how many operations that costs, and how much energy by a stated price list.

What is counted, for one sample on average over the samples:

- First layer: a multiply-accumulate (MAC) for each weight and place that it is applied to. An image is the same current at
  every timestep and is encoded once; event frames are encoded one after the other, T times.
- Hidden layers: an addition for each input that is not zero and each weight that it meets ("synaptic operation"), at every
  timestep; places beyond the border of a feature map are not met. After a pooling the inputs are averages of spikes: those
  that are not zero are one addition each, as a packed network adds their number of spikes; so are sums of several layers'
  spikes. `additions` counts every weight, `additions_nonzero` only those that are not 0, which a ternary network need not add.
- Readout: a MAC for each weight at every timestep.
- Left out: biases, batch norm, updates of membrane potentials and pooling. An energy made of this is a lower bound, good for
  comparing networks and not for sizing batteries.
- Memory, beside it: a weight is read for each MAC (32 bits) and each addition (2 bits if ternary or binary, also of weights
  that are 0, since only reading tells). A potential, 32 bits, is read and written once a timestep; the sum that drives it
  stays in a register. A spike is a bit, 0 or 1, written by each neuron at each timestep and read once by each layer that
  takes it, which pools as it reads. Pixels and numbers of events are read once, in 8 bits.

Beside it stands the same layout as a network without spikes: each layer once, in MACs of 32-bit weights and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from tnacli.data.batches import Batch
from tnacli.errors import UsageError
from tnacli.evaluation.energy import SATURATED, Activity, Bits, LayerActivity, Prices
from tnacli.evaluation.own_activity import bits_of, own_activity, pairs
from tnacli.packed.engine import PackedSNN
from tnacli.packed.network import PackedNetwork
from tnacli.packed.steps import Current, LIFLayer
from tnacli.snn.arithmetic import exact
from tnacli.snn.network import Network, SpikingNetwork

_Observer = Callable[[str, Tensor], None]
_Run = Callable[[Tensor, _Observer], Tensor]


@dataclass(frozen=True)
class _Way:
    """Weights [out, in / groups, k, k] or [out, in] that inputs of `shape` (C, H, W) meet, of layer `source` or the input ("").

    None where spikes are a current as they are, each of them one addition.
    """

    source: str
    weight: Tensor | None
    shape: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def met(self, inputs: Tensor, *, nonzero: bool) -> Tensor:
        """Pairs of an input that is not zero and a weight that it meets (`nonzero`: one not 0), by row of `inputs` [n, ...]."""
        active = (inputs != 0).float()
        if self.weight is None:
            return active.flatten(1).sum(1, dtype=torch.float64)
        if self.weight.dim() == 2:
            return pairs(active.flatten(1), self.weight, nonzero=nonzero)
        return pairs(active, self.weight, nonzero=nonzero, groups=self.groups, stride=self.stride, padding=self.padding)


@dataclass
class LayerCounts:
    """A layer of neurons, the ways into it, and what has been seen of it so far; `pooled` makes of maps what leaves it.

    What leaves the layer `added` is added to its spikes first; of one that `is_added` so, what left it last is `kept`.
    """

    name: str
    ways: tuple[_Way, ...]
    pooled: Callable[[Tensor], Tensor]
    neurons: int
    added: LayerCounts | None = None
    is_added: bool = False
    kept: Tensor | None = None
    spikes: Tensor = field(default_factory=lambda: torch.zeros(()))
    chances: int = 0
    additions: float = 0.0
    additions_nonzero: float = 0.0
    weight_bits: float = 0.0

    def dense(self) -> int:
        """MACs of one pass over an input without zeros; what lies beyond the border is not met."""
        weighted = [way for way in self.ways if way.weight is not None]
        return round(sum(float(way.met(torch.ones(1, *way.shape), nonzero=False)) for way in weighted))

    def take(self, source: str, counts: Tensor) -> None:
        """Add up the operations that outputs [n, ...] of `source`, zero or not, cause."""
        for way in self.ways:
            if way.source == source:
                met = float(way.met(counts, nonzero=False).sum())
                self.additions += met
                self.additions_nonzero += float(way.met(counts, nonzero=True).sum())
                self.weight_bits += 0 if way.weight is None else met * bits_of(way.weight)

    def give(self, spikes: Tensor) -> Tensor:
        """Note spikes [T, N, C, ...] of the layer; what comes out of its pooling [T * N, ...] is returned."""
        flat = spikes.flatten(0, 1).float()
        # In float64: a channel can spike more often than fp32 can count.
        axes = (0, *range(2, flat.dim()))
        self.spikes = self.spikes + flat.sum(axes, dtype=torch.float64)
        self.chances += flat.numel() // flat.shape[1]
        if self.added is not None and self.added.kept is not None:
            flat = flat + self.added.kept
        given = self.pooled(flat)
        self.kept = given if self.is_added else None
        return given

    def activity(self, macs: float, bits: Bits, samples: int) -> LayerActivity:
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
            bits=bits,
        )


@torch.inference_mode()
@exact()
def measure_activity(
    network: Network | PackedNetwork, batches: Iterable[Batch], prices: Prices | None = None
) -> Activity:
    """Spikes, operations and energy of `network` on all samples of `batches`, at `prices` (45 nm by default).

    A network from a checkpoint runs where it is, in evaluation mode; a packed one on the CPU. Both give the same counts.
    Raises UsageError if it has no spiking neurons.
    """
    if isinstance(network, Network) and not isinstance(network, SpikingNetwork):
        return own_activity(network, batches, prices or Prices())
    if isinstance(network, SpikingNetwork):
        if not network.model.spiking:
            raise UsageError("the network is an artificial one (model.spiking: false): it has no spikes to count")
        of, timesteps = of_network(network), network.timesteps
        readout: Sequence[int] = network.readout.weight.shape
    else:
        of, timesteps, readout = of_packed(network), network.about.timesteps, network.readout_weight.shape
    return _counted(of, readout, timesteps, batches, prices=prices or Prices())


@torch.inference_mode()
@exact()
def most_activity(network: PackedNetwork, prices: Prices | None = None) -> Activity:
    """The same were every neuron to spike at every timestep, than which no sample takes more; its number of samples is 0."""
    about = network.about

    def run(inputs: Tensor, observe: _Observer) -> None:
        for layer in network.steps.layers:
            observe(layer.name, torch.ones(about.timesteps, 1, *layer.neurons))

    one = Batch(torch.zeros(1, *about.input.shape(about.timesteps)), torch.zeros(1), 1)
    of = of_packed(network)[0], run
    found = _counted(of, network.readout_weight.shape, about.timesteps, [one], prices=prices or Prices())
    return replace(found, samples=0)


def _counted(
    of: tuple[list[LayerCounts], Callable[[Tensor, _Observer], object]],
    readout: Sequence[int],
    timesteps: int,
    batches: Iterable[Batch],
    *,
    prices: Prices,
) -> Activity:
    """What the layers' spikes amount to, for a readout of the shape (classes, features)."""
    layers, run = of
    by_name = {layer.name: number for number, layer in enumerate(layers)}

    def observe(name: str, spikes: Tensor) -> None:
        number = by_name[name]
        given = layers[number].give(spikes.cpu())
        for later in layers[number + 1 :]:
            later.take(name, given)

    samples, frames = 0, 1
    for batch in batches:
        run(batch.inputs, observe)
        samples += len(batch.inputs)
        frames = timesteps if batch.inputs.dim() == 5 else 1
    if not samples:
        raise ValueError("activity needs at least one sample")
    rows = []
    for number, layer in enumerate(layers):
        macs = 0 if number else frames * layer.dense()
        # The readout takes the last layer's spikes.
        readers = sum(way.source == layer.name for later in layers for way in later.ways) + (layer is layers[-1])
        readers += sum(later.added is layer for later in layers)
        pixels = 0 if number else 8 * prod(layer.ways[0].shape)
        bits = Bits(
            weights=32 * macs + layer.weight_bits / samples,
            potentials=64 * layer.neurons * timesteps,
            spikes=(1 + readers) * layer.neurons * timesteps + frames * pixels,
            ann=32 * layer.dense() + 32 * (1 + readers) * layer.neurons + pixels,
        )
        rows.append(layer.activity(macs, bits, samples))
    weights, classes = prod(readout), readout[0]
    bits = Bits(weights=32 * timesteps * weights, potentials=64 * classes * timesteps, ann=32 * weights + 32 * classes)
    rows.append(LayerActivity("readout", None, None, None, timesteps * weights, 0, 0, weights, bits))
    return Activity(tuple(rows), samples, timesteps, prices)


def _way(source: str, weight: Tensor | None, shape: tuple[int, ...], stride: int) -> _Way:
    """Of our own networks, whose convolutions have half the kernel around."""
    if weight is None:
        return _Way(source, None, shape)
    padding = weight.shape[-1] // 2 if weight.dim() == 4 else 0
    return _Way(source, weight.detach().cpu(), shape, stride, padding)


def _averages(pool: int) -> Callable[[Tensor], Tensor]:
    return lambda spikes: F.avg_pool2d(spikes, pool) if pool > 1 else spikes


def _pooling(layer: LIFLayer) -> Callable[[Tensor], Tensor]:
    if layer.max_of == "spikes":
        return lambda spikes: F.max_pool2d(spikes, *layer.squares)
    return _averages(layer.pool)


def of_network(network: SpikingNetwork) -> tuple[list[LayerCounts], _Run]:
    """The layers of neurons, and what gives the output's potentials [T, N, classes] while an observer sees the spikes."""
    layers: list[LayerCounts] = []
    shapes: dict[str, tuple[int, ...]] = {"": network.input_shape}
    for shape, (name, layer) in zip(network.shapes, network.spiking.items(), strict=False):
        before = next(reversed(shapes))
        ways = [_way(before, layer.synapse.weight, shapes[before], shape.stride)]
        if shape.shortcut is not None:
            weight, source = None if layer.shortcut is None else layer.shortcut.synapse.weight, shape.shortcut.source
            ways.append(_way(source, weight, shapes[source], shape.shortcut.stride))
        layers.append(LayerCounts(name, tuple(ways), _averages(shape.pool), prod(shape.out)))
        shapes[name] = shape.pooled

    def run(inputs: Tensor, observe: _Observer) -> Tensor:
        def watch(name: str) -> Callable[[object, object, Tensor], None]:
            return lambda module, given, spikes: observe(name, spikes)

        hooks = [neurons.register_forward_hook(watch(name)) for name, neurons in network.neurons.items()]
        training = network.training
        network.eval()
        try:
            return network.potentials(inputs)
        finally:
            network.train(training)
            for hook in hooks:
                hook.remove()

    return layers, run


def of_packed(network: PackedNetwork) -> tuple[list[LayerCounts], _Run]:
    """The same of a packed network."""

    def way(current: Current) -> _Way:
        source = current.source.name if isinstance(current.source, LIFLayer) else ""
        if current.spec is None:
            return _Way(source, None, current.source.out)
        weight = torch.from_numpy(network.weights[current.name].values().copy())
        spec = current.spec
        return _Way(source, weight, current.source.out, spec.stride, spec.around, spec.groups)

    layers: dict[str, LayerCounts] = {}
    for layer in network.steps.layers:
        added = None if layer.added is None else layers[layer.added.name]
        if added is not None:
            added.is_added = True
        ways = tuple(map(way, layer.currents))
        layers[layer.name] = LayerCounts(layer.name, ways, _pooling(layer), prod(layer.neurons), added)
    engine = PackedSNN(network)

    def run(inputs: Tensor, observe: _Observer) -> Tensor:
        return engine.potentials(inputs.cpu(), observe)

    return list(layers.values()), run
