"""Tables on a terminal and in a pipe, and pictures and tables in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.documents.base import Document
    from tnacli.report.table import Table

Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="rich, md, csv, latex or json.",
        autocompletion=completion.words("rich", "md", "csv", "latex", "json"),
    ),
]
_SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


def known_format(format: str, as_json: bool) -> str:
    """The format asked for. Raises UsageError for one that is not known."""
    from tnacli.errors import UsageError
    from tnacli.report.table import FORMATS

    format = "json" if as_json else format
    if format not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(FORMATS)}, not {format!r}")
    return format


def show_table(output: Output, table: Table, title: str | None = None) -> None:
    """A table as people read it, its notes as messages; in a pipe every row has all of its own."""
    shown = table.for_people(notes_once=output.stdout.is_terminal)
    output.table(
        shown.title if title is None else title, [column.title for column in shown.columns], shown.texts(),
        right=[column.title for column in shown.columns if column.number],
    )  # fmt: skip
    for note in shown.notes:
        output.say(note, style="dim")


def print_tables(output: Output, format: str, tables: Sequence[Table], document: Callable[[], Document]) -> None:
    """Write tables to stdout in one of the formats; `document` makes that of JSON."""
    if format == "json":
        output.document(document())
    elif format != "rich":
        output.stdout.file.write(_text(format, tables))
    else:
        for table in tables:
            show_table(output, table)


def save_tables(
    path: Path, tables: Sequence[Table], document: Callable[[], Document], *, others: Sequence[str]
) -> None:
    """Write tables to a file whose ending says the format. Raises UsageError for another ending; it names `others`, too."""
    from tnacli.errors import UsageError
    from tnacli.storage import write_atomically

    suffix = path.suffix.lower()
    if suffix == ".json":
        write_atomically(path, (json.dumps(document().plain(), indent=2, allow_nan=False) + "\n").encode())
    elif suffix in _SUFFIXES:
        write_atomically(path, _text(_SUFFIXES[suffix], tables).encode())
    else:
        known = ", ".join([*others, *_SUFFIXES])
        raise UsageError(
            f"--save {path}: the ending says what to write, and {suffix or 'none'} is not known; known: {known}"
        )


def _text(format: str, tables: Sequence[Table]) -> str:
    from tnacli.report.table import csv, latex, markdown

    return "\n".join({"md": markdown, "csv": csv, "latex": latex}[format](table) for table in tables)
