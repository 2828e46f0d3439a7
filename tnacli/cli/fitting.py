"""How a table is made to fit a terminal: cells are folded or broken, then it becomes two tables one below the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

# A word longer than this, such as a path, may be folded to make room for the numbers of a table.
FOLDED_WIDTH = 16


@dataclass(frozen=True)
class Block:
    """A table, or some columns of it, that fits: `numbers` are the columns of numbers, `widths` those that must be given."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[bool]
    widths: Sequence[int | None]


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int) -> list[Block]:
    """The blocks to be shown one below the other, one or two; none if `width` is too narrow even for two.

    Headings are broken between words, long words of text are folded, means and intervals broken where they have two numbers. No
    number is. The second block begins with the columns that tell the rows apart.
    """
    broken = [[_broken(cell) if number else cell for cell, number in zip(row, numbers, strict=True)] for row in rows]
    for cells in (rows, broken):
        if (widths := _least_widths([columns, *cells], numbers, width)) is not None:
            return [Block(columns, cells, numbers, widths)]
    keys = _telling_apart(rows)
    for split in range(len(columns) - 1, keys, -1):
        blocks = [_block(part, columns, broken, numbers=numbers, width=width) for part in (
            [*range(split)], [*range(keys), *range(split, len(columns))]
        )]  # fmt: skip
        found = [block for block in blocks if block is not None]
        if len(found) == 2:
            return found
    return []


def _block(
    part: Sequence[int], columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[bool], width: int
) -> Block | None:
    heads, cells, of_numbers = (
        [columns[n] for n in part],
        [[row[n] for n in part] for row in rows],
        [numbers[n] for n in part],
    )
    widths = _least_widths([heads, *cells], of_numbers, width)
    return None if widths is None else Block(heads, cells, of_numbers, widths)


def _telling_apart(rows: Sequence[Sequence[str]]) -> int:
    """How many columns from the left tell the rows apart; 1 where all do not."""
    for count in range(1, len(rows[0]) if rows else 1):
        if len({tuple(row[:count]) for row in rows}) == len(rows):
            return count
    return 1


def _broken(number: str) -> str:
    """A mean with its standard deviation, or an interval, in two lines."""
    return number.replace(" ± ", "\n± ").replace(" to ", " to\n")


def _least_widths(rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int) -> list[int | None] | None:
    """Widths that keep every number whole in `width`, as far as they must be given; None if it is too narrow."""
    natural, least = 3 * len(numbers) - 1, 2 * len(numbers)  # between columns, and at both edges
    widths: list[int | None] = []
    for n, number in enumerate(numbers):
        header, *cells = (row[n] for row in rows)
        lines = [line for cell in cells for line in cell.split("\n")]
        words = max(map(cell_len, [*header.split(), *(() if number else " ".join(cells).split())]), default=0)
        widths.append(max([words, *map(cell_len, lines)]) if number else None)
        natural += max(map(cell_len, (header, *lines)))
        least += widths[-1] or min(words, FOLDED_WIDTH)
    if natural <= width:
        return [None] * len(numbers)
    return widths if least <= width else None


def without_shared_folder(column: Sequence[object]) -> tuple[Path, list[str]] | None:
    """The folder in which all paths of a column lie, and the paths from there; None if that is nothing, or not all are paths."""
    paths = [value for value in column if isinstance(value, Path)]
    if len(paths) < len(column) or len(set(paths)) < 2:
        return None
    if len({path.is_absolute() for path in paths}) > 1:
        return None
    shared = Path(os.path.commonpath([path.parent for path in paths]) or ".")
    return (
        None if shared in (Path(), Path(shared.anchor)) else (shared, [str(path.relative_to(shared)) for path in paths])
    )
