"""The part of a recipe that says what is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tnacli.recipe.misfit import Misfit, refuse
from tnacli.recipe.section import Section


class Solo(Section):
    """One network, cross-entropy."""

    kind: Literal["solo"] = "solo"


Match = Literal["mse", "kl"]
Reduction = Literal["sum", "batch_mean", "mean"]


class Matching(Section):
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
    temperature: float | None = Field(None, gt=0, description="softens the logits of match: kl (default 4)")

    @model_validator(mode="after")
    def _temperature(self) -> Matching:
        if self.temperature is not None and self.match != "kl":
            refuse(
                [Misfit("has no effect with match: mse; it softens the logits of match: kl", ("temperature", "match"))]
            )
        return self


class Sibling(Section):
    """One co-trained network beside the base; what is left out is as in the base."""

    width: float | None = Field(None, gt=0, le=16, description="width of the sibling (default: the base's)")


class Twin(Matching):
    """Twin Network Augmentation: the base and its siblings train together, each matched to the base (Eq. 5)."""

    kind: Literal["twin"] = "twin"
    siblings: tuple[Sibling, ...] = Field(
        (Sibling(),),
        min_length=1,
        strict=False,
        description="the co-trained networks; two make section 5.3.1's three networks",
    )


class Distill(Matching):
    """Knowledge distillation from a frozen, trained network of the same architecture (section 5.3.3)."""

    kind: Literal["distill"] = "distill"
    cross_entropy: bool = Field(True, description="KD + CE if true; the matching loss alone if false")
    teacher_seed: int = Field(
        1000, ge=1, description="the teacher is the solo run whose seed is this much above the run's own"
    )


Objective = Annotated[Solo | Twin | Distill, Field(discriminator="kind")]
