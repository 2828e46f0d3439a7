"""What a training step takes on CUDA, by arithmetic from the shapes of the layers: memory, memory traffic, and a guess at time.

The memory is that of the tensors alone, as PyTorch and the operator of `tnacli.snn.triton_lif` make and free them, one after
the other: no allocator's fragments, no workspace of cuDNN. Tests hold it to what a fake step counts (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from tnacli.recipe.costs import Sample, multiply_accumulates, sample_of
from tnacli.recipe.layout import LayerShape
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.siblings import models_of

LONGEST = 32
"""The timesteps that the operator of `tnacli.snn.triton_lif` is for."""


@dataclass(frozen=True)
class GPUStep:
    """Of one training step: the most that its tensors hold at once, and the bytes that its kernels read and write.

    `evaluation_bytes` is the most that an evaluation holds, with the weights and Adam's moments, which stay where they are.
    `flop` are those of the whole batch, forward and backward. `layers` are those of all networks that are trained.
    """

    step_bytes: int
    evaluation_bytes: int
    touched_bytes: int
    flop: int
    layers: int

    @property
    def peak_bytes(self) -> int:
        return max(self.step_bytes, self.evaluation_bytes)


@dataclass(frozen=True)
class _Layer:
    """Bytes of a layer: its summed inputs, its pooled spikes, and spikes that are added to its current; its weights in number.

    `flattened` is the input of a fully connected layer that maps come to.
    """

    summed: int
    spikes: int
    weights: int
    added: int = 0
    flattened: bool = False


class _Held:
    """Bytes held, and the most that were."""

    def __init__(self, there: int) -> None:
        self.now = self.most = there

    def hold(self, *sizes: int) -> None:
        self.now += sum(sizes)
        self.most = max(self.most, self.now)

    def free(self, *sizes: int) -> None:
        self.now -= sum(sizes)


def gpu_step(settings: Settings, sample: Sample | None = None, *, processes: int = 1) -> GPUStep | None:
    """A step of `settings` on CUDA, on one of so many `processes` that share each batch; None where that is not known.

    That is so where layers are only known from the user's files or code, and where the operator does not apply. `sample` is
    what one is where it is known already.
    """
    sample = sample or sample_of(settings)
    models = list(models_of(settings.model, settings.objective).values())
    if sample is None or not all(map(_applies, models)):
        return None
    batch = -(-settings.train.batch_size // processes)
    size = 2 if settings.train.precision in ("bf16", "fp16") else 4
    networks = [_layers(model, sample, batch, size) for model in models]
    parameters = sum(layer.weights for layers in networks for layer in layers)
    teachers = 4 * sum(layer.weights for layer in networks[0]) if isinstance(settings.objective, Distill) else 0
    compressed = 4 * sum(layer.weights for layer in networks[0][1:-1]) if settings.compression else 0
    pixels = sample.channels * prod(sample.size) * (models[0].timesteps if sample.frames else 1)
    inputs = batch * pixels * (4 if size == 4 else 4 + size)
    held = _Held(12 * parameters + teachers + inputs)  # weights and Adam's two moments
    low = settings.runtime.memory == "low"
    for layers in networks:
        _forward(held, layers, size, low=low)
    held.hold(compressed if size == 4 else 0)  # autocast keeps its own copies instead
    for layers in reversed(networks):
        _backward(held, layers, size, low=low)
    touched = sum(_touched(layers, size, low=low) for layers in networks) + 8 * compressed
    evaluated = batch * _evaluation(sample.shapes(models[0]), models[0].timesteps, frames=sample.frames)
    macs = [multiply_accumulates(sample.shapes(model), model.timesteps, frames=sample.frames) for model in models]
    flop = sum(2 * (2 * first + 3 * rest) for first, rest in macs)
    if isinstance(settings.objective, Distill):
        flop += 2 * sum(macs[0])
        touched += _passed(networks[0])
    return GPUStep(held.most, 12 * parameters + teachers + evaluated, touched, batch * flop, sum(map(len, networks)))


def _applies(model: Model) -> bool:
    simple = model.spiking and model.norm == "batch" and model.neuron.detach_reset and model.build is None
    return simple and model.timesteps <= LONGEST


def _layers(model: Model, sample: Sample, batch: int, size: int) -> list[_Layer]:
    """Hidden layers first to last, and the readout, with elements of `size` bytes."""
    made: list[_Layer] = []
    shapes = sample.shapes(model)
    for number, shape in enumerate(shapes):
        rows = batch * (model.timesteps if number or sample.frames else 1)
        weights = sum(map(prod, shape.branches.values()))
        summed = size * rows * prod(shape.out) * len(shape.branches)
        spikes = 0 if shape is shapes[-1] else size * batch * model.timesteps * prod(shape.pooled)
        before = shapes[number - 1].pooled if number else ()
        flattened = len(shape.out) == 1 and len(before) == 3 and before[1:] != (1, 1)
        added = summed if shape.shortcut is not None and shape.shortcut.weight is None else 0
        made.append(_Layer(summed, spikes, weights, added, flattened))
    return made


def _forward(held: _Held, layers: Sequence[_Layer], size: int, *, low: bool) -> None:
    for layer in layers:
        held.hold(0 if size == 4 else size * layer.weights, layer.summed, layer.spikes)
        if low:
            held.free(layer.spikes - layer.spikes // size)


def _backward(held: _Held, layers: Sequence[_Layer], size: int, *, low: bool) -> None:
    """From the last layer to the first: through neurons and norm, then through the weights."""
    outward, copied = 0, 0  # the gradient of the layer's spikes, and its copy in the layout of convolutions
    for number in reversed(range(len(layers))):
        layer, before = layers[number], layers[number - 1].spikes if number else 0
        kept, whole = (before // size, before) if low else (before, 0)
        held.hold(copied, layer.summed)
        held.free(copied, outward, layer.summed)
        gradient, cast = size * layer.weights, 4 * layer.weights if size < 4 else 0
        held.hold(whole, before, gradient)
        held.free(whole, kept, layer.summed, size * layer.weights if cast else 0)
        held.hold(cast)
        held.free(gradient if cast else 0)
        outward, copied = before, before if layer.flattened else 0


def _touched(layers: Sequence[_Layer], size: int, *, low: bool) -> int:
    """Bytes that operators read and write, each once: a convolution's gradients are one operator."""
    weights = (28 if size == 4 else 34) * sum(layer.weights for layer in layers)  # Adam's 16, and with casts
    # Written by the weights; read for moments, forwards, for both sums and for the gradient, which is written and read.
    summed = 7 * sum(layer.summed + layer.added for layer in layers)
    # Written, read by the next layer's weights twice; their gradient written, and read twice. Kept small: packed and unpacked.
    spikes = (13 if low else 6) * sum(layer.spikes for layer in layers)
    flattened = 4 * sum(before.spikes for before, layer in pairwise(layers) if layer.flattened)
    return weights + summed + spikes + flattened


def _passed(layers: Sequence[_Layer]) -> int:
    """Bytes that a teacher's operators read and write: sums, spikes before pooling, and after."""
    return sum(2 * (layer.summed + layer.spikes) + 2 * max(layer.summed, layer.spikes) for layer in layers)


def _evaluation(shapes: Sequence[LayerShape], timesteps: int, *, frames: bool) -> int:
    """The most bytes of a sample's fp32 forward pass: a layer's input, its summed input, and its spikes before pooling."""
    most = before = 0
    for number, shape in enumerate(shapes[:-1]):
        out = prod(shape.out)
        most = max(most, before + out * (timesteps if number or frames else 1) + out * timesteps)
        before = timesteps * prod(shape.pooled)
    return 4 * most
