"""What training takes, by arithmetic from the shapes of the layers: operations and memory. No time: that is the machine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.layout import LayerShape, layer_shapes
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Distill
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.siblings import models_of


@dataclass(frozen=True)
class Costs:
    """Of all networks of a run. An operation is a multiplication or an addition.

    `sample_flop` are those of one training sample, forward and backward; `run_flop` of all epochs, None where the number of
    samples is only known from the user's files. `step_bytes` is the most that a training step holds in fp32 on the CPU with
    the compiled kernels, weights and optimiser included; None where those do not apply. Evaluation is not counted.
    """

    sample_flop: int
    run_flop: int | None
    step_bytes: int | None


@dataclass(frozen=True)
class Sample:
    """What a network is fed with: the shape of an image, or of each of the frames of a recording; and the number of classes.

    `train` and `test` are the numbers of samples, where only the user's own files say; those held out count as training's.
    """

    channels: int
    size: tuple[int, int]
    classes: int
    frames: bool = False
    train: int | None = None
    test: int | None = None

    def shapes(self, model: Model) -> tuple[LayerShape, ...]:
        """The layers of `model` for such samples."""
        return layer_shapes(
            model.layout, width=model.width, channels=self.channels, size=self.size, classes=self.classes
        )


def sample_of(settings: Settings, seen: Sample | None = None) -> Sample | None:
    """A sample of the data of `settings`, `seen` where it depends on the user's own files and these were looked at.

    None where they were not, and where the user's own code makes the network.
    """
    spec = DATASETS[settings.data.name]
    size = settings.data.size or spec.size
    if seen is not None and settings.model.build is None:
        return seen
    if spec.channels is None or spec.classes is None or size is None or settings.model.build is not None:
        return None
    return Sample(spec.channels, size, spec.classes, spec.is_events)


def training_samples(settings: Settings, seen: Sample | None = None) -> int | None:
    """How many there are, those held out included; None where only the user's own files say, and these were not `seen`."""
    there = None if seen is None else seen.train
    return settings.data.train_samples or DATASETS[settings.data.name].train or there


def steps_of_epoch(settings: Settings, seen: Sample | None = None) -> int | None:
    """Training steps; None where the number of samples is not known (`training_samples`)."""
    samples = training_samples(settings, seen)
    return None if samples is None else -(-(samples - settings.data.validation_samples) // settings.train.batch_size)


def multiply_accumulates(shapes: Sequence[LayerShape], timesteps: int, *, frames: bool) -> tuple[int, int]:
    """Those of one sample's forward pass over all timesteps: of the first layer, and of the others.

    The first is computed once for an image, which is the same at every timestep, and for each of the `frames` of a recording.
    """
    first, *rest = (sum(prod(shape.out) * prod(weight[1:]) for weight in shape.branches.values()) for shape in shapes)
    return first * (timesteps if frames else 1), timesteps * sum(rest)


def costs(settings: Settings, seen: Sample | None = None) -> Costs | None:
    """What a run of `settings` takes, its compression not counted; `seen` of the user's own files, where these were looked at.

    None where layers are known from nothing else.
    """
    data, sample = settings.data, sample_of(settings, seen)
    if sample is None:
        return None
    models = list(models_of(settings.model, settings.objective).values())
    flop = 0
    for model in models:
        first, rest = multiply_accumulates(sample.shapes(model), _steps(model), frames=sample.frames)
        # Backward takes a pass for the weights and one for the input, which the first layer's needs no gradient of.
        flop += 2 * (2 * first + 3 * rest)
    if isinstance(settings.objective, Distill):
        teacher = settings.model  # forward alone
        flop += 2 * sum(multiply_accumulates(sample.shapes(teacher), _steps(teacher), frames=sample.frames))
    samples = training_samples(settings, sample)
    total = None if samples is None else flop * settings.train.epochs * (samples - data.validation_samples)
    kept = [_kept_bytes(sample, model, settings.train.batch_size) for model in models]
    fused = all(model.spiking and model.norm == "batch" and model.neuron.detach_reset for model in models)
    simple = settings.runtime.memory == "normal" and not isinstance(settings.objective, Distill)
    held = sum(part for part, _ in kept) + max(passing for _, passing in kept)
    return Costs(flop, total, held if fused and simple and settings.train.precision == "fp32" else None)


def _steps(model: Model) -> int:
    """How often hidden layers are computed: an ANN's once."""
    return model.timesteps if model.spiking else 1


def _kept_bytes(sample: Sample, model: Model, batch: int) -> tuple[int, int]:
    """What a network keeps from forward to backward, with its weights; and the largest gradient passed back between layers.

    Each layer keeps its summed input (of one timestep for the first, if it sees an image), 2 bits a neuron and timestep, and its
    pooled spikes as the next one's input; each parameter has a weight, a gradient and Adam's two moments. Batch norm's are left
    out.
    """
    shapes, timesteps = sample.shapes(model), model.timesteps
    parameters = sum(prod(weight) for shape in shapes for weight in shape.branches.values())
    spikes = [4 * batch * timesteps * prod(shape.pooled) for shape in shapes[:-1]]
    kept = 16 * parameters + sum(spikes)
    for number, shape in enumerate(shapes[:-1]):
        neurons = batch * prod(shape.out)
        branches = len(shape.branches) * (timesteps if number or sample.frames else 1)
        kept += 4 * neurons * branches + neurons * timesteps // 4
    return kept, max(spikes)
