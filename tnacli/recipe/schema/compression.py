"""The part of a recipe that says how the weights of the base are compressed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tnacli.recipe.schema.epochs import Epochs, in_epochs
from tnacli.recipe.schema.misfit import Misfit, refuse
from tnacli.recipe.schema.section import Later, Section

MEAN_SHARE = 0.7
"""Delta as a share of mean |w| that suits weights spread evenly or normally (ternary weight networks, Li and Liu 2016, Eq. 6)."""


class Gradual(Section):
    """One layer after the other, at equal distances in time."""

    order: Literal["forward", "backward"] = Field(
        "forward", description="from the first hidden layer to the last, or from the last to the first"
    )
    over: Epochs = Field(
        "20%",
        description="epochs from the first layer's compression, which is at compression.start, to the last's, or a share "
        "of all epochs",
    )

    @field_validator("over")
    @classmethod
    def _some(cls, over: int | str) -> int | str:
        if not in_epochs(over, 1):
            raise ValueError("must be above 0; leave gradual out to compress all layers at once")
        return over


class _Compression(Section):
    start: Epochs = Field(
        "60%",
        description="epochs of full-precision training before the base is compressed, or a share of all epochs "
        "(paper: 150 of 250)",
    )
    gradual: Annotated[Gradual | None, Later()] = Field(
        None, description="compress one layer after the other; none is all at once (paper)"
    )


class Ternary(_Compression):
    """Weights in {-1, 0, +1} (Eq. 6) on every layer but the first and the last."""

    mode: Literal["ternary"] = "ternary"
    delta: float = Field(0.1, gt=0, description="Delta with threshold: fixed; weights within ± this become 0")
    threshold: Annotated[Literal["fixed", "mean", "learned"], Later()] = Field(
        "fixed",
        description="where Delta comes from: fixed as delta says (paper), in each layer a share of the mean |w| of its "
        "latent weights at every step, or learned in each layer",
    )
    share: Annotated[float | None, Later()] = Field(
        None,
        gt=0,
        description=f"Delta over mean |w|, with threshold: mean, and at first with threshold: learned (default {MEAN_SHARE})",
    )

    @model_validator(mode="after")
    def _effective(self) -> Ternary:
        # The default passes, so that settings stored with all their values can be read again.
        if self.threshold != "fixed" and self.delta != type(self).model_fields["delta"].default:
            text = f"has no effect with threshold: {self.threshold}; Delta follows from share there"
            refuse([Misfit(text, ("delta", "threshold"))])
        if self.threshold == "fixed" and self.share is not None:
            text = "has no effect with threshold: fixed; it sets Delta with threshold: mean or learned"
            refuse([Misfit(text, ("share", "threshold"))])
        return self


class Binary(_Compression):
    """Weights in {-1, +1}, their sign, on every layer but the first and the last."""

    mode: Literal["binary"] = "binary"


Compression = Annotated[Ternary | Binary, Field(discriminator="mode")]
