"""The part of a recipe that says how the weights of the base are compressed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tnacli.recipe.epochs import Epochs
from tnacli.recipe.section import Section


class _Compression(Section):
    start: Epochs = Field(
        "60%",
        description="epochs of full-precision training before the base is compressed, or a share of all epochs "
        "(paper: 150 of 250)",
    )


class Ternary(_Compression):
    """Weights in {-1, 0, +1} (Eq. 6) on every layer but the first and the last."""

    mode: Literal["ternary"] = "ternary"
    delta: float = Field(0.1, gt=0, description="Delta: weights within ± this become 0")


class Binary(_Compression):
    """Weights in {-1, +1}, their sign, on every layer but the first and the last."""

    mode: Literal["binary"] = "binary"


Compression = Annotated[Ternary | Binary, Field(discriminator="mode")]
