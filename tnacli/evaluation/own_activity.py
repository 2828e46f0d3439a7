"""Spikes and operations of a user's own network, counted where its modules are called.

Its forward pass is not known, so each convolution and matrix product is a row of its own, and each group of neurons another.
What is counted is what `tnacli.evaluation.activity` counts: MACs for the first weights and the last, additions for inputs
that are not zero between them, which are taken for spikes or averages of spikes. Spikes are read once, as in a chain; the
network's inputs and the readout's potentials, which no module of ours holds, are left out of what memory is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.data.batches import Batch
from tnacli.errors import UsageError
from tnacli.evaluation.energy import SATURATED, Activity, Bits, LayerActivity, Prices
from tnacli.snn.arithmetic import exact
from tnacli.snn.network import Network


def pairs(active: Tensor, weight: Tensor, *, nonzero: bool, groups: int = 1, **geometry: Any) -> Tensor:
    """Pairs of an input that is 1 and a weight that it meets, for each row of `active` [n, ...]: float64 [n].

    With `nonzero`, weights that are not 0. `geometry` is a convolution's stride, padding and dilation.
    """
    meeting = (weight != 0).float() if nonzero else torch.ones_like(weight, dtype=torch.float32)
    # Summed over the output channels first: how many weights each input meets, by channel and offset.
    each = meeting.unflatten(0, (groups, -1)).sum(1)
    if weight.dim() == 2:
        return F.linear(active, each).sum(1, dtype=torch.float64)
    return F.conv2d(active, each, groups=groups, **geometry).sum((1, 2, 3), dtype=torch.float64)


def bits_of(weight: Tensor) -> int:
    """Bits that each of the weights [out, ...] takes: 2 if an output channel's are 0 or of one magnitude, its scale, else 32."""
    magnitudes = weight.flatten(1).abs()
    ternary = (magnitudes == 0) | (magnitudes == magnitudes.amax(1, keepdim=True))
    return 2 if bool(ternary.all()) else 32


@dataclass
class _Row:
    """What has been seen of one module: of weights their operations, of neurons their spikes by channel."""

    dense: float = 0.0
    passes: float = 0.0
    additions: float = 0.0
    additions_nonzero: float = 0.0
    weight_bits: int = 0
    outputs: int = 0
    spikes: Tensor | None = None
    chances: int = 0

    def meet(self, synapse: nn.Conv2d | nn.Linear, x: Tensor) -> None:
        """Add up what inputs x of `synapse`, [rows, C, H, W] or [..., features], cause."""
        geometry: dict[str, Any] = {}
        if isinstance(synapse, nn.Conv2d):
            geometry = {"groups": synapse.groups, "stride": synapse.stride, "padding": synapse.padding,
                        "dilation": synapse.dilation}  # fmt: skip
        else:
            x = x.flatten(0, -2)
        active = (x != 0).float()
        self.additions += float(pairs(active, synapse.weight, nonzero=False, **geometry).sum())
        self.additions_nonzero += float(pairs(active, synapse.weight, nonzero=True, **geometry).sum())
        self.dense = float(pairs(torch.ones_like(active[:1]), synapse.weight, nonzero=False, **geometry))
        self.passes += len(x)
        self.weight_bits = bits_of(synapse.weight)

    def fire(self, spikes: Tensor) -> None:
        """Note spikes [T, N, C, ...]."""
        flat = spikes.flatten(0, 1)
        axes = (0, *range(2, flat.dim()))
        fired = flat.sum(axes, dtype=torch.float64).cpu()
        self.spikes = fired if self.spikes is None else self.spikes + fired
        self.chances += flat.numel() // flat.shape[1]
        self.outputs += spikes.numel()


@torch.inference_mode()
@exact()
def own_activity(network: Network, batches: Iterable[Batch], prices: Prices) -> Activity:
    """Spikes, operations and energy of `network` on all samples of `batches`, by module in the order of `named_modules`.

    Raises UsageError if it has no modules that give spikes.
    """
    if not network.neurons:
        raise UsageError(
            f"the network of {network.described.function} has no LIF modules (tnacli.snn.lif): no spikes to count"
        )
    modules = {name: network.get_submodule(f"module.{name}") for name in [*network.weight_shapes, *network.neurons]}
    order = [name.removeprefix("module.") for name, _ in network.named_modules()]
    rows = {name: _Row() for name in sorted(modules, key=order.index)}
    hooks = []
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_pre_hook(_meeting(rows[name], module)))
        else:
            hooks.append(module.register_forward_hook(_firing(rows[name])))
    samples, training = 0, network.training
    network.eval()
    try:
        for batch in batches:
            network(batch.inputs)
            samples += len(batch.inputs)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    if not samples:
        raise ValueError("activity needs at least one sample")
    ends = {next(iter(network.weight_shapes)), next(reversed(network.weight_shapes))}
    each = {"samples": samples, "timesteps": network.timesteps}
    layers = tuple(_layer(name, row, in_macs=name in ends, **each) for name, row in rows.items())
    return Activity(layers, samples, network.timesteps, prices)


def _meeting(row: _Row, synapse: nn.Conv2d | nn.Linear) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda module, given: row.meet(synapse, given[0])


def _firing(row: _Row) -> Callable[[nn.Module, object, Tensor], None]:
    return lambda module, given, spikes: row.fire(spikes)


def _layer(name: str, row: _Row, *, samples: int, timesteps: int, in_macs: bool) -> LayerActivity:
    if row.spikes is not None:
        rates = row.spikes / row.chances
        silent, saturated = (row.spikes == 0).float().mean(), (rates >= SATURATED).float().mean()
        each = row.outputs / samples
        bits = Bits(potentials=64 * each, spikes=2 * each, ann=64 * each / timesteps)
        return LayerActivity(name, float(rates.mean()), float(silent), float(saturated), 0, 0, 0, 0, bits)
    if in_macs:
        macs = row.dense * row.passes / samples
        return LayerActivity(name, None, None, None, macs, 0, 0, row.dense, Bits(weights=32 * macs, ann=32 * row.dense))
    additions, nonzero = row.additions / samples, row.additions_nonzero / samples
    bits = Bits(weights=row.weight_bits * additions, ann=32 * row.dense)
    return LayerActivity(name, None, None, None, 0, additions, nonzero, row.dense, bits)
