"""The part of a recipe that says what the spiking network is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from tnacli.recipe.layout import NAMED_LAYOUTS, notation, read_layout
from tnacli.recipe.schema.misfit import Misfit, refuse
from tnacli.recipe.schema.patterns import BUILD
from tnacli.recipe.schema.section import Later, Section

GIVEN = ("model", "channels", "size", "classes")
"""What a function under `build` is given besides `args`: see `tnacli.snn.own`."""

Probability = Annotated[float, Field(ge=0, lt=1)]


def readable(layout: str) -> str:
    """`layout` if it can be read. Raises MisfitError, with the closest name, if not."""
    try:
        read_layout(layout)
    except ValueError as error:
        refuse([Misfit(str(error), got=layout, among=tuple(NAMED_LAYOUTS))])
    return layout


class Neuron(Section):
    """The leaky integrate-and-fire neuron (Eq. 1) and its surrogate gradient (Eq. 4)."""

    decay: float = Field(0.5, ge=0, le=1, description="open: share of the membrane potential kept from step to step")
    threshold: float = Field(1.0, gt=0, description="open: membrane potential at which a neuron spikes")
    detach_reset: bool = Field(True, description="open: whether gradients stop at the reset")
    surrogate_height: float = Field(0.5, gt=0, description="ds/du inside the window (Eq. 4: 0.5)")
    surrogate_window: float = Field(0.5, gt=0, description="half-width of the window around the threshold (Eq. 4: 0.5)")


class Model(Section):
    """The spiking network."""

    layout: str = Field(
        "cifarnet", description="a named layout (cifarnet, vgg11, resnet18, ...) or one spelled out: 128C3-AP2-512FC"
    )
    build: Annotated[str | None, Later()] = Field(
        None,
        pattern=BUILD,
        description="a function that makes the network in place of a layout: package.module:function, of an installed package or "
        "beside this file; or folder/package.module:function, the folder as seen from this file",
    )
    args: Annotated[dict[str, JsonValue], Later()] = Field(
        {}, description="what the function of build is given besides"
    )
    spiking: Annotated[bool, Later()] = Field(
        True,
        description="LIF neurons, or rectified linear units: an artificial network (ANN), computed once, whose output neurons "
        "receive the same current at each of the timesteps",
    )
    width: float = Field(1.0, gt=0, le=16, description="multiplies the feature maps and neurons of every hidden layer")
    timesteps: int = Field(5, ge=1, le=1000, description="T, the simulation steps of a sample")
    neuron: Neuron = Field(Neuron(), description="the neuron of every hidden layer")
    norm: Literal["batch", "none"] = Field("batch", description="open: batch norm after every hidden layer's weights")
    readout: Literal["leaky", "sum", "none"] = Field(
        "leaky",
        description="open: whether output neurons leak like neurons that never spike, only sum their input, or keep nothing, "
        "so that logits are the sum of their inputs",
    )
    dropout: Probability = Field(0.2, description="dropout on the fully connected layers (paper: 0.2; CIFAR10-DVS 0.5)")

    @property
    def function(self) -> str | None:
        """`build` without the folder in which its module lies: the name that the function goes by everywhere."""
        return None if self.build is None else self.build.rpartition("/")[2]

    @field_validator("layout")
    @classmethod
    def _readable(cls, layout: str) -> str:
        return readable(layout)

    @model_validator(mode="after")
    def _effective(self) -> Model:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[Misfit]:
        # Defaults pass, so that settings stored with all their values can be read again.
        fields = type(self).model_fields
        if not self.spiking:
            for name, field in Neuron.model_fields.items():
                if getattr(self.neuron, name) != field.default and (name != "decay" or self.readout != "leaky"):
                    text = "has no effect with spiking: false; rectified linear units have neither threshold nor reset"
                    yield Misfit(text, (f"neuron.{name}", "spiking"))
        if self.build is None:
            if self.args:
                yield Misfit("have no effect without a function to give them to; name it in build", ("args", "build"))
            if self.dropout not in (0, fields["dropout"].default) and "FC" not in notation(self.layout):
                text = "acts on fully connected hidden layers, and this layout has none; leave it out, or set it to 0"
                yield Misfit(text, ("dropout", "layout"))
            return
        if self.layout != fields["layout"].default:
            yield Misfit("has no effect beside build, whose function says what the layers are", ("layout", "build"))
        for name in GIVEN:
            if name in self.args:
                text = f"is what the function of build is always given ({', '.join(GIVEN)}); use another name"
                yield Misfit(text, (f"args.{name}", "args"))
