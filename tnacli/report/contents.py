"""What a report holds: recipes with their cells, effects and differences, and the tables made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tnacli.recipe.parse import Sweep
from tnacli.report.cells import Cell
from tnacli.report.curves import last_epoch_table
from tnacli.report.differences import Difference, all_corrected, differences_table
from tnacli.report.effects import Effect, effects_table, judged
from tnacli.report.sweep import points_of, sweep_table
from tnacli.report.table import Table
from tnacli.report.tables import NAMES, accuracy_table, table3_report, twin_table


class Group(NamedTuple):
    """The cells of a recipe, the effects it names, and the table of the paper in which they are shown, if any.

    `differences` are those of its other runs from one of them, `sweeps` those of its runs that several values made.
    """

    name: str
    description: str
    cells: list[Cell]
    effects: tuple[Effect, ...] = ()
    table: int | None = None
    differences: tuple[Difference, ...] = ()
    sweeps: tuple[Sweep, ...] = ()


class Tables(NamedTuple):
    """What is shown: tables of numbers, of differences between runs and of effects.

    `corrected` are the differences and `judged` the effects in these, with p corrected for those of their own table.
    """

    numbers: list[Table]
    differences: list[Table]
    effects: list[Table]
    corrected: list[Difference]
    judged: list[Effect]

    @property
    def all(self) -> list[Table]:
        return [*self.numbers, *self.differences, *self.effects]


def all_cells(groups: Sequence[Group]) -> list[Cell]:
    """The cells of all groups."""
    return [cell for group in groups for cell in group.cells]


def tables_of(groups: Sequence[Group], figure: str | None) -> Tables:
    """All tables of the groups, those of a figure if one is asked for."""
    found = Tables([], [], [], [], [])

    def add_comparisons(ones: Sequence[Group], title: str, number: int | None = None) -> None:
        """Differences and effects of all recipes of a table together, for as many comparisons are made in it."""
        differences = all_corrected([one for group in ones for one in group.differences])
        found.corrected.extend(differences)
        if any(one.ours or one.conflict for one in differences):
            found.differences.append(differences_table(differences, f"{title}: differences"))
        if effects := judged([effect for group in ones for effect in group.effects]):
            found.judged.extend(effects)
            # Our rows of Table 3 are the runs of Table 2.
            names = NAMES.get(2 if number == 3 else number or 0)
            found.effects.append(effects_table(effects, f"{title}: effects", number=number, names=names))

    if figure is not None:
        for group in groups:
            found.numbers.append(last_epoch_table(group.cells, f"Figure {figure}: {group.name}"))
            add_comparisons([group], f"Figure {figure}: {group.name}")
        return found
    for number in dict.fromkeys(group.table for group in groups if group.table is not None):
        ones = [group for group in groups if group.table == number]
        cells = all_cells(ones)
        found.numbers.append(table3_report(cells) if number == 3 else accuracy_table(cells, number=number))
        add_comparisons(ones, f"Table {number}", number)
    for group in groups:
        if group.table is None:
            title = f"{group.name}: {group.description}" if group.description else group.name
            found.numbers.append(accuracy_table(group.cells, title=title))
            if (twins := twin_table(group.cells)) is not None:
                found.numbers.append(twins)
            add_comparisons([group], group.name)
    for group in groups:
        found.numbers.extend(
            sweep_table(points, sweep) for sweep in group.sweeps if (points := points_of(group.cells, sweep))
        )
    return found
