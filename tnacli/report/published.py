"""Numbers that were published: the paper's Table 3 and Figure 3b, and newer rows that are not the paper's."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tnacli.recipe.parse import plain, read_yaml, refuse_all

_PAPER = "the paper's Table 3"


class Published(BaseModel):
    """One published accuracy in %, on one data set. `timesteps` as printed; it and `network` are None where not found."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    data: str = Field(description="the data set as the recipes name it")
    weights: str = Field(description="full, ternary, binary or 2-bit")
    method: str
    network: str | None = None
    timesteps: int | str | None = None
    accuracy: float
    source: str = Field(_PAPER, description="where the number was read")
    ours: str | None = Field(None, description="the run of the recipes that reproduces it")

    @property
    def from_paper(self) -> bool:
        return self.source == _PAPER


class Difference(BaseModel):
    """How far one method is above another, in percentage points; None where only the sign is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    first: str
    second: str
    points: float | None = None
    note: str = ""


@functools.cache
def _file() -> dict[str, Any]:
    path = Path(__file__).with_name("published.yaml")
    node, problems = read_yaml(path, str(path))
    refuse_all(problems)
    found: dict[str, Any] = plain(node)
    return found


def table3() -> tuple[Published, ...]:
    """The rows of the paper's Table 3, then those from elsewhere."""
    paper = [Published(data=data, **row) for data, rows in _file()["table3"].items() for row in rows]
    others = [Published(**row) for row in _file()["not_the_papers"]]
    return (*paper, *others)


def kd_differences() -> tuple[Difference, ...]:
    """What Figure 3b says about distillation on CIFAR-100 (section 5.3.3)."""
    return tuple(Difference(**row) for row in _file()["figure_3b"])
