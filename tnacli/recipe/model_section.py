"""The part of a recipe that says what the spiking network is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tnacli.recipe.layout import NAMED_LAYOUTS, layer_shapes, notation
from tnacli.recipe.misfit import Misfit, refuse
from tnacli.recipe.section import Section

Probability = Annotated[float, Field(ge=0, lt=1)]


class Neuron(Section):
    """The leaky integrate-and-fire neuron (Eq. 1) and its surrogate gradient (Eq. 4)."""

    decay: float = Field(0.5, ge=0, le=1, description="open: share of the membrane potential kept from step to step")
    threshold: float = Field(1.0, gt=0, description="open: membrane potential at which a neuron spikes")
    detach_reset: bool = Field(True, description="open: whether gradients stop at the reset")
    surrogate_height: float = Field(0.5, gt=0, description="ds/du inside the window (Eq. 4: 0.5)")
    surrogate_window: float = Field(0.5, gt=0, description="half-width of the window around the threshold (Eq. 4: 0.5)")


class Model(Section):
    """The spiking network."""

    layout: str = Field("cifarnet", description="a named layout (cifarnet) or one spelled out: 128C3-AP2-512FC")
    width: float = Field(1.0, gt=0, le=16, description="multiplies the feature maps and neurons of every hidden layer")
    timesteps: int = Field(5, ge=1, le=1000, description="T, the simulation steps of a sample")
    neuron: Neuron = Field(Neuron(), description="the neuron of every hidden layer")
    norm: Literal["batch", "none"] = Field("batch", description="open: batch norm behind every hidden layer's weights")
    readout: Literal["leaky", "sum"] = Field(
        "leaky", description="open: whether output neurons leak like neurons that never spike, or only sum their input"
    )
    dropout: Probability = Field(0.2, description="dropout on the fully connected layers (paper: 0.2; CIFAR10-DVS 0.5)")

    @field_validator("layout")
    @classmethod
    def _readable(cls, layout: str) -> str:
        try:
            layer_shapes(layout, width=1.0, channels=3, size=(1 << 12, 1 << 12), classes=10)
        except ValueError as error:
            refuse([Misfit(str(error), got=layout, among=tuple(NAMED_LAYOUTS))])
        return layout

    @model_validator(mode="after")
    def _effective(self) -> Model:
        # The default passes, so that settings stored with all their values can be read again.
        default = type(self).model_fields["dropout"].default
        if self.dropout not in (0, default) and "FC" not in notation(self.layout):
            text = "acts on fully connected hidden layers, and this layout has none; leave it out, or set it to 0"
            refuse([Misfit(text, ("dropout", "layout"))])
        return self
