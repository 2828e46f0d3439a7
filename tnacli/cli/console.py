"""Where output goes: data to stdout, progress and messages to stderr, as tables on a terminal and as plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO, cast

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tnacli.cli import document
from tnacli.cli.fitting import Block, fitted, without_shared_folder
from tnacli.cli.streams import cell_text, encodable, lines_text

if TYPE_CHECKING:
    from tnacli.cli.documents.base import Document

# In a pipe nothing may be wrapped or cut: rich is told of a very wide terminal, and pads nothing to it.
PIPE_WIDTH = 100_000


def stream_console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, soft_wrap=True, width=None if stream.isatty() else PIPE_WIDTH)


@dataclass
class Output:
    """The two streams of one command. `quiet` drops messages, `verbose` adds detail, `as_json` replaces tables."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    stdout: Console = field(default_factory=lambda: stream_console(sys.stdout))
    stderr: Console = field(default_factory=lambda: stream_console(sys.stderr))

    @property
    def live(self) -> bool:
        """Whether progress may be redrawn in place: only on a real terminal, whatever FORCE_COLOR says."""
        return sys.stderr.isatty() and not self.quiet

    def say(self, message: str, *, style: str | None = None) -> None:
        """A message for the person watching."""
        if not self.quiet:
            self.stderr.print(escape(lines_text(message)), style=style)

    def detail(self, message: str) -> None:
        """A message for the person who asked for more."""
        if self.verbose:
            self.say(message, style="dim")

    def warn(self, message: str) -> None:
        """A warning; shown even when quiet."""
        self.stderr.print(f"[yellow]warning:[/] {escape(lines_text(message))}")

    def document(self, value: Document | list[Document]) -> None:
        """The one JSON document of a command so far; printed when it ends."""
        document.hold(value)

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
    ) -> None:
        """A table; the columns named in `right` are numbers. In a pipe: no frame, two spaces between columns, nothing cut.

        Where it does not fit a terminal: paths without the folder that they share, which the title says; then folded and broken
        as `fitted` does; and at worst a line for each cell that is not empty (as psql's expanded display).
        """
        title, columns = self._shown(title), list(map(self._shown, columns))
        numbers = [name in map(self._shown, right) for name in columns]
        headed = any(columns)
        if not self.stdout.is_terminal:
            cells = self._texts(rows)
            self._plain_table(title, [list(columns), *cells] if headed else cells, numbers)
            return
        if not headed:
            self._framed_table(title, Block(columns, self._texts(rows), numbers, [None] * len(columns)))
            return
        blocks = fitted(columns, self._texts(rows), numbers, self.stdout.width)
        if len(blocks) != 1 or any(blocks[0].widths):
            title, rows = _with_short_paths(title, columns, rows)
            blocks = fitted(columns, self._texts(rows), numbers, self.stdout.width)
        for block in blocks:
            self._framed_table(title if block is blocks[0] else "", block)
        if not blocks:
            self._expanded_table(title, columns, self._texts(rows))

    def _texts(self, rows: Sequence[Sequence[object]]) -> list[list[str]]:
        return [["" if cell is None else self._shown(str(cell)) for cell in row] for row in rows]

    def _framed_table(self, title: str, block: Block) -> None:
        headed = any(block.columns)
        table = Table(
            title=escape(title) if title else None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD if headed else None,
            show_header=headed,
            pad_edge=False,
        )
        if any(block.widths):
            table.padding = (0, 1, 0, 0)
        for column, number, width in zip(block.columns, block.numbers, block.widths, strict=True):
            table.add_column(escape(column), justify="right" if number else "left", overflow="fold", width=width)
        for row in block.rows:
            table.add_row(*map(escape, row))
        self.stdout.print(table)

    def _shown(self, text: str) -> str:
        """`text` as stdout will show it, so that widths are those of what is shown."""
        return encodable(cell_text(text), cast(TextIO, self.stdout.file))

    def _expanded_table(self, title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        margin = max(map(len, columns))
        lines = [title] if title else []
        for number, row in enumerate(cells):
            lines += [""] if number else []
            lines += [f"{name:<{margin}}  {cell}" for name, cell in zip(columns, row, strict=True) if cell]
        self.stdout.file.write("\n".join([*lines, ""]))

    def _plain_table(self, title: str, rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
        widths = [max(len(row[i]) for row in rows) for i in range(len(right))] if rows else []
        lines = [title] if title else []
        for row in rows:
            padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
            lines.append("  ".join(padded).rstrip())
        self.stdout.file.write("\n".join([*lines, ""]))

    def line(self, text: str) -> None:
        """One line of data."""
        self.stdout.print(escape(lines_text(text)))


def _with_short_paths(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> tuple[str, list[list[object]]]:
    """The same table with its paths from the folder that all of a column share, which the title says."""
    shown = [list(row) for row in rows]
    for n, name in enumerate(columns):
        found = without_shared_folder([row[n] for row in rows])
        if found is not None:
            folder, short = found
            title = f"{title + ', ' if title else ''}{name} below {folder}"
            for row, text in zip(shown, short, strict=True):
                row[n] = text
    return title, shown


def coloured(stream: TextIO) -> bool:
    """Whether `stream` gets colour, by rich's rules: terminals do unless NO_COLOR is set, others if FORCE_COLOR is."""
    return stream_console(stream).color_system is not None and not stream_console(stream).no_color


def size_text(size_bytes: float) -> str:
    """A file size for people, in decimal units: 11.3 MB."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.2f} GB"


def duration_text(seconds: float) -> str:
    """A duration for people: 8.2 s, 3:05 min, 2:10:00 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"
