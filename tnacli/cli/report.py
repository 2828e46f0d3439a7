"""`tna report`: the paper's tables and figures with ours beside, from the run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion, options, sources, tables
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.documents.lists import Report
    from tnacli.report.cells import PaperPart
    from tnacli.report.contents import Group, Tables
    from tnacli.report.difference_plot import Line
    from tnacli.runs.recorded import Place


def report(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipes, or run folders; without any, all shipped ones that answer.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    table: Annotated[int | None, typer.Option("--table", help="A table of the paper: 1, 2 or 3.")] = None,
    figure: Annotated[
        str | None, typer.Option("--figure", help="A figure of the paper: 2, 3, 3a or 3b; --save draws it.")
    ] = None,
    section: Annotated[str | None, typer.Option("--section", help="A section of the paper: 5.3.1 or 5.3.3.")] = None,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", help="Only this run of the recipes. Repeatable.", autocompletion=completion.runs),
    ] = None,
    seed: sources.Seeds = None,
    overlays: options.With = None,
    overrides: options.Set = None,
    out: options.Out = Path("runs"),
    against: sources.Against = None,
    split: sources.Split = "test",
    ledger: sources.Ledger = None,
    data_root: options.DataRoot = None,
    format: tables.Format = "rich",
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            "-o",
            metavar="FILE",
            help="Write a picture (.png, .svg, .pdf), a page (.html) or tables (.md, .csv, .tex, .json; CSV in several "
            "files, NAME-1.csv, NAME-2.csv, ...).",
        ),
    ] = None,
    draw: tables.Draw = "curves",
    title: tables.Title = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 6 if a number is outside its tolerance, an effect does not hold, or none could be judged.",
        ),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Set the paper's numbers and ours side by side; without arguments, Tables 1 and 2. Nothing is trained.

    Runs are looked up by what they compute: give the same --with and --set as in training. Numbers are judged in the paper's
    own setting alone. Its effects, differences between runs over the same seeds, are judged in any setting, with all seeds
    asked for and at least three: each holds, is not shown, or is contradicted. Every other run of a recipe is compared with
    its first one, or with --against RUN, over the seeds that both have. To choose between settings, compare them by
    --split validation: by samples held out of the training set.

    Examples:

      tna report --table 1

      tna report table2_cifar100 --with laptop --format md --check

      tna report --figure 2 --save fig2.png

      tna report quickstart --save quickstart.html

      tna report claims_cifar10 --ledger docs/results

      tna report quickstart --set "objective.alpha=[1e-2,1e-3]" --save alpha.png

      tna report claims_cifar10 --ledger docs/results --save differences.svg --draw differences
    """
    from tnacli.errors import UsageError
    from tnacli.report.cells import PaperPart, is_run_folder
    from tnacli.report.check import check as checked
    from tnacli.report.contents import all_cells, tables_of
    from tnacli.report.plots import PICTURES

    format = tables.known_format(format, as_json)
    output = Output(format == "json", quiet)
    tables.require_known_drawing(draw, save)
    if sum(asked is not None for asked in (table, figure, section)) > 1:
        raise UsageError("--table, --figure and --section exclude each other; give one")
    if table not in (None, 1, 2, 3):
        raise UsageError(f"the paper has tables 1, 2 and 3; there is no Table {table}")
    references = sources.without_failed_starts(output, recipes or ())
    if against is not None and any(map(is_run_folder, references)):
        raise UsageError("--against names a run of a recipe; `tna compare FOLDER FOLDER` compares run folders")
    part = PaperPart(table, figure, section)
    if split == "validation" and (check or part != PaperPart() or not references):
        raise UsageError(
            "--split validation: the paper's numbers are of test sets; name recipes, and leave out --table, --figure, --section "
            "and --check"
        )
    place = sources.place_of(ledger, out)
    groups = _groups(
        references, part, overlays=overlays or [], overrides=overrides or [], runs=run or [],
        seeds=seed or [], place=place, data_root=data_root,
    )  # fmt: skip
    groups = [_compare(_on_split(group, split), against) for group in groups]
    shown = tables_of(groups, figure)
    if save is not None:
        tables.say_written(output, _save(save, groups, shown, draw=draw, figure=figure, title=title))
        if save.suffix.lower() in PICTURES:
            tables.say_missing(output, all_cells(groups))
    if save is None or check or output.as_json:
        tables.print_tables(output, format, shown.all, partial(_document, groups, shown))
    for hint in _hints(groups, place):
        output.say(hint)
    if check:
        output.say(checked(all_cells(groups), shown.judged))


def _groups(
    references: Sequence[str], part: PaperPart, *, overlays: Sequence[str], overrides: Sequence[str], runs: Sequence[str],
    seeds: Sequence[int], place: Place, data_root: str | None,
) -> list[Group]:  # fmt: skip
    from tnacli.cli.common import with_data
    from tnacli.errors import UsageError
    from tnacli.report.cells import PaperPart, cell_of_folder, cells_of, is_run_folder, recipes_for
    from tnacli.report.changed import compared
    from tnacli.report.contents import Group
    from tnacli.report.effects import effects_of
    from tnacli.runs.store import RunFolder

    folders = [Path(reference) for reference in references if is_run_folder(reference)]
    named = [reference for reference in references if not is_run_folder(reference)]
    if folders and any((part != PaperPart(), overlays, overrides, runs, seeds)):
        raise UsageError(
            f"{folders[0]} is one run with settings of its own; options that choose runs belong to recipes"
        )
    groups: list[Group] = []
    for path in folders:
        cell = cell_of_folder(RunFolder(path))
        (cell,) = compared([dataclasses.replace(cell, settings=with_data(cell.settings, data_root))])
        groups.append(Group(f"{cell.recipe}: {cell.name}, seed {cell.seeds[0]}", "", [cell]))
    if folders and not named:
        return groups
    numbers = [1, 2] if not named and part == PaperPart() else [part.table]
    for number in numbers:
        # Table 3 is other people's; ours in it come from the runs of Table 2.
        wanted = dataclasses.replace(part, table=2 if number == 3 else number)
        loaded = recipes_for(named, wanted, overlays=overlays, overrides=overrides)
        for one in loaded:
            placed = {name: with_data(settings, data_root) for name, settings in one.recipe.runs.items()}
            one = dataclasses.replace(one, recipe=one.recipe.model_copy(update={"runs": placed}))
            cells = list(compared(cells_of(one, place, runs=runs, seeds=seeds)))
            groups.append(
                Group(one.recipe.name, one.recipe.description, cells, effects_of(one, cells), number, sweeps=one.sweeps)
            )
    return groups


def _on_split(group: Group, split: str) -> Group:
    """The same with accuracies on that split; the paper's effects are of test sets."""
    cells = list(sources.on_split(group.cells, split))
    return group._replace(cells=cells, effects=group.effects if split == "test" else ())


def _compare(group: Group, against: str | None) -> Group:
    """The same with the differences of its runs from the one `against`, or its first."""
    from tnacli.report.differences import differences_from

    reference = sources.reference_among(group.cells, against, group.name)
    return group._replace(differences=tuple(differences_from(group.cells, reference)))


def _hints(groups: Sequence[Group], place: Place) -> list[str]:
    """Where a recipe has no result but runs of its own under overlays or overrides: that these must be asked for."""
    from tnacli.runs.recorded import results_below

    hints = []
    for group in groups:
        if any(cell.results for cell in group.cells):
            continue
        recipe = group.cells[0].recipe
        ways = list(dict.fromkeys(", ".join(r.altered) for r in results_below(place, recipe) if r.altered))
        if ways:
            where = f"below {place / recipe}" if isinstance(place, Path) else f"in {place.path}"
            hints.append(f"{recipe}: none of these runs is finished, but others are, {where}: {' | '.join(ways)}; "
                         f"give the same --with and --set to see them")  # fmt: skip
    return hints


def _document(groups: Sequence[Group], shown: Tables) -> Report:
    from tnacli.cli.documents import lists
    from tnacli.cli.documents.compare import Difference
    from tnacli.report.check import counts
    from tnacli.report.contents import all_cells
    from tnacli.report.table import rows_by_key

    cells = all_cells(groups)
    return lists.Report(
        split=cells[0].split,
        tables=[
            lists.Table(
                title=table.title,
                columns=[lists.Column(key=column.key, title=column.title) for column in table.columns],
                rows=rows_by_key(table),
                notes=table.notes,
            )
            for table in shown.numbers
        ],
        differences=[Difference.model_validate(row) for table in shown.differences for row in rows_by_key(table)],
        effects=[lists.Effect.model_validate(row) for table in shown.effects for row in rows_by_key(table)],
        counts=lists.Counts.model_validate(counts(cells, shown.judged)),
        changed_data=[
            lists.ChangedData(recipe=cell.recipe, run=cell.name, seed=seed, folder=cell.folders[seed].path, changes=how)
            for cell in cells
            for seed, how in cell.changed_files.items()
        ],
    )


def _save(
    path: Path, groups: Sequence[Group], shown: Tables, *, draw: str, figure: str | None, title: str | None
) -> list[Path]:
    """Write a picture, a page or tables; the files written. Without a `title` it is that of the figure, or the recipes'."""
    from tnacli.report.contents import all_cells
    from tnacli.report.curves import METRICS, curves
    from tnacli.report.plots import PICTURES, save_figure, save_panels
    from tnacli.report.sweep import points_of
    from tnacli.storage import write_atomically

    suffix, cells = path.suffix.lower(), all_cells(groups)
    if suffix in PICTURES:
        usual = f"Figure {figure}" if figure else ", ".join(group.name for group in groups)
        title = usual if title is None else title
        if draw == "differences":
            from tnacli.report.difference_plot import save_differences

            save_differences(path, _lines(shown), title=title, split=cells[0].split)
        elif figure is not None and figure.startswith("3"):
            panels = [(_what(group), curves(group.cells)) for group in groups]
            save_panels(path, panels, "val_accuracy", title=title)
        elif figure is None and any(group.sweeps for group in groups):
            from tnacli.report.sweep_plot import save_sweeps

            swept = [
                (sweep, group.cells) for group in groups for sweep in group.sweeps if points_of(group.cells, sweep)
            ]
            save_sweeps(path, swept, title=title)
        else:
            save_figure(path, curves(cells), list(METRICS), title=title)
    elif suffix == ".html":
        from tnacli.report.page import page

        usual, description = groups[0][:2] if len(groups) == 1 else ("tna report", "")
        compared = [*shown.differences, *shown.effects]
        text = page(title or usual, description, cells, compared, lines=_lines(shown), made_by=_made_by())
        write_atomically(path, text.encode(errors="backslashreplace"))
    else:
        return tables.save_tables(path, shown.all, partial(_document, groups, shown), others=[*PICTURES, ".html"])
    return [path]


def _lines(shown: Tables) -> dict[str, list[Line]]:
    """Of a picture: the paper's effects, or where the recipes name none, the differences that the tables show."""
    from tnacli.report.difference_plot import lines_of

    return lines_of(shown.judged or shown.corrected)


def _made_by() -> str:
    """The command, the program and the time, for the foot of a page."""
    import datetime
    import shlex
    import sys

    from tnacli.version import __version__

    now = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    return f"$ {shlex.join(['tna', *sys.argv[1:]])} · tnacli {__version__} · {now}"


def _what(group: Group) -> str:
    """The heading of a panel of Figure 3: one method by alpha, or several methods."""
    from tnacli.report.cells import method

    methods = list(dict.fromkeys(method(cell.settings) for cell in group.cells))
    return f"(a) {methods[0]} by α" if len(methods) == 1 else "(b) methods compared"
