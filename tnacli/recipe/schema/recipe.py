"""What a recipe may say: frozen models, every field described, unknown keys refused.

A recipe describes a set of runs over shared settings. `Settings` is what one run computes, before its seed; a run of the
recipe is a partial `Settings` laid over the shared one. Fields that the paper leaves open are marked "open" with the
default chosen in docs/reproduction.md. Everything under `runtime`, and where the data lies, changes where and how fast a
result is computed but not which, and is left out of a run's identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.layout import hidden_layers, layer_shapes
from tnacli.recipe.schema.compression import Compression
from tnacli.recipe.schema.data import Data
from tnacli.recipe.schema.epochs import Epochs, in_epochs
from tnacli.recipe.schema.matching import matching_misfits, timestep_misfits
from tnacli.recipe.schema.misfit import Misfit, refuse
from tnacli.recipe.schema.model import Model
from tnacli.recipe.schema.objective import Logits, Objective, Solo, Twin
from tnacli.recipe.schema.patterns import DEVICE, NAME, RUN
from tnacli.recipe.schema.reproduces import Reproduces, unknown_runs
from tnacli.recipe.schema.section import Later, Positive, Section
from tnacli.recipe.schema.siblings import models_of, twin_misfits


class Schedule(Section):
    """The learning rate over the epochs: multiplied by gamma once every so often."""

    gamma: float = Field(0.928, gt=0, le=1, description="decay factor")
    every: Epochs = Field(
        "2%", description="open: epochs between two decays, or a share of all epochs (2% of 250 epochs: every 5)"
    )
    at_compression: Literal["continue", "restart"] = Field(
        "continue", description="open: whether the rate goes on or starts again when the base is compressed"
    )

    @field_validator("every")
    @classmethod
    def _some(cls, every: int | str) -> int | str:
        if not in_epochs(every, 1):
            raise ValueError("must be above 0; set gamma to 1 for a rate that stays")
        return every


class Train(Section):
    """How the weights are found."""

    epochs: int = Field(250, ge=0, description="passes over the training samples; 0 trains nothing")
    batch_size: Positive = Field(256, description="samples a step")
    learning_rate: float = Field(0.01, gt=0, description="Adam's initial learning rate")
    schedule: Schedule = Field(Schedule(), description="how the learning rate falls")
    initial: Annotated[str | None, Later()] = Field(
        None,
        description="a checkpoint, or the folder of its run, whose weights the networks start from, as seen from this file; a "
        "twin that it does not have starts fresh (default: all do)",
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "fp32",
        description="arithmetic of training, evaluation is fp32 always; fp32: IEEE; tf32: products on CUDA; bf16, fp16: "
        "autocast, fp16 with scaled losses; auto: bf16 where the hardware is good at it, so that results differ between machines",
    )
    cross_entropy: Annotated[Logits, Later()] = Field(
        "summed",
        description="of the logits summed over time (paper), or of those of each timestep (the output's membrane potentials), "
        "averaged over time (TET, Deng 2022)",
    )
    select: Literal["last", "val", "test"] = Field(
        "last",
        description="the epoch whose weights are the result: the last, the best on the validation samples, "
        "or the best on the test set (as papers do; marked wherever shown)",
    )
    evaluate_every: Annotated[Positive, Later()] = Field(
        1, description="epochs between two evaluations, after the last one always; select chooses among those evaluated"
    )


class Runtime(Section):
    """Where and how a run is executed. Nothing here changes what is computed.

    But for `sync_batch_norm: false` with several processes, and `deterministic: false` on CUDA, which results are marked with
    wherever they are shown.
    """

    device: Annotated[str, Field(pattern=DEVICE)] = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    checkpoint_every: Positive | Literal["auto"] = Field(
        "auto",
        description="epochs between two checkpoints; auto: at the end of an epoch five minutes or more after the last one. "
        "Either way before compression, where another run of the recipe branches off, on a stop and at the end",
    )
    sync_batch_norm: bool = Field(
        True, description="batch norm over the samples of all processes (torchrun), or over each process's own"
    )
    threads: Positive | Literal["auto"] = Field(
        "auto",
        description="CPU threads; auto: all cores (or OMP_NUM_THREADS), and one where steps are too small to share",
    )
    memory: Literal["normal", "low"] = Field(
        "normal",
        description="low: spikes are kept in a byte each, freed memory is returned; the same result, more slowly",
    )
    deterministic: bool = Field(
        True,
        description="on CUDA: the same bits every time; false: cuDNN takes what it times as fastest, so that a run that is "
        "repeated or resumed ends a little differently",
    )
    compile: Literal["on", "off"] = Field(
        "off", description="torch.compile from batch norm to pooling, on the CPU; on CUDA there are kernels of our own"
    )


class Settings(Section):
    """Everything that one run computes, but for its seed."""

    data: Data = Field(Data(), description="which samples")
    model: Model = Field(Model(), description="the spiking network")
    objective: Objective = Field(Solo(), description="what is minimised: solo, twin or distill")
    compression: Compression | None = Field(None, description="ternary or binary weights; none is full precision")
    train: Train = Field(Train(), description="how the weights are found")
    runtime: Runtime = Field(Runtime(), description="where and how it is executed")

    @model_validator(mode="after")
    def _cross(self) -> Settings:
        refuse(self._misfits())
        return self

    def uncompressed(self) -> Settings:
        """The same in full precision throughout."""
        schedule = self.train.schedule.model_copy(update={"at_compression": "continue"})
        train = self.train.model_copy(update={"schedule": schedule})
        return self.model_copy(update={"compression": None, "train": train})

    def _misfits(self) -> Iterator[Misfit]:
        spec, train, compression = DATASETS[self.data.name], self.train, self.compression
        size, layout = self.data.size or spec.size, self.model.layout
        if size is not None and self.model.build is None:
            try:
                layer_shapes(layout, width=self.model.width, channels=spec.channels or 1, size=size, classes=2)
            except ValueError as error:
                yield Misfit(f"does not fit: {error}", ("model.layout", "data.size", "data.name"))
        if isinstance(self.objective, Twin):
            yield from twin_misfits(
                self.model, self.objective, channels=spec.channels or 1, size=size, events=spec.is_events
            )
        if not isinstance(self.objective, Solo):
            yield from matching_misfits(self.model, self.objective, train.epochs)
        if self.objective.temporal is not None:
            yield from timestep_misfits("objective.temporal", models_of(self.model, self.objective))
        if train.cross_entropy == "per_timestep":
            yield from timestep_misfits("train.cross_entropy", models_of(self.model, self.objective))
        if self.runtime.memory == "low" and (not self.model.spiking or self.model.build is not None):
            which = "a network of your own" if self.model.spiking else "an artificial network"
            text = f"has no effect on {which}; it shrinks the spikes of networks built from a layout. Leave it out"
            yield Misfit(text, ("runtime.memory", "model.build", "model.spiking"))
        if self.runtime.compile == "on" and not self.model.spiking:
            text = "has no effect on an artificial network; it compiles the neurons of spiking layers. Leave it out"
            yield Misfit(text, ("runtime.compile", "model.spiking"))
        if train.select == "val" and not self.data.validation_samples:
            text = "is val, and data.validation_samples is 0; hold some samples out"
            yield Misfit(text, ("train.select", "data.validation_samples"))
        if compression is None:
            if train.schedule.at_compression == "restart":
                text = "has no effect without compression; leave it out, or say how to compress under compression"
                yield Misfit(text, ("train.schedule.at_compression", "compression"))
            return
        start, gradual = in_epochs(compression.start, train.epochs), compression.gradual
        if start >= train.epochs and (start or train.epochs):
            yield Misfit(
                f"is {compression.start} and train.epochs is {train.epochs}, which leaves no epoch to train after "
                f"compression; compress earlier, or train longer",
                ("compression.start", "train.epochs", "compression.mode"),
            )
        elif gradual is not None and start + in_epochs(gradual.over, train.epochs) >= train.epochs:
            yield Misfit(
                f"is {gradual.over} after compression.start {compression.start} and train.epochs is {train.epochs}, which "
                f"leaves no epoch to train after the last layer's compression; begin earlier, or spread it over fewer epochs",
                ("compression.gradual.over", "compression.start", "train.epochs", "compression.gradual"),
            )
        if self.model.build is None and not hidden_layers(layout):
            text = "acts on the layers between the first and the readout, and this layout has none"
            yield Misfit(text, ("compression.mode", "model.layout"))


class Recipe(Section):
    """A set of runs over shared settings and a list of seeds."""

    name: Annotated[str, Field(pattern=NAME)] = Field(description="names the folder of the results")
    description: str = Field("", description="what it reproduces and what it leaves open")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, strict=False, description="every run is trained once a seed"
    )
    export: bool = Field(
        False, description="write a packed file beside the checkpoint of every compressed run, and evaluate it"
    )
    reproduces: Reproduces = Field(Reproduces(), description="the paper's numbers that the runs answer to")
    thresholds: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(
        {},
        description="your own: test accuracy in % that a run's mean over all its seeds must reach (`tna report --check`)",
    )
    runs: dict[Annotated[str, Field(pattern=RUN)], Settings] = Field(
        min_length=1, description="the runs, each a partial set of settings over the shared ones"
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is listed twice; list each once")
        return seeds

    @model_validator(mode="after")
    def _runs(self) -> Recipe:
        siblings = {name: len(getattr(run.objective, "siblings", ())) for name, run in self.runs.items()}
        refuse(self.reproduces.misfits(siblings))
        refuse(unknown_runs(((f"thresholds.{name}", name) for name in self.thresholds), tuple(siblings)))
        undecided = [name for name, run in self.runs.items() if run.train.precision == "auto"]
        if undecided and self.reproduces != Reproduces():
            text = (
                "is auto, which is another arithmetic on another machine, and this recipe says what it reproduces; name one, "
                "such as fp32"
            )
            refuse([Misfit(text, (f"runs.{name}.train.precision",)) for name in undecided])
        artificial = [name for name, run in self.runs.items() if run.compression is not None and not run.model.spiking]
        if self.export and artificial:
            text = (
                f"packs spiking networks alone, and model.spiking is false in {', '.join(artificial)}; leave export out"
            )
            refuse([Misfit(text, ("export",))])
        return self


def as_json(section: Section) -> dict[str, Any]:
    """A section as plain JSON values, every field present, as stored in checkpoints and run folders."""
    return section.model_dump(mode="json")
