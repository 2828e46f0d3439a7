"""The part of a recipe that says what is minimised."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tnacli.recipe.schema.epochs import Epochs
from tnacli.recipe.schema.misfit import Misfit, refuse
from tnacli.recipe.schema.model import Model, readable
from tnacli.recipe.schema.section import Later, Section

DEFAULT_TEMPERATURE = 4.0


class Temporal(Section):
    """Temporal self-distillation: the logits of each timestep are taught by those of all timesteps together.

    The loss is the KL divergence from the softened distribution of the logits averaged over time, taken as a constant, to that
    of each timestep's, times the squared temperature, averaged over time and samples (Yu et al. 2025, "Efficient logit-based
    knowledge distillation of deep spiking neural networks for full-range timestep deployment").
    """

    alpha: float = Field(gt=0, description="weight of the loss")
    temperature: float = Field(DEFAULT_TEMPERATURE, gt=0, description="softens the logits of both sides")


class Supervised(Section):
    """What all objectives have: each network trained has its own losses."""

    temporal: Annotated[Temporal | None, Later()] = Field(
        None,
        description="temporal self-distillation: all timesteps together teach each of them; none is without (paper)",
    )


class Solo(Supervised):
    """One network, cross-entropy."""

    kind: Literal["solo"] = "solo"


Match = Literal["mse", "kl"]
Reduction = Literal["sum", "batch_mean", "mean"]
Logits = Literal["summed", "per_timestep"]
"""What a loss is taken of: logits summed over time, or those of each timestep, the output's membrane potentials."""


class Matching(Supervised):
    """How the logits of two networks are pulled together."""

    alpha: float = Field(gt=0, description="weight of the matching loss (Eq. 5)")
    match: Match = Field(
        "mse", description="squared difference of logits, or temperature-scaled KL divergence (Hinton 2015)"
    )
    reduction: Reduction = Field(
        "batch_mean",
        description="open: matching summed over batch and classes, summed over classes and averaged over the batch, "
        "or averaged over both",
    )
    logits: Annotated[Logits, Later()] = Field(
        "summed",
        description="open: what is matched: logits summed over time, or those of each timestep (the output's membrane "
        "potentials), whose squared differences are then summed over time",
    )
    start: Annotated[Epochs, Later()] = Field(
        0, description="epochs without the matching loss at the beginning, or a share of all epochs"
    )
    ramp: Annotated[Epochs, Later()] = Field(
        0, description="epochs after start over which the weight rises in a straight line from 0 to alpha, or a share"
    )
    temperature: float | None = Field(
        None, gt=0, description=f"softens the logits of match: kl (default {DEFAULT_TEMPERATURE:g})"
    )

    @model_validator(mode="after")
    def _temperature(self) -> Matching:
        if self.temperature is not None and self.match != "kl":
            refuse(
                [Misfit("has no effect with match: mse; it softens the logits of match: kl", ("temperature", "match"))]
            )
        return self


def _width(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 16
    share = isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?%", value) and float(value[:-1]) > 0
    if not number and not share:
        raise ValueError("must be a number above 0 and at most 16, or a share of the base's width such as 50% or 150%")
    return value


Width = Annotated[float | str, BeforeValidator(_width)]
"""A width, or text such as "50%"."""


class Sibling(Section):
    """One co-trained network beside the base; what is left out is as in the base."""

    width: Width | None = Field(
        None, description="width of the sibling, or a share of the base's width such as 50% (default: the base's)"
    )
    layout: Annotated[str | None, Later()] = Field(None, description="another architecture (default: the base's)")
    timesteps: Annotated[int | None, Later()] = Field(
        None, ge=1, le=1000, description="T of the sibling, on images (default: the base's)"
    )
    spiking: Annotated[bool | None, Later()] = Field(
        None, description="false: an artificial network (ANN) of rectified linear units (default: as the base)"
    )

    @field_validator("layout")
    @classmethod
    def _readable(cls, layout: str | None) -> str | None:
        return None if layout is None else readable(layout)

    def model(self, base: Model) -> Model:
        """What the sibling is beside a base that is `base`."""
        own = {name: value for name, value in self if value is not None}
        if isinstance(self.width, str):
            own["width"] = float(self.width[:-1]) / 100 * base.width
        # A layout takes the place of the function that builds the base, if one does.
        return base.model_copy(update={**own, "build": None, "args": {}} if self.layout is not None else own)


class Features(Section):
    """How the hidden layers of a sibling and the base are pulled together, beside their logits.

    The loss is the mean squared difference of their firing rates over time, averaged over the layers matched. Where the
    numbers of feature maps differ, or one of the two is an ANN, a linear map over the sibling's feature maps (a 1x1
    convolution) is learned with the networks, and dropped with the sibling (FitNets, Romero et al. 2015).
    """

    alpha: float = Field(gt=0, description="weight of the loss")
    layers: Annotated[tuple[str, ...], Field(strict=False)] | None = Field(
        None,
        description="layers by name, such as [conv3, fc1] (default: all that both networks have and whose maps agree in size)",
    )
    rates: Literal["neuron", "map"] = Field(
        "neuron", description="rates of single neurons, or averaged over each feature map, whose sizes may differ then"
    )

    @field_validator("layers")
    @classmethod
    def _some(cls, layers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if layers is not None and (not layers or len(set(layers)) != len(layers)):
            raise ValueError("must name layers, each once; leave it out for all")
        return layers


class Twin(Matching):
    """Twin Network Augmentation: the base and its siblings train together, each matched to the base (Eq. 5)."""

    kind: Literal["twin"] = "twin"
    siblings: tuple[Sibling, ...] = Field(
        (Sibling(),),
        min_length=1,
        strict=False,
        description="the co-trained networks; two make section 5.3.1's three networks",
    )
    features: Annotated[Features | None, Later()] = Field(
        None, description="match hidden layers too; none is logits alone (paper)"
    )
    gradient: Annotated[Literal["both", "base", "siblings"], Later()] = Field(
        "both",
        description="which networks the matching loss moves: both sides, the base alone, or the siblings alone, with the other "
        "side's logits taken as constants",
    )


class Distill(Matching):
    """Knowledge distillation from a frozen, trained network of the same architecture (section 5.3.3)."""

    kind: Literal["distill"] = "distill"
    cross_entropy: bool = Field(True, description="KD + CE if true; the matching loss alone if false")
    teacher_seed: int = Field(
        1000, ge=1, description="the teacher is the solo run whose seed is this much above the run's own"
    )


Objective = Annotated[Solo | Twin | Distill, Field(discriminator="kind")]
