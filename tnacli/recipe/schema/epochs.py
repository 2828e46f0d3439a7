"""Amounts of epochs in a recipe: whole numbers, or shares of all epochs."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator


def _epochs(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    share = isinstance(value, str) and re.fullmatch(r"(100|[0-9]{1,2}(\.[0-9]+)?)%", value)
    if not whole and not share:
        raise ValueError("must be a whole number of epochs, 0 or more, or a share of all epochs from 0% to 100%")
    return value


Epochs = Annotated[int | str, BeforeValidator(_epochs)]
"""A number of epochs, or text such as "60%"."""


def in_epochs(amount: int | str, total: int) -> float:
    """`amount` in epochs; text such as "60%" is a share of `total`."""
    return float(amount[:-1]) / 100 * total if isinstance(amount, str) else float(amount)
