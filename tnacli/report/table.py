"""One table object, and the formats it can be written in: Markdown, CSV, LaTeX and JSON. A terminal's is drawn by the CLI."""

from __future__ import annotations

import csv as csv_module
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tnacli.report.statistics import Interval, Spread


@dataclass(frozen=True)
class Shown:
    """A value that people read as `text`: the number 0.001 as 1e-3, a count as "2 of 5 seeds"."""

    value: str | int | float | bool | None
    text: str


Value = str | int | float | bool | Spread | Interval | Shown | None
"""What a cell may hold; None is an empty cell."""

FORMATS = ("rich", "md", "csv", "latex", "json")


@dataclass(frozen=True)
class Column:
    """One column: its key in JSON and CSV, its heading for people, and how its numbers are written.

    `data_only` columns are for JSON and CSV, and people have what they say in another one.
    """

    key: str
    title: str
    decimals: int = 2
    signed: bool = False
    number: bool = False
    data_only: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table; every row has one value a column. `notes` are said below it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row has {len(row)} values for {len(self.columns)} columns")

    def texts(self) -> list[list[str]]:
        """Every value as people read it."""
        return [[text(value, column) for value, column in zip(row, self.columns, strict=True)] for row in self.rows]

    def for_people(self, *, notes_once: bool = True) -> Table:
        """The same without columns for data only, and without those that no row has a value in, but for the first.

        What the column `notes` says of every row is said once, below, unless rows may be read without what is below them.
        """
        common, all_rows = self._common_notes() if notes_once else ([], self.rows)
        used = [
            n
            for n, column in enumerate(self.columns)
            if not column.data_only and (n == 0 or not all_rows or any(text(row[n], column) for row in all_rows))
        ]
        rows = tuple(tuple(row[n] for n in used) for row in all_rows)
        notes = (f"all rows: {'; '.join(common)}",) if common else ()
        return Table(self.title, tuple(self.columns[n] for n in used), rows, (*notes, *self.notes))

    def _common_notes(self) -> tuple[list[str], tuple[tuple[Value, ...], ...]]:
        """What the notes of all rows have in common, of several rows, and the rows without it."""
        place = next((n for n, column in enumerate(self.columns) if column.key == "notes"), None)
        if place is None or len(self.rows) < 2:
            return [], self.rows
        said = [text(row[place], self.columns[place]).split("; ") for row in self.rows]
        common = [note for note in said[0] if note and all(note in others for others in said)]
        own = ["; ".join(note for note in notes if note not in common) for notes in said]
        rows = [(*row[:place], notes, *row[place + 1 :]) for row, notes in zip(self.rows, own, strict=True)]
        return common, tuple(rows)


def text(value: Value, column: Column) -> str:
    """One value as people read it: `71.90 ± 0.31`, `+0.42`, `yes`, or nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Spread():
            mean = _number(value.mean, column)
            return mean if value.std is None else f"{mean} ± {value.std:.{column.decimals}f}"
        case Interval():
            return f"{_number(value.low, column)} to {_number(value.high, column)}"
        case Shown():
            return value.text
        case float():
            return _number(value, column)
    return str(value)


def _number(value: float, column: Column) -> str:
    written = f"{value:{'+' if column.signed else ''}.{column.decimals}f}"
    if not column.signed and value > 0 and float(written) == 0:
        return f"< {10.0**-column.decimals:.{column.decimals}f}"  # such as p
    # A rounded-away difference has no sign.
    return written.replace("-", "").replace("+", "") if float(written) == 0 else written


def markdown(table: Table) -> str:
    """A GitHub-flavoured table below its title in bold, notes below; columns without values are left out."""
    table = table.for_people()
    header = [column.title for column in table.columns]
    rules = ["---:" if column.number else "---" for column in table.columns]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in table.texts()]
    lines = [f"**{table.title}**", "", *(f"| {' | '.join(row)} |" for row in (header, rules, *rows))]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def csv(table: Table) -> str:
    """Comma-separated values at full precision, keys as header.

    mean ± std becomes three columns `_mean`, `_std`, `_count`, an interval two, `_low` and `_high`. The title is no part of it.
    """
    parts = [_parts(row[n] for row in table.rows) for n in range(len(table.columns))]
    file = io.StringIO()
    writer = csv_module.writer(file, lineterminator="\n")
    keys = [column.key for column in table.columns]
    writer.writerow(
        [name for key, own in zip(keys, parts, strict=True) for name in ([f"{key}_{p}" for p in own] or [key])]
    )
    for row in table.rows:
        writer.writerow([field for value, own in zip(row, parts, strict=True) for field in _fields(_json(value), own)])
    return file.getvalue()


def _parts(column: Iterable[Value]) -> list[str]:
    """The names of what a mean or an interval in the column consists of; none for simple values."""
    return next(([f.name for f in fields(value)] for value in column if isinstance(value, Spread | Interval)), [])


def _fields(value: Any, parts: Sequence[str]) -> Iterator[Any]:
    for one in [(value or {}).get(part) for part in parts] if parts else [value]:
        yield "" if one is None else str(one).lower() if isinstance(one, bool) else one


def latex(table: Table) -> str:
    """A `table` environment with booktabs rules, `\\label{tab:...}` made of the title, and notes below at the table's left.

    Needs `\\usepackage{booktabs}`. Columns without values are left out.
    """
    table = table.for_people()
    alignment = "".join("r" if column.number else "l" for column in table.columns)
    rows = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in table.texts()]
    notes = [
        r"\begin{flushleft}\footnotesize", *(rf"{_tex(note)}\par" for note in table.notes), r"\end{flushleft}"
    ] if table.notes else []  # fmt: skip
    label = "-".join(re.findall("[a-z0-9]+", table.title.lower())) or "table"
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}", rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{alignment}}}", r"\toprule",
        " & ".join(_tex(column.title) for column in table.columns) + r" \\", r"\midrule", *rows, r"\bottomrule",
        r"\end{tabular}", *notes, r"\end{table}", "",
    ])  # fmt: skip


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "Δ": r"$\Delta$", "α": r"$\alpha$", "≤": r"$\leq$",
    "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def _tex(plain: str) -> str:
    escaped = "".join(_TEX.get(char, char) for char in plain)
    return "$-$" + escaped[1:] if plain[:1] == "-" and plain[1:2].isdigit() else escaped


def rows_by_key(table: Table) -> list[dict[str, Any]]:
    """The rows as JSON values by keys of columns: mean ± std is `{mean, std, count}`, an interval `{low, high}`."""
    return [{column.key: _json(value) for column, value in zip(table.columns, row, strict=True)} for row in table.rows]


def _json(value: Value) -> Any:
    if isinstance(value, Shown):
        return value.value
    return asdict(value) if isinstance(value, Spread | Interval) else value
