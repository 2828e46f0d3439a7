"""CIFARNet around the neurons of any library: PyTorch's own layers, run layer by layer over all timesteps.

This is how each of the libraries is fastest, and the only order in which batch norm sees the same statistics as in tnacli:
over samples and timesteps at once. Their wrappers of convolutions and norms (SpikingJelly's `layer.Conv2d`, sinabs'
`LIFSqueeze`, norse's `Lift`) flatten time into the batch just as it is done here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.work import CLASSES, IMAGE
from tnacli.recipe.layout import layer_shapes
from tnacli.recipe.schema.model import Model
from tnacli.snn.network import SpikingNetwork
from tnacli.snn.readout import readout_leak

Neurons = Callable[[Model], nn.Module]
"""Makes the neurons of a layer: currents to spikes of the same shape, from a resting state at every call."""


class Block(nn.Module):
    """Weights, batch norm, a library's neurons, pooling."""

    def __init__(self, kind: str, weight: tuple[int, ...], pool: int, neurons: nn.Module) -> None:
        super().__init__()
        out, fan_in = weight[:2]
        self.synapse: nn.Conv2d | nn.Linear
        self.norm: nn.BatchNorm2d | nn.BatchNorm1d
        if kind == "conv":
            self.synapse = nn.Conv2d(fan_in, out, weight[2], padding=weight[2] // 2, bias=False)
            self.norm = nn.BatchNorm2d(out)
        else:
            self.synapse, self.norm = nn.Linear(fan_in, out, bias=False), nn.BatchNorm1d(out)
        self.neurons, self.pool = neurons, pool


class Layerwise(nn.Module):
    """Images [N, C, H, W] to logits [N, classes]; time is axis `time_axis` of what the neurons see, 0 or 1.

    The first layer's current is computed once, as it is the same at every timestep.
    """

    def __init__(
        self,
        model: Model,
        neurons: Neurons,
        *,
        time_axis: int = 0,
        dropout: bool = True,
        image: tuple[int, int, int] = IMAGE,
        classes: int = CLASSES,
    ) -> None:
        super().__init__()
        shapes = layer_shapes(model.layout, width=model.width, channels=image[0], size=image[1:], classes=classes)
        self.blocks = nn.ModuleList(Block(s.kind, s.weight, s.pool, neurons(model)) for s in shapes[:-1])
        self.readout = nn.Linear(shapes[-1].weight[1], classes)
        self.time_axis, self.timesteps = time_axis, model.timesteps
        self.leak = readout_leak(model.readout, model.neuron.decay)
        self.dropout = model.dropout if dropout else 0.0

    def forward(self, images: Tensor) -> Tensor:
        x = images
        rows: tuple[int, int] = (0, 0)  # the first two axes: timesteps and samples, in the neurons' order
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            if isinstance(block.synapse, nn.Linear) and x.dim() > 2:
                x = x.flatten(1)
            current = block.norm(block.synapse(x))
            if number == 0:
                axis, samples = self.time_axis, len(images)
                rows = (self.timesteps, samples) if axis == 0 else (samples, self.timesteps)
                current = current.unsqueeze(axis)
                current = current.expand(*rows, *current.shape[2:])
            else:
                current = current.unflatten(0, rows)
            spikes = block.neurons(current)
            if isinstance(block.synapse, nn.Linear) and self.training and self.dropout:
                # One mask a sample for all timesteps.
                mask = F.dropout(torch.ones_like(spikes.select(self.time_axis, 0)), self.dropout)
                spikes = spikes * mask.unsqueeze(self.time_axis)
            x = spikes.flatten(0, 1)
            if block.pool > 1:
                x = F.avg_pool2d(x, block.pool)
        currents = self.readout(x.flatten(1)).unflatten(0, rows).unbind(self.time_axis)
        potential = currents[0].float()
        logits: Tensor = potential
        for current in currents[1:]:
            potential = potential * self.leak + current.float()
            logits = logits + potential
        return logits

    @torch.no_grad()
    def copy_from(self, network: SpikingNetwork) -> Layerwise:
        """Take over the weights, norms and statistics of `network`, compressed ones as they are computed with."""
        for block, layer in zip(cast("list[Block]", self.blocks), network.spiking.values(), strict=True):
            assert layer.norm is not None
            block.synapse.weight.copy_(layer.synapse.weight)
            block.norm.load_state_dict(layer.norm.state_dict())
        self.readout.load_state_dict(network.readout.state_dict())
        return self
