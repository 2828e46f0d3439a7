"""One table object, and the formats it can be written in: Markdown, CSV, LaTeX and JSON. A terminal's is drawn by the CLI."""

from __future__ import annotations

import csv as csv_module
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tnacli.report.statistics import Spread

Value = str | int | float | bool | Spread | None
"""What a cell may hold; None is an empty cell."""

FORMATS = ("rich", "md", "csv", "latex", "json")


@dataclass(frozen=True)
class Column:
    """One column: its key in JSON and CSV, its heading for people, and how its numbers are written."""

    key: str
    title: str
    decimals: int = 2
    signed: bool = False
    number: bool = False


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

    def for_people(self) -> Table:
        """The same without the columns that no row has a value in, but for the first; one without rows stays as it is."""
        used = [n for n in range(len(self.columns)) if n == 0 or any(row[n] not in (None, "") for row in self.rows)]
        if not self.rows:
            return self
        rows = tuple(tuple(row[n] for n in used) for row in self.rows)
        return Table(self.title, tuple(self.columns[n] for n in used), rows, self.notes)


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
        case float():
            return _number(value, column)
    return str(value)


def _number(value: float, column: Column) -> str:
    written = f"{value:{'+' if column.signed else ''}.{column.decimals}f}"
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
    """Comma-separated values at full precision, keys as header; mean ± std becomes three columns `_mean`, `_std`, `_n`.

    The title is no part of it.
    """
    spreads = {n for n in range(len(table.columns)) if any(isinstance(row[n], Spread) for row in table.rows)}
    file = io.StringIO()
    writer = csv_module.writer(file, lineterminator="\n")
    keys = [column.key for column in table.columns]
    writer.writerow(
        [
            name
            for n, key in enumerate(keys)
            for name in ([f"{key}_mean", f"{key}_std", f"{key}_n"] if n in spreads else [key])
        ]
    )
    for row in table.rows:
        writer.writerow([field for n, value in enumerate(row) for field in _fields(value, n in spreads)])
    return file.getvalue()


def _fields(value: Value, wide: bool) -> Iterator[Any]:
    if wide:
        found = value if isinstance(value, Spread) else None
        yield from ("", "", "") if found is None else (found.mean, "" if found.std is None else found.std, found.count)
    else:
        yield "" if value is None else str(value).lower() if isinstance(value, bool) else value


def latex(table: Table) -> str:
    """A `table` environment with booktabs rules; needs `\\usepackage{booktabs}`. Columns without values are left out."""
    table = table.for_people()
    alignment = "".join("r" if column.number else "l" for column in table.columns)
    rows = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in table.texts()]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule",
        " & ".join(_tex(column.title) for column in table.columns) + r" \\", r"\midrule", *rows, r"\bottomrule",
        r"\end{tabular}", *(rf"\par\footnotesize {_tex(note)}" for note in table.notes), r"\end{table}", "",
    ])  # fmt: skip


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "Δ": r"$\Delta$", "α": r"$\alpha$", "≤": r"$\leq$",
    "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def _tex(plain: str) -> str:
    escaped = "".join(_TEX.get(char, char) for char in plain)
    return "$-$" + escaped[1:] if plain[:1] == "-" and plain[1:2].isdigit() else escaped


def document(table: Table) -> dict[str, Any]:
    """The table as JSON values: `rows` maps keys of columns to values, mean ± std as `{mean, std, count}`."""
    return {
        "title": table.title,
        "columns": [{"key": column.key, "title": column.title} for column in table.columns],
        "rows": [
            {column.key: _json(value) for column, value in zip(table.columns, row, strict=True)} for row in table.rows
        ],
        "notes": list(table.notes),
    }


def _json(value: Value) -> Any:
    return {"mean": value.mean, "std": value.std, "count": value.count} if isinstance(value, Spread) else value
