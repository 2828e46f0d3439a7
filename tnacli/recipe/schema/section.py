"""What all parts of a recipe have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


def _whole(value: Any) -> Any:
    if type(value) is not int:
        raise ValueError("Input should be a valid integer")
    return value


Whole = BeforeValidator(_whole)
"""Marks a choice of integers, `Annotated[Literal[1, 2], Whole]`: strictness alone takes true and 1.0 for 1 there."""


@dataclass(frozen=True)
class Later:
    """Marks a field that came when runs had been stored already: `Annotated[int, Later()]`.

    At its default it computes what was computed before it was there, so it is left out of a run's identity then.
    """


class Section(BaseModel):
    """A part of a recipe: immutable, strict about types, and with no key that is not listed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def without_later_defaults(value: Any, dumped: Any) -> Any:
    """`dumped`, the JSON values of the section `value`, without later fields that are at their default, at any depth."""
    if isinstance(value, tuple):
        return [without_later_defaults(*pair) for pair in zip(value, dumped, strict=True)]
    if not isinstance(value, Section):
        return dumped
    fields = type(value).model_fields
    return {
        name: without_later_defaults(getattr(value, name), inner)
        for name, inner in dumped.items()
        if getattr(value, name) != fields[name].default
        or not any(isinstance(mark, Later) for mark in fields[name].metadata)
    }
