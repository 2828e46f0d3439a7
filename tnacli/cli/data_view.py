"""Shows how the reading of data goes."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from tnacli.cli.console import Output

if TYPE_CHECKING:
    from rich.progress import Progress


class DataView:
    """Shows how the reading of a data set goes: a bar on a terminal, a line at the start of each part elsewhere."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: str | None = None
        self._bar: Progress | None = None
        if output.live:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(),
                console=output.stderr, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> DataView:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """`what` is `done` of `total` far."""
        if self._bar:
            self._bar.update(self._task, description=what, completed=done, total=total, visible=done < total)
        elif what != self._said:
            self._said = what
            self._output.say(f"{what} ...")
