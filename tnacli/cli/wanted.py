"""What a command wants to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnacli.recipe.identity import Run


@dataclass(frozen=True)
class Wanted:
    """Runs to be trained below `out`, and how.

    `fresh` trains finished ones anew, and `export` packs those that are compressed. `time_limit` is in minutes. `tensorboard`
    is a folder to log into. `coming` are runs of another time: full-precision ones keep the checkpoints that they begin from.
    """

    runs: tuple[Run, ...]
    out: Path
    fresh: bool = False
    export: bool = False
    time_limit: float | None = None
    tensorboard: Path | None = None
    coming: tuple[Run, ...] = ()

    @property
    def known(self) -> tuple[Run, ...]:
        """The runs of now and of another time."""
        return (*self.runs, *self.coming)

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds."""
        return None if self.time_limit is None else 60 * self.time_limit
