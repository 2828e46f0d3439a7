"""Settings that are well formed and do not fit together: what the cross-field checks of the schema raise.

They carry the keys involved, so that the loader can point at the line that is to blame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError


@dataclass(frozen=True)
class Misfit:
    """One thing that does not fit, in words for the user.

    `keys` are the dotted keys involved, relative to the section that checks; `text` speaks of the first one,
    as in "has no effect without compression". `got` and `among` are a word that was not known and the words
    that are, from which a closest one is suggested.
    """

    text: str
    keys: tuple[str, ...] = ()
    got: str = ""
    among: tuple[str, ...] = ()


class MisfitError(ValueError):
    """All the misfits of one section; a ValueError, which is what pydantic lets a validator raise."""

    def __init__(self, misfits: tuple[Misfit, ...]) -> None:
        self.misfits = misfits
        super().__init__("; ".join(misfit.text for misfit in misfits))


def refuse(misfits: Iterable[Misfit]) -> None:
    """Raise MisfitError if there are any."""
    if found := tuple(misfits):
        raise MisfitError(found)


class Complaint(NamedTuple):
    """One thing that is wrong with the values of a section: the dotted key, "" of the section itself, and what it is.

    `misfit` says that the text goes on from the key ("has no effect ..."), and is no sentence of its own.
    """

    key: str
    text: str
    misfit: bool

    def __str__(self) -> str:
        return f"{self.key}{' ' if self.misfit else ': '}{self.text}"


def complaints(error: ValidationError) -> Iterator[Complaint]:
    """Everything that is wrong, each misfit by itself: for values that no file holds; `recipe.parse` points at lines."""
    for details in error.errors():
        loc, cause = [str(part) for part in details["loc"]], details.get("ctx", {}).get("error")
        if isinstance(cause, MisfitError):
            yield from (Complaint(".".join([*loc, *misfit.keys[:1]]), misfit.text, True) for misfit in cause.misfits)
        else:
            yield Complaint(".".join(loc), details["msg"].removeprefix("Value error, "), False)
