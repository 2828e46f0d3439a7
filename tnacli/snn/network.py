"""The spiking network: layers of weights, normalisation and neurons, built from a layout.

Time is the first axis inside the network, [T, N, ...], flattened into the batch for convolutions and matrix products.
Images enter as the same current at every timestep (direct coding), so the first layer computes its current once.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.recipe.layout import LayerShape, layer_shapes
from tnacli.recipe.model_section import Model
from tnacli.snn.fused import Constants, norm_lif_pool, why_not
from tnacli.snn.lif import LIF
from tnacli.snn.readout import Readout, readout_leak


class SpikingLayer(nn.Module):
    """Weights, batch norm, LIF neurons, average pooling, dropout; [T or 1, N, ...] in, [T, N, ...] out.

    The first axis of the input is 1 where the input is the same at every timestep. While training, the compiled kernels
    of `tnacli.snn.fused` take over from batch norm to pooling where they apply, unless `compiled` is False.
    """

    def __init__(self, shape: LayerShape, model: Model) -> None:
        super().__init__()
        normed = model.norm == "batch"
        out, fan_in = shape.weight[0], shape.weight[1]
        self.synapse: nn.Conv2d | nn.Linear
        self.norm: nn.BatchNorm1d | nn.BatchNorm2d | None
        if shape.kind == "conv":
            kernel = shape.weight[2]
            self.synapse = nn.Conv2d(fan_in, out, kernel, padding=kernel // 2, bias=not normed)
            self.norm = nn.BatchNorm2d(out) if normed else None
        else:
            self.synapse = nn.Linear(fan_in, out, bias=not normed)
            self.norm = nn.BatchNorm1d(out) if normed else None
        self.neurons = LIF(model.neuron, model.timesteps)
        self.pool = shape.pool
        self.dropout = model.dropout if shape.kind == "fc" else 0.0
        self.compiled = True

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.synapse, nn.Linear) and x.dim() > 3:
            x = x.flatten(2)
        spikes = self._spikes(x.flatten(0, 1), *x.shape[:2])
        if self.dropout and self.training:
            # One mask a sample for all timesteps: a dropped neuron is absent for the whole simulation.
            spikes = spikes * F.dropout(torch.ones_like(spikes[0]), self.dropout)
        return spikes

    def _spikes(self, x: Tensor, steps: int, samples: int) -> Tensor:
        """Pooled spikes [T, N, ...] of the layer's input x [steps * N, ...]."""
        if self.training and self.norm is not None:
            summed = self.synapse(x)
            if self.compiled and why_not(summed, self.neurons.neuron) is None:
                constants = Constants(self.neurons.neuron, self.neurons.timesteps, self.pool, self.norm.eps)
                return norm_lif_pool(summed, self.norm, constants, samples)
            spikes: Tensor = self.neurons(self.norm(summed).unflatten(0, (steps, samples)))
        elif self.training:
            spikes = self.neurons(self.synapse(x).unflatten(0, (steps, samples)))
        else:
            # Evaluation uses the scale and shift that a packed file holds, in the same order of operations, so that both
            # give the same spikes. Hidden sums over ternary weights are exact, which leaves no room for rounding before.
            spikes = self.neurons(self._summed(x).unflatten(0, (steps, samples)), *self.folded())
        if self.pool > 1:
            spikes = F.avg_pool2d(spikes.flatten(0, 1), self.pool).unflatten(0, spikes.shape[:2])
        return spikes

    def _summed(self, x: Tensor) -> Tensor:
        """The weighted sums of x, without a bias."""
        if isinstance(self.synapse, nn.Conv2d):
            return F.conv2d(x, self.synapse.weight, padding=self.synapse.padding)
        return F.linear(x, self.synapse.weight)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Scale and shift [out], fp32, with which evaluation turns summed weights into currents.

        Batch norm with its running statistics, or the plain bias, computed in float64 and rounded once.
        """
        if self.norm is None:
            assert self.synapse.bias is not None
            return torch.ones_like(self.synapse.bias), self.synapse.bias
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        precise = torch.float64 if norm.weight.device.type != "mps" else torch.float32
        scale = norm.weight.to(precise) / torch.sqrt(norm.running_var.to(precise) + norm.eps)
        shift = norm.bias.to(precise) - norm.running_mean.to(precise) * scale
        return scale.float(), shift.float()


class SpikingNetwork(nn.Module):
    """A feed-forward spiking network: images [N, C, H, W] or event frames [N, T, C, H, W] to logits [N, classes].

    `layers` maps names (conv1, ..., fc1, ...) to spiking layers; `readout` turns the last spikes into logits.
    """

    def __init__(self, model: Model, *, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.model = model
        self.shapes = layer_shapes(model.layout, width=model.width, channels=channels, size=size, classes=classes)
        self.timesteps = model.timesteps
        self.input_shape = (channels, *size)
        self.layers = nn.ModuleDict({shape.name: SpikingLayer(shape, model) for shape in self.shapes[:-1]})
        classes, features = self.shapes[-1].weight
        self.readout = Readout(features, classes, readout_leak(model.readout, model.neuron.decay))

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs.transpose(0, 1) if inputs.dim() == 5 else inputs.unsqueeze(0)  # [T or 1, N, C, H, W]
        for layer in self.layers.values():
            x = layer(x)
        logits: Tensor = self.readout(x.flatten(2))
        return logits

    @property
    def hidden(self) -> dict[str, SpikingLayer]:
        """The layers that compression acts on: all with weights but the first and the readout (section 4.2)."""
        return dict(list(self.spiking.items())[1:])

    @property
    def spiking(self) -> dict[str, SpikingLayer]:
        """Every layer of spiking neurons."""
        return cast("dict[str, SpikingLayer]", dict(self.layers.items()))
