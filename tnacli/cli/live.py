"""The live view of training: a line a run, how long each and all of them still take, and what is going on besides."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tnacli.cli.console import duration_text
from tnacli.recipe.costs import costs
from tnacli.recipe.identity import Run
from tnacli.training.branches import stem_of

SHORT = {
    "cross_entropy": "CE",
    "sibling_cross_entropy": "CE sibling",
    "matching": "match",
    "feature_matching": "features",
    "temporal": "temporal",
}
"""What the parts of the loss are called where there is little room."""

_BAR, _NAME = 12, 15
"""Characters that a bar takes, and a name where there is little room."""


@dataclass
class Row:
    """What is known of one run: `status` is "training" while it has epochs to show, `accuracy` in % by split."""

    run: Run
    status: str = "waiting"
    epochs: int = 0
    steps: int = 1
    epoch: float = 0.0
    step: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    samples_per_second: float | None = None
    seconds: float | None = None
    work: float = 1.0
    coming: float = 1.0  # share of the work that is left for it while it waits
    began: float = 0.0
    began_at: float = 0.0

    @property
    def label(self) -> str:
        return f"{self.run.name} seed {self.run.seed}"

    @property
    def share(self) -> float:
        """How much of its training is done, from 0 to 1."""
        return self.epoch / self.epochs if self.epochs else 0.0

    def begin(self, epochs: int, steps: int, epoch: float) -> None:
        """Training begins, or goes on from `epoch`."""
        self.status, self.epochs, self.steps, self.epoch = "training", epochs, steps, epoch
        self.began, self.began_at = time.monotonic(), self.share

    def left(self, now: float) -> float | None:
        """Seconds until it is trained, at the speed so far; None before anything can be said."""
        done = self.share - self.began_at
        return (now - self.began) * (1 - self.share) / done if self.status == "training" and done > 0 else None


class Board:
    """The rows of all runs that were asked for, of which `finished` (identities) are; drawn anew whenever it is shown."""

    def __init__(self, runs: Sequence[Run], finished: Iterable[str] = ()) -> None:
        self.rows = {run.identity: Row(run) for run in runs}
        self.activity = ""
        self.stopping = ""
        done = set(finished)
        teachers = [run.teacher for run in runs if run.teacher is not None and run.identity not in done]
        self._teachers = {run.identity: Row(run) for run in teachers if run.identity not in {*done, *self.rows}}
        for row in [*self.rows.values(), *self._teachers.values()]:
            row.coming = 0.0 if row.run.identity in done else 1.0
            stem = stem_of(row.run)
            if row.coming and stem is not None and stem[0].identity in self.rows:
                row.coming = 1 - stem[1] / row.run.settings.train.epochs
        self._weigh([*self.rows.values(), *self._teachers.values()])

    @staticmethod
    def _weigh(rows: Sequence[Row]) -> None:
        """Give every row its work: operations where they are known of all, else epochs."""
        found = [costs(row.run.settings) for row in rows]
        flop = [None if one is None else one.run_flop for one in found]
        for row, work in zip(rows, flop, strict=True):
            row.work = float(work or 1) if all(flop) else row.run.settings.train.epochs or 1.0

    def row(self, run: Run) -> Row:
        """The row of a run; a teacher gets one when it is trained."""
        if run.identity not in self.rows:
            self.rows[run.identity] = self._teachers.pop(run.identity) if run.identity in self._teachers else Row(run)
        return self.rows[run.identity]

    def progress(self, now: float) -> tuple[float, float | None]:
        """The share of all work that is done, from 0 to 1, and the seconds that the rest takes at the speed so far."""
        rows = [*self.rows.values(), *self._teachers.values()]
        left = sum(row.work * (row.coming if row.status == "waiting" else 1 - row.share)
                   for row in rows if row.status in ("waiting", "training"))  # fmt: skip
        trained = [row for row in rows if row.began]
        done = sum(row.work * (row.share - row.began_at) for row in trained)
        total = sum(row.work for row in rows)
        share = 1 - left / total if total else 1.0
        if not left or not done:
            return share, None if left else 0.0
        seconds = left * (now - min(row.began for row in trained)) / done
        return share, max([seconds, *(found for row in rows if (found := row.left(now)) is not None)])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = time.monotonic()
        yield self._table(now, options.max_width, max(4, options.size.height - 6))
        share, seconds = self.progress(now)
        ended = sum(row.status not in ("waiting", "training") for row in self.rows.values())
        left = "" if seconds is None else f", {left_text(seconds)}"
        yield Text.assemble(("all runs ", "bold"), f"{ended} of {len(self.rows)} ended, {100 * share:.0f} %{left}")
        if self.activity:
            yield Text(self.activity, style="dim", overflow="ellipsis", no_wrap=True)
        if self.stopping:
            yield Text(self.stopping, style="yellow")

    def _table(self, now: float, width: int, most: int) -> Table:
        rows = _shown(list(self.rows.values()), most)
        held_out = any(row.run.settings.data.validation_samples for row in self.rows.values())
        splits = ("validation", "test") if held_out else ("test",)
        columns: list[tuple[str, str, list[str]]] = [
            ("run", "left", [row.run.name for row in rows]),
            ("seed", "right", [str(row.run.seed) for row in rows]),
            ("epoch", "right", [_epoch(row) for row in rows]),
            ("", "left", ["━" * _BAR if row.status == "training" else "" for row in rows]),
            ("step", "right", [f"{row.step}/{row.steps}" if row.status == "training" else "" for row in rows]),
            ("base loss", "right", [_base_loss(row) for row in rows]),
            ("besides", "left", [_besides(row) for row in rows]),
            *((f"{split} %", "right", [_percent(row.accuracy.get(split)) for row in rows]) for split in splits),
            ("samples/s", "right", [_rate(row) for row in rows]),
            ("time", "right", [_time(row, now) for row in rows]),
        ]
        table = Table(box=None, pad_edge=False, header_style="dim")
        if _width(columns) > width:
            columns[0] = ("run", "left", [_cut(row.run.name) for row in rows])
        for name in ("samples/s", "step", "", "besides"):  # what goes first where there is little room
            if _width(columns) > width:
                columns = [column for column in columns if column[0] != name]
        table.padding = (0, 2 if _width(columns) + len(columns) - 1 <= width else 1, 0, 0)
        for name, justify, _ in columns:
            table.add_column(name, justify="left" if justify == "left" else "right", no_wrap=True)
        for number, row in enumerate(rows):
            cells: list[RenderableType] = [
                ProgressBar(total=1.0, completed=row.share, width=_BAR) if not name and cells[number] else cells[number]
                for name, _, cells in columns
            ]
            table.add_row(*cells, style="dim" if row.status == "waiting" else None)
        return table


def _width(columns: Sequence[tuple[str, str, list[str]]]) -> int:
    return sum(max(map(cell_len, [name, *cells])) for name, _, cells in columns) + len(columns) - 1


def _cut(name: str) -> str:
    """A long name by its beginning and end, which tells those apart that differ in one or the other."""
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[-(_NAME - 1) // 2 :]}"


def _shown(rows: list[Row], most: int) -> list[Row]:
    """The rows that there is room for: those in training, then the latest that ended, then the next ones, in their order."""
    training = [row for row in rows if row.status == "training"]
    ended = [row for row in rows if row.status not in ("training", "waiting")]
    waiting = [row for row in rows if row.status == "waiting"]
    room = max(0, most - len(training))
    kept = [*training, *waiting[: max(room - len(ended), room // 2)]]
    kept += ended[-max(0, most - len(kept)) :] if most > len(kept) else []
    return [row for row in rows if any(row is one for one in kept)]


def _epoch(row: Row) -> str:
    return f"{min(int(row.epoch) + 1, row.epochs)}/{row.epochs}" if row.status == "training" else row.status


def _base_loss(row: Row) -> str:
    loss = row.parts.get("cross_entropy", row.loss)
    return "" if loss is None else f"{loss:.3g}"


def _besides(row: Row) -> str:
    """The other parts of the loss, and what is minimised."""
    others = {name: value for name, value in row.parts.items() if name != "cross_entropy"}
    return " ".join(f"{SHORT.get(name, name).removeprefix('CE ')} {value:.3g}" for name, value in others.items())


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.2f}"


def _rate(row: Row) -> str:
    known = row.status == "training" and row.samples_per_second is not None
    return f"{row.samples_per_second:.0f}" if known else ""


def _time(row: Row, now: float) -> str:
    if row.seconds is not None:
        return duration_text(row.seconds)
    left = row.left(now)
    return "" if left is None else left_text(left)


def left_text(seconds: float) -> str:
    """How long something still takes, for people: 8 s left, 3:05 min left."""
    return (f"{seconds:.0f} s" if seconds < 59.5 else duration_text(round(seconds))) + " left"
