"""How runs ended that were asked for, whichever process trained them, and what comes of it for the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tnacli.errors import DivergedError, RunBusyError, Stopped

if TYPE_CHECKING:
    from tnacli.cli.documents import base as documents
    from tnacli.experiment import Outcome
    from tnacli.exporting import Exported
    from tnacli.recipe.identity import Run


@dataclass(frozen=True)
class Done:
    """A run with its result, trained or taken from disk, and its packed file if one was asked for."""

    outcome: Outcome
    packed: Exported | None = None

    @property
    def run(self) -> Run:
        return self.outcome.run


@dataclass(frozen=True)
class Diverged:
    """A run that came to no result: its own training diverged, or that of its teacher (`taught`). `message` says why."""

    run: Run
    message: str
    taught: bool = False

    @property
    def note(self) -> str:
        """What a table says of it."""
        return f"seed {self.run.seed}: {self.message}" if self.taught else f"seed {self.run.seed} diverged"


@dataclass(frozen=True)
class Busy:
    """A run that was left out: another process is training it, or its teacher."""

    run: Run
    message: str


@dataclass(frozen=True)
class Killed:
    """A run whose process was killed, or stopped by itself, before its end; `message` says by what."""

    run: Run
    message: str


Ending = Done | Diverged | Busy | Killed


@dataclass
class Trained:
    """What runs came to; `packed` are the packed files of compressed ones by identity.

    `ended` is what ended the training before the last run, if anything did.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    packed: dict[str, Exported] = field(default_factory=dict)
    diverged: list[Diverged] = field(default_factory=list)
    busy: list[Busy] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    ended: Exception | None = None

    def add(self, ending: Ending) -> None:
        """Take up how one run ended."""
        match ending:
            case Done():
                self.outcomes.append(ending.outcome)
                if ending.packed is not None:
                    self.packed[ending.run.identity] = ending.packed
            case Diverged():
                self.diverged.append(ending)
            case Busy():
                self.busy.append(ending)
            case Killed():
                self.killed.append(ending)

    def sort(self, runs: Sequence[Run]) -> None:
        """Put all in the order of `runs`, whatever the order they ended in."""
        place = {run.identity: number for number, run in enumerate(runs)}
        for endings in (self.outcomes, self.diverged, self.busy, self.killed):
            endings.sort(key=lambda ending: place[ending.run.identity])

    def document(self) -> list[documents.Diverged]:
        """Those that diverged, as documents list them."""
        from tnacli.cli.documents.base import Diverged

        return [
            Diverged(recipe=d.run.recipe, run=d.run.name, seed=d.run.seed, identity=d.run.identity, message=d.message)
            for d in self.diverged
        ]

    def refuse_unfinished(self) -> None:
        """Raise what left runs without a result, after the results that there are have been shown.

        That is what ended the training early; Stopped or RunBusyError if runs were killed or are another process's, which the
        same command goes on with; DivergedError if all others have ended.
        """
        if self.ended is not None:
            raise self.ended
        count = len(self.outcomes) + len(self.diverged) + len(self.busy) + len(self.killed)
        if self.killed:
            raise Stopped(
                f"{len(self.killed)} of {count} runs ended early: {_names(self.killed)}; {self.killed[0].message}. Every "
                f"checkpoint and result so far is whole. The same command goes on from there."
            )
        if len(self.busy) == 1 == count:
            raise RunBusyError(self.busy[0].message)
        if self.busy:
            raise RunBusyError(
                f"{len(self.busy)} of {count} runs are being trained by another process: {_names(self.busy)}; wait for it to "
                f"end, then run the same command: finished runs are taken from disk"
            )
        if self.diverged:
            raise DivergedError(
                f"{len(self.diverged)} of {count} runs diverged: {_names(self.diverged)}; the warnings above say why"
            )


def _names(endings: Sequence[Diverged | Busy | Killed]) -> str:
    return ", ".join(f"{one.run.name} seed {one.run.seed}" for one in endings)
