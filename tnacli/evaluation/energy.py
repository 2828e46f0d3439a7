"""What operations cost: the spikes and operations of each layer of a network, and their energy by a price list."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

SATURATED = 0.99
"""The firing rate from which a channel counts as saturated."""


@dataclass(frozen=True)
class Prices:
    """Energy of one operation, or of 64 bits read or written, in pJ: 45 nm at 0.9 V (Horowitz, ISSCC 2014, figure 1.1.9).

    A multiplication is 3.7 pJ and an addition 0.9 pJ, so that a MAC is 4.6 pJ. Additions of small integers, which are what
    a ternary layer makes, would be 0.03 to 0.1 pJ; the field's custom is to price them as floats, and so does this.
    The memory is a cache of 8 KB. One of 1 MB would be 100 pJ, DRAM 1,300 to 2,600.
    """

    mac_pj: float = 4.6
    addition_pj: float = 0.9
    memory_pj: float = 10.0

    def operations_pj(self, macs: float, additions: float) -> float:
        """Energy of so many operations in pJ."""
        return macs * self.mac_pj + additions * self.addition_pj


@dataclass(frozen=True)
class Bits:
    """Bits that a layer reads and writes, for one sample on average; `ann` are all of them in a network without spikes."""

    weights: float = 0
    potentials: float = 0
    spikes: float = 0
    ann: float = 0

    @property
    def moved(self) -> float:
        """Bits of the network with spikes."""
        return self.weights + self.potentials + self.spikes


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
    bits: Bits

    def energy_pj(self, prices: Prices) -> float:
        """Energy of a sample in pJ, weights that are 0 left out."""
        return prices.operations_pj(self.macs, self.additions_nonzero)

    def memory_pj(self, prices: Prices) -> float:
        """Energy in pJ of what a sample reads and writes."""
        return self.bits.moved / 64 * prices.memory_pj


@dataclass(frozen=True)
class Activity:
    """The layers of a network, first to readout, and what their operations cost.

    Of 0 `samples` it is what a sample can take at most.
    """

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

    @property
    def memory_nj(self) -> float:
        """Energy in nJ of what a sample reads and writes; `energy_nj` is without it."""
        return sum(layer.memory_pj(self.prices) for layer in self.layers) / 1000

    @property
    def ann_memory_nj(self) -> float:
        """The same in nJ of the same layout without spikes."""
        return sum(layer.bits.ann for layer in self.layers) / 64 * self.prices.memory_pj / 1000

    def as_json(self) -> dict[str, Any]:
        """Plain values; counts and energies are those of one sample on average."""
        totals = {key: self.total(key) for key in ("macs", "additions", "additions_nonzero", "ann_macs")}
        layers = [
            {**dataclasses.asdict(layer), "energy_nj": layer.energy_pj(self.prices) / 1000,
             "memory_nj": layer.memory_pj(self.prices) / 1000}
            for layer in self.layers
        ]  # fmt: skip
        energy = {
            "energy_nj": self.energy_nj, "energy_dense_nj": self.energy_dense_nj, "ann_energy_nj": self.ann_energy_nj,
            "memory_nj": self.memory_nj, "energy_with_memory_nj": self.energy_nj + self.memory_nj,
            "ann_memory_nj": self.ann_memory_nj, "ann_energy_with_memory_nj": self.ann_energy_nj + self.ann_memory_nj,
        }  # fmt: skip
        return {
            "samples": self.samples,
            "prices": dataclasses.asdict(self.prices),
            **totals,
            **energy,
            "layers": layers,
        }
