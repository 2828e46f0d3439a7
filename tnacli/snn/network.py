"""The spiking network: layers of weights, normalisation and neurons, built from a layout.

Time is the first axis inside the network, [T, N, ...], flattened into the batch for convolutions and matrix products.
Images enter as the same current at every timestep (direct coding), so the first layer computes its current once.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnacli.recipe.layout import LayerShape, layer_shapes
from tnacli.recipe.schema.model import Model
from tnacli.snn import triton_lif
from tnacli.snn.dropout import dropout_mask
from tnacli.snn.fused import Constants, lif_pool, norm_lif_pool, why_not
from tnacli.snn.gated import Gate, gate_of
from tnacli.snn.lif import LIF
from tnacli.snn.ordered import has_order, in_order
from tnacli.snn.readout import Readout, readout_leak
from tnacli.snn.rectifier import Rectifier
from tnacli.snn.regions import Regions
from tnacli.snn.small import kept_small
from tnacli.snn.sparse import sparse_convolution
from tnacli.snn.synchronised import SynchronisedBatchNorm
from tnacli.snn.triton_lif import Branch, Layer

_HALVES = (torch.bfloat16, torch.float16)


class WeightedLayer(nn.Module):
    """A convolution or matrix product of spikes, and its batch norm: what turns a layer's input into current."""

    def __init__(self, weight: tuple[int, ...], stride: int, *, normed: bool) -> None:
        super().__init__()
        self.stride = stride
        self.synapse: nn.Conv2d | nn.Linear
        self.norm: nn.BatchNorm1d | nn.BatchNorm2d | None
        self.keeps_small = False
        self.compiled = True
        self.ordered = False
        if len(weight) == 4:
            out, into, kernel, _ = weight
            self.synapse = nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, bias=not normed)
            if kernel == 1:
                # Instead, the places that a stride skips are left out before: oneDNN's gradient of 1x1 convolutions with
                # a stride writes beyond its memory (oneDNN issue 6035, seen with PyTorch 2.15 on AVX2).
                self.synapse.stride = (1, 1)
            self.norm = nn.BatchNorm2d(out) if normed else None
        else:
            self.synapse = nn.Linear(weight[1], weight[0], bias=not normed)
            self.norm = nn.BatchNorm1d(weight[0]) if normed else None

    def current(self, x: Tensor) -> Tensor:
        """Currents [rows, out, ...] of inputs [rows, in, ...]: while training by the batch's own statistics, else folded.

        Evaluation uses the scale and shift that a packed file holds, in the same order of operations, so that both give
        the same spikes. Hidden sums over ternary weights are exact, which leaves no room for rounding before.
        """
        if self.training:
            current = self.driven(x)
            if self.norm is not None:
                current = self.norm(current)
            return current
        summed = self.summed(x)
        places = (-1, *(1,) * (summed.dim() - 2))
        scale, shift = (values.view(places) for values in self.folded())
        return summed * scale + shift

    def driven(self, x: Tensor, gate: Gate | None = None) -> Tensor:
        """What the synapse makes of x while training; `gate` is that of the neurons whose spikes they are, if it is known."""
        with kept_small(x) if self.keeps_small else contextlib.nullcontext():
            driven = self._over_lists(x, gate)
            return self.synapse(self._met(x)) if driven is None else driven

    def summed(self, x: Tensor) -> Tensor:
        """The weighted sums of x, without a bias; `ordered` ones, of inputs that are no spikes, as a packed file's are."""
        if self.ordered and has_order(x):
            return in_order(x.flatten(1) if self.synapse.weight.dim() == 2 else x, self.synapse.weight, self.stride)
        if not isinstance(self.synapse, nn.Conv2d):
            return F.linear(x, self.synapse.weight)
        summed = self._over_lists(x)
        if summed is not None:
            return summed
        return F.conv2d(self._met(x), self.synapse.weight, stride=self.synapse.stride, padding=self.synapse.padding)

    def _over_lists(self, x: Tensor, gate: Gate | None = None) -> Tensor | None:
        """The convolution of x, over lists of what is not zero; None where it is none, or a dense one is as fast."""
        return (
            sparse_convolution(x, self.synapse, gate) if self.compiled and isinstance(self.synapse, nn.Conv2d) else None
        )

    def _met(self, x: Tensor) -> Tensor:
        """The places of inputs [rows, C, H, W] that the synapse is to see."""
        return x[..., :: self.stride, :: self.stride] if self.stride > 1 and self.synapse.kernel_size == (1, 1) else x

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


class SpikingLayer(WeightedLayer):
    """Weights, batch norm, LIF neurons, average pooling, dropout; [T or 1, N, ...] in, [T, N, ...] out.

    The first axis of the input is 1 where the input is the same at every timestep. A layer with a shortcut also takes the
    spikes [T, N, ...] of the shortcut's source; its neurons receive the sum of both currents. While training, the compiled
    kernels of `tnacli.snn.fused` take over from batch norm to pooling where they apply, unless `compiled` is False; with
    `regions`, those do instead; on CUDA the operator of `tnacli.snn.triton_lif` does. Dropout is drawn from the counter
    `dropout_key` where there is one, else from PyTorch's generator, before the pass if `draw_dropout` is called.
    In an ANN (`model.spiking` false) rectified linear units stand in for the neurons, and time passes through unchanged.
    """

    def __init__(self, shape: LayerShape, model: Model) -> None:
        normed = model.norm == "batch"
        super().__init__(shape.weight, shape.stride, normed=normed)
        self.source: str | None = None
        self.shortcut: WeightedLayer | None = None
        if shape.shortcut is not None:
            self.source = shape.shortcut.source
            if shape.shortcut.weight is not None:
                self.shortcut = WeightedLayer(shape.shortcut.weight, shape.shortcut.stride, normed=normed)
        self.neuron, self.timesteps = model.neuron, model.timesteps
        self.neurons = LIF(model.neuron, model.timesteps) if model.spiking else Rectifier()
        # Changes nothing; where features are read from, pooled spikes before dropout.
        self.output = nn.Identity()
        self.pool = shape.pool
        self.dropout = model.dropout if shape.kind == "fc" else 0.0
        self.dropout_key: int | None = None
        self.drawn: Tensor | None = None
        self.compiled = model.spiking
        self.regions: Regions | None = None

    def forward(self, x: Tensor, skipped: Tensor | None = None) -> Tensor:
        if isinstance(self.synapse, nn.Linear) and x.dim() > 3:
            x = x.flatten(2)
        samples, rows, other = x.shape[1], x.flatten(0, 1), None if skipped is None else skipped.flatten(0, 1)
        if not self.training:
            spikes = self._evaluated(rows, other, samples)
            self.output(spikes)
            return spikes
        branches: list[Branch] = [(self.driven(rows, gate_of(x)), self.norm)]
        if other is not None:
            cut = self.shortcut
            branches.append((other, None) if cut is None else (cut.driven(other), cut.norm))
        layer = Layer(self.neuron, self.timesteps, samples, self.pool)
        if self.regions is None and self.compiled and triton_lif.why_not(branches[0][0], layer) is None:
            if self.dropout and self.dropout_key is not None and not self.output._forward_hooks:
                return triton_lif.lif_pool(branches, replace(layer, dropout=self.dropout, key=self.dropout_key))
            spikes = triton_lif.lif_pool(branches, layer)
        else:
            spikes = self._trained(branches, samples)
        self.output(spikes)
        if self.dropout:
            # One mask a sample for all timesteps: a dropped neuron is absent for the whole simulation.
            drawn, self.drawn = self.drawn, None
            mask = dropout_mask(spikes[0], self.dropout, self.dropout_key) if drawn is None else drawn.to(spikes.dtype)
            spikes = spikes * mask
        return spikes

    def draw_dropout(self, samples: int) -> None:
        """Draw the mask of the next forward pass, of so many samples, before it."""
        if self.dropout:
            self.drawn = dropout_mask(torch.ones(samples, self.synapse.weight.shape[0]), self.dropout, self.dropout_key)

    def _trained(self, branches: list[Branch], samples: int) -> Tensor:
        """Pooled spikes [T, N, ...] of one branch, or of two whose currents are added, while training."""
        if self.regions is not None and self.regions.take(samples):
            return self.regions.spikes(branches, self.neuron, self.timesteps, self.pool)
        summed, norm = branches[0]
        # The kernels that normalise, too, know this process's samples alone.
        normalising = len(branches) == 1 and norm is not None and not isinstance(norm, SynchronisedBatchNorm)
        if self.compiled and normalising and why_not(summed, self.neuron) is None:
            assert norm is not None
            return norm_lif_pool(summed, norm, self._constants(norm.eps), samples)
        # Between the weights and the spikes all is fp32, as in the kernels, whatever autocast makes of the sums.
        parts = [x.float() if isinstance(self.neurons, LIF) and x.dtype in _HALVES else x for x, _ in branches]
        parts = [part if norm is None else norm(part) for part, (_, norm) in zip(parts, branches, strict=True)]
        current = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        if self.compiled and not normalising and why_not(current, self.neuron) is None:
            return lif_pool(current, self._constants(0.0), samples).to(summed.dtype)
        return self._pooled(self.neurons(current.unflatten(0, (-1, samples)))).to(summed.dtype)

    def _evaluated(self, x: Tensor, skipped: Tensor | None, samples: int) -> Tensor:
        """Pooled spikes [T, N, ...] of the layer's input x [T * N or N, ...], and of its shortcut's source."""
        if skipped is None:
            return self._pooled(self.neurons(self.summed(x).unflatten(0, (-1, samples)), *self.folded()))
        current = self.current(x) + (skipped if self.shortcut is None else self.shortcut.current(skipped))
        # A scale of 1 and a shift of 0 change no bit, and let the compiled neurons take over.
        one = torch.ones(current.shape[1], device=current.device)
        return self._pooled(self.neurons(current.unflatten(0, (-1, samples)), one, torch.zeros_like(one)))

    def _constants(self, eps: float) -> Constants:
        return Constants(self.neuron, self.timesteps, self.pool, eps)

    def _pooled(self, spikes: Tensor) -> Tensor:
        if self.pool > 1:
            spikes = F.avg_pool2d(spikes.flatten(0, 1), self.pool).unflatten(0, spikes.shape[:2])
        return spikes


class Weighted(Protocol):
    """Anything with a convolution or matrix product that can be compressed."""

    @property
    def synapse(self) -> nn.Conv2d | nn.Linear: ...


class Network(nn.Module):
    """What training, compression and evaluation know of a network, whatever its layers are.

    It maps images [N, C, H, W] or event frames [N, T, C, H, W] to logits [N, classes]. `model` holds the neuron and T with
    which it computes, `described` what a recipe says of it, which is what a checkpoint keeps.
    """

    def __init__(self, model: Model, *, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.model = self.described = model
        self.timesteps = model.timesteps
        self.input_shape = (channels, *size)
        self.classes = classes

    @property
    def hidden(self) -> dict[str, Weighted]:
        """What compression acts on: all that has weights but the first and the last (section 4.2)."""
        raise NotImplementedError

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all weights that meet inputs or spikes, by name, first to last."""
        raise NotImplementedError

    @property
    def neurons(self) -> dict[str, nn.Module]:
        """The modules that give spikes [T, N, ...], by the name of their layer."""
        raise NotImplementedError


class SpikingNetwork(Network):
    """A feed-forward spiking network built from a layout.

    `layers` maps names (conv1, ..., fc1, ...) to spiking layers; `readout` turns the last spikes into logits.
    """

    def __init__(self, model: Model, *, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__(model, channels=channels, size=size, classes=classes)
        self.shapes = layer_shapes(model.layout, width=model.width, channels=channels, size=size, classes=classes)
        self.layers = nn.ModuleDict({shape.name: SpikingLayer(shape, model) for shape in self.shapes[:-1]})
        self._sources = {layer.source for layer in self.spiking.values()}
        next(iter(self.spiking.values())).ordered = True
        classes, features = self.shapes[-1].weight
        self.readout = Readout(features, classes, readout_leak(model.readout, model.neuron.decay), model.timesteps)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.readout(self._features(inputs))
        return logits

    def potentials(self, inputs: Tensor) -> Tensor:
        """The output's membrane potentials [T, N, classes], whose sum over time are the logits."""
        return torch.stack(self.readout.potentials(self._features(inputs)))

    def _features(self, inputs: Tensor) -> Tensor:
        """What the readout receives: [T or 1, N, features]."""
        x = inputs.transpose(0, 1) if inputs.dim() == 5 else inputs.unsqueeze(0)  # [T or 1, N, C, H, W]
        kept: dict[str, Tensor] = {}
        for name, layer in self.spiking.items():
            x = layer(x) if layer.source is None else layer(x, kept.pop(layer.source))
            if name in self._sources:
                kept[name] = x
        return x.flatten(2)

    def draw_dropout(self, samples: int) -> None:
        """Draw all that is random of the next forward pass, while training on a CPU, of so many samples, before it."""
        for layer in self.spiking.values():
            layer.draw_dropout(samples)

    def keep_small(self) -> None:
        """Keep spikes for the backward pass in a byte each where they are exact in one: the low-memory option."""
        before: SpikingLayer | None = None
        for layer in self.spiking.values():
            # Dropout scales what it leaves, so that spikes after it are no multiples of 1/64.
            layer.keeps_small = before is not None and self.model.spiking and not before.dropout
            if layer.shortcut is not None:
                layer.shortcut.keeps_small = self.model.spiking
            before = layer

    @property
    def weighted(self) -> dict[str, WeightedLayer]:
        """Everything with weights but the readout, by the names of `LayerShape.branches`."""
        named: dict[str, WeightedLayer] = {}
        for name, layer in self.spiking.items():
            named[name] = layer
            if layer.shortcut is not None:
                named[f"{name}.shortcut"] = layer.shortcut
        return named

    @property
    def hidden(self) -> dict[str, Weighted]:
        return dict(list(self.weighted.items())[1:])

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: weight for shape in self.shapes for name, weight in shape.branches.items()}

    @property
    def spiking(self) -> dict[str, SpikingLayer]:
        """Every layer of spiking neurons."""
        return cast("dict[str, SpikingLayer]", dict(self.layers.items()))

    @property
    def neurons(self) -> dict[str, nn.Module]:
        return {name: layer.neurons for name, layer in self.spiking.items()}
