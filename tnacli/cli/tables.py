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
    from tnacli.report.cells import Cell
    from tnacli.report.table import Table

Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="rich, md, csv, latex or json.",
        autocompletion=completion.words("rich", "md", "csv", "latex", "json"),
    ),
]
Title = Annotated[
    str | None, typer.Option("--title", help='Title of the picture or page of --save; "" for a picture without one.')
]
Draw = Annotated[
    str,
    typer.Option(
        "--draw",
        metavar="curves|differences",
        help="What the picture of --save shows: training by epoch, or differences with their intervals.",
    ),
]
_SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


def require_known_drawing(draw: str, save: Path | None) -> None:
    """Raises UsageError for a drawing that is not known, or one of differences that no picture is asked for."""
    from tnacli.errors import UsageError
    from tnacli.report.plots import PICTURES

    if draw not in ("curves", "differences"):
        raise UsageError(f"--draw is curves or differences, not {draw!r}")
    if draw == "differences" and (save is None or save.suffix.lower() not in PICTURES):
        raise UsageError(f"--draw differences draws the picture of --save; name one ({', '.join(PICTURES)})")


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
) -> list[Path]:
    """Write tables to a file whose ending says the format; the files written.

    CSV holds one table a file: of several, NAME.csv becomes NAME-1.csv, NAME-2.csv and so on. Raises UsageError for another
    ending; it names `others`, too.
    """
    from tnacli.errors import UsageError
    from tnacli.storage import write_atomically

    suffix = path.suffix.lower()
    if suffix == ".json":
        texts = [json.dumps(document().plain(), indent=2, allow_nan=False) + "\n"]
    elif suffix == ".csv":
        texts = [_text("csv", [table]) for table in tables]
    elif suffix in _SUFFIXES:
        texts = [_text(_SUFFIXES[suffix], tables)]
    else:
        known = ", ".join([*others, *_SUFFIXES])
        raise UsageError(
            f"--save {path}: the ending says what to write, and {suffix or 'none'} is not known; known: {known}"
        )
    several = len(texts) > 1
    paths = [path.with_name(f"{path.stem}-{n}{path.suffix}") if several else path for n in range(1, len(texts) + 1)]
    for one, text in zip(paths, texts, strict=True):
        write_atomically(one, text.encode())
    return paths


def _text(format: str, tables: Sequence[Table]) -> str:
    from tnacli.report.table import csv, latex, markdown

    return "\n".join({"md": markdown, "csv": csv, "latex": latex}[format](table) for table in tables)


def say_written(output: Output, paths: Sequence[Path]) -> None:
    """Say which files were written."""
    output.say(f"wrote {', '.join(map(str, paths))}")


def say_missing(output: Output, cells: Sequence[Cell]) -> None:
    """Name the runs of which a picture has no curve, and why."""
    from tnacli.report.curves import missing_curves

    for cell, why in missing_curves(cells):
        output.say(f"no curve of {cell.name}: {why}")
