"""The parts of a packed file's document: its input, neurons, layers, readout and origin, every key checked.

docs/packed-format.md describes each key.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tnacli.packed.codec import ENCODINGS
from tnacli.recipe.schema.section import Section, Whole

Count = Annotated[int, Field(ge=1, le=1 << 32)]
Side = Annotated[int, Field(ge=1, le=1 << 14)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
# What has to stay a normal, positive number once it is rounded to fp32.
Positive32 = Annotated[float, Field(ge=2.0**-126, le=2.0**127)]
Finite32 = Annotated[float, Field(ge=-(2.0**127), le=2.0**127)]
Share = Annotated[float, Field(ge=0, le=1)]
Stride = Annotated[Literal[1, 2], Whole]
EXACT_POOLS = (1, 2, 4, 8)
"""Sides of squares whose means are exact in fp32. The last layer, whose means the readout takes, has others too, in version 4."""


class InputSpec(Section):
    """What the network takes: images [channels, *size], or T event frames of that shape.

    `mean` and `std` are per channel, of pixels scaled to [0, 1]; None where inputs are not normalised.
    """

    kind: Literal["images", "events"]
    channels: Count
    size: tuple[Side, Side]
    mean: tuple[Finite32, ...] | None = None
    std: tuple[Positive32, ...] | None = None

    def shape(self, timesteps: int) -> tuple[int, ...]:
        """Of one sample: (channels, *size), or so many frames of that."""
        frames = () if self.kind == "images" else (timesteps,)
        return *frames, self.channels, *self.size

    @model_validator(mode="after")
    def _consistent(self) -> InputSpec:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together")
        if self.mean is not None and self.std is not None:
            if self.kind == "events":
                raise ValueError("event frames are counts and are not normalised")
            if not len(self.mean) == len(self.std) == self.channels:
                raise ValueError(f"mean and std need one value for each of the {self.channels} channels")
        return self


class NeuronSpec(Section):
    """The constants of hidden neurons (Eq. 1): of all, or of one layer.

    A spike takes `subtract` away from the potential; None: all of it. There are `most_spikes` in a timestep at most, one for
    each time that the threshold fits into the potential, which is `lowest` at least after them. The last three are in version 3
    alone.
    """

    decay: Share
    threshold: Positive32
    subtract: Positive32 | None = None
    most_spikes: Annotated[int, Field(ge=1, le=127)] = 1
    lowest: Annotated[float, Field(ge=-(2.0**127), le=0)] | None = None

    @model_validator(mode="after")
    def _leaves_something(self) -> NeuronSpec:
        if self.most_spikes > 1 and self.subtract is None:
            raise ValueError("more than one spike in a timestep needs a subtract")
        return self


class ConvolutionSpec(Section):
    """The ternary convolution of a shortcut; `weight` is (out, in, kernel, kernel)."""

    weight: tuple[Count, Count, Count, Count]
    stride: Stride
    encoding: Literal["ternary2", "ternary5"]
    binary: bool

    @property
    def around(self) -> int:
        """Zeros around its input, on each side."""
        return self.weight[-1] // 2

    @property
    def groups(self) -> int:
        return 1

    @property
    def fan_in(self) -> int:
        return prod(self.weight[1:])

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of its weights as stored: rows of bytes."""
        return self.weight[0], ENCODINGS[self.encoding].row_bytes(self.fan_in)


class ShortcutSpec(Section):
    """What a layer's neurons receive besides: the spikes after the pooling of the earlier layer `source`.

    They are a current as they are, or go through a convolution.
    """

    source: Name
    convolution: ConvolutionSpec | None


class MaxPoolSpec(Section):
    """Maximum pooling over squares of `size`, one every `stride` places, `padding` places around the map left out of them.

    It is of the spikes that leave the neurons, or of the currents that they receive, which are then fewer.
    """

    of: Literal["spikes", "currents"]
    size: Annotated[int, Field(ge=2, le=8)]
    stride: Annotated[int, Field(ge=1, le=8)]
    padding: Annotated[int, Field(ge=0, le=4)]

    @model_validator(mode="after")
    def _meets_the_map(self) -> MaxPoolSpec:
        if 2 * self.padding > self.size:
            raise ValueError(f"a padding of {self.padding} is more than half of {self.size}")
        return self


class LayerSpec(Section):
    """One layer of weights and spiking neurons; `weight` is (out, in / groups, kernel, kernel) or (out, in).

    `stride` and `shortcut` are in version 2 and later, all after them in version 3, the last two in version 4. `source` is the
    layer whose spikes the weights meet, None for the one before; the spikes that leave the layer `added` are added to its own.
    """

    name: Name
    kind: Literal["conv", "fc"]
    weight: tuple[Count, Count] | tuple[Count, Count, Count, Count]
    pool: Annotated[int, Field(ge=1, le=11)] = 1
    encoding: Literal["fp32", "ternary2", "ternary5"]
    binary: bool = False
    stride: Stride = 1
    shortcut: ShortcutSpec | None = None
    max_pool: MaxPoolSpec | None = None
    neuron: NeuronSpec | None = None
    padding: Annotated[int, Field(ge=0, le=1 << 14)] | None = None
    groups: Count = 1
    source: Name | None = None
    added: Name | None = None

    @property
    def around(self) -> int:
        """Zeros around the input of a convolution, on each side: half the kernel unless `padding` says otherwise."""
        if len(self.weight) == 2:
            return 0
        return self.weight[-1] // 2 if self.padding is None else self.padding

    @property
    def fan_in(self) -> int:
        return prod(self.weight[1:])

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of its weights as stored: their own in fp32, else rows of bytes."""
        if self.encoding == "fp32":
            return self.weight
        return self.weight[0], ENCODINGS[self.encoding].row_bytes(self.fan_in)


class ReadoutSpec(Section):
    """The output layer; `weight` is (classes, features), `leak` the share of the potential kept from step to
    step.
    """

    weight: tuple[Count, Count]
    leak: Share


class Origin(Section):
    """Where a network came from. Nothing here changes what it computes.

    `identity` is that of the run (`tnacli.recipe.identity`), `altered` its overlays and overrides, `accuracy`
    in % on all of the run's test samples at export. `format`, `binning`, `sensor` and `test_samples` are the
    run's own settings of its data (`tnacli.recipe.schema.data.Data`): with them the file is measured on the samples
    that its checkpoint was.
    """

    data_set: str
    recipe: str
    run: str
    seed: int
    identity: str
    altered: tuple[str, ...] = ()
    accuracy: Annotated[float, Field(ge=0, le=100)] | None = None
    format: Literal["auto", "official", "folder", "generated"] = "auto"
    binning: Literal["count", "time"] = "count"
    sensor: tuple[Side, Side] | None = None
    test_samples: Count | None = None
