"""`tna report`: the paper's tables and figures with ours beside, from the run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.documents.lists import Report
    from tnacli.report.cells import PaperPart
    from tnacli.report.contents import Group, Tables

_SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


def report(
    context: typer.Context,
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
    seed: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="This seed instead of the recipes'. Repeatable.")
    ] = None,
    overlays: options.With = None,
    overrides: options.Set = None,
    out: options.Out = Path("runs"),
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--ledger",
            metavar="PATH",
            help="Read results from a ledger, or a folder of ledgers (*.jsonl), in place of run folders.",
        ),
    ] = None,
    data_root: options.DataRoot = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="rich, md, csv, latex or json.",
            autocompletion=completion.words("rich", "md", "csv", "latex", "json"),
        ),
    ] = "rich",
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="FILE",
            help="Write a picture (.png, .svg, .pdf), a page (.html) or tables (.md, .csv, .tex, .json).",
        ),
    ] = None,
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
    asked for and at least three: each holds, is not shown, or is contradicted.

    Examples:

      tna report --table 1

      tna report table2_cifar100 --with laptop --format md --check

      tna report --figure 2 --save fig2.png

      tna report quickstart --save quickstart.html

      tna report claims_cifar10 --ledger docs/results
    """
    from tnacli.errors import UsageError
    from tnacli.report.cells import PaperPart, is_failed_start
    from tnacli.report.check import check as checked
    from tnacli.report.contents import all_cells, tables_of
    from tnacli.report.table import FORMATS

    format = "json" if as_json else format
    output = Output(format == "json", quiet)
    if format not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(FORMATS)}, not {format!r}")
    if sum(asked is not None for asked in (table, figure, section)) > 1:
        raise UsageError("--table, --figure and --section exclude each other; give one")
    if table not in (None, 1, 2, 3):
        raise UsageError(f"the paper has tables 1, 2 and 3; there is no Table {table}")
    failed = [reference for reference in recipes or () if is_failed_start(reference)]
    for reference in failed:
        output.say(f"{reference}: its training never began; left out")
    recipes = [reference for reference in recipes or () if reference not in failed]
    if failed and not recipes:
        raise UsageError("no training began in any of these folders; `tna train` with the recipe begins it")
    if ledger is not None:
        out = _unpacked(context, ledger, out)
    groups = _groups(
        recipes, PaperPart(table, figure, section), overlays=overlays or [], overrides=overrides or [], runs=run or [],
        seeds=seed or [], out=out, data_root=data_root,
    )  # fmt: skip
    shown = tables_of(groups, figure)
    if save is not None:
        _save(save, groups, shown, figure)
        output.say(f"wrote {save}")
    if save is None or check or output.as_json:
        _print(output, format, groups, shown)
    for hint in _hints(groups, out):
        output.say(hint)
    if check:
        output.say(checked(all_cells(groups), shown.judged))


def _unpacked(context: typer.Context, ledger: Path, out: Path) -> Path:
    """A folder, while the command runs, of the runs of a ledger."""
    import tempfile

    from tnacli.errors import UsageError
    from tnacli.runs.ledger import read, unpack

    if out != Path("runs"):
        raise UsageError("--ledger and --out both say where results are; give one")
    folder = Path(context.with_resource(tempfile.TemporaryDirectory(prefix="tna-ledger-")))
    unpack(read(ledger), folder)
    return folder


def _groups(
    references: Sequence[str], part: PaperPart, *, overlays: Sequence[str], overrides: Sequence[str], runs: Sequence[str],
    seeds: Sequence[int], out: Path, data_root: str | None,
) -> list[Group]:  # fmt: skip
    from tnacli.cli.common import with_data
    from tnacli.errors import UsageError
    from tnacli.report.cells import PaperPart, cell_of_folder, cells_of, is_run_folder, recipes_for
    from tnacli.report.changed import compared
    from tnacli.report.contents import Group
    from tnacli.report.effects import effects_of

    folders = [Path(reference) for reference in references if is_run_folder(reference)]
    named = [reference for reference in references if not is_run_folder(reference)]
    if folders and any((part != PaperPart(), overlays, overrides, runs, seeds)):
        raise UsageError(
            f"{folders[0]} is one run with settings of its own; options that choose runs belong to recipes"
        )
    groups: list[Group] = []
    for path in folders:
        cell = cell_of_folder(path)
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
            cells = list(compared(cells_of(one, out, runs=runs, seeds=seeds)))
            groups.append(Group(one.recipe.name, one.recipe.description, cells, effects_of(one, cells), number))
    return groups


def _hints(groups: Sequence[Group], out: Path) -> list[str]:
    """Where a recipe has no result but runs of its own under overlays or overrides: that these must be asked for."""
    from tnacli.runs.store import RunFolder

    hints = []
    for group in groups:
        if any(cell.results for cell in group.cells):
            continue
        recipe = group.cells[0].recipe
        results = [RunFolder(path.parent).result for path in sorted(out.glob(f"{recipe}/*/result.json"))]
        ways = list(dict.fromkeys(", ".join(r.altered) for r in results if r and r.altered))
        if ways:
            hints.append(f"{recipe}: none of these runs is finished, but others are, below {out / recipe}: "
                         f"{' | '.join(ways)}; give the same --with and --set to see them")  # fmt: skip
    return hints


def _print(output: Output, format: str, groups: Sequence[Group], tables: Tables) -> None:
    if format == "json":
        output.document(_document(groups, tables))
    elif format != "rich":
        output.stdout.file.write(_text(format, tables))
    for table in tables.all if format == "rich" else ():
        shown = table.for_people()
        output.table(
            shown.title, [column.title for column in shown.columns], shown.texts(),
            right=[column.title for column in shown.columns if column.number],
        )  # fmt: skip
        for note in shown.notes:
            output.say(note, style="dim")


def _document(groups: Sequence[Group], tables: Tables) -> Report:
    from tnacli.cli.documents import lists
    from tnacli.report.check import counts
    from tnacli.report.contents import all_cells
    from tnacli.report.table import rows_by_key

    cells = all_cells(groups)
    return lists.Report(
        tables=[
            lists.Table(
                title=table.title,
                columns=[lists.Column(key=column.key, title=column.title) for column in table.columns],
                rows=rows_by_key(table),
                notes=table.notes,
            )
            for table in tables.numbers
        ],
        effects=[lists.Effect.model_validate(row) for table in tables.effects for row in rows_by_key(table)],
        counts=lists.Counts.model_validate(counts(cells, tables.judged)),
        changed_data=[
            lists.ChangedData(recipe=cell.recipe, run=cell.name, seed=seed, folder=cell.folders[seed].path, changes=how)
            for cell in cells
            for seed, how in cell.changed_files.items()
        ],
    )


def _text(format: str, tables: Tables) -> str:
    from tnacli.report.table import csv, latex, markdown

    return "\n".join({"md": markdown, "csv": csv, "latex": latex}[format](table) for table in tables.all)


def _save(path: Path, groups: Sequence[Group], tables: Tables, figure: str | None) -> None:
    import json

    from tnacli.errors import UsageError
    from tnacli.report.contents import all_cells
    from tnacli.report.curves import METRICS, curves
    from tnacli.report.plots import PICTURES, save_figure, save_panels
    from tnacli.storage import write_atomically

    suffix, cells = path.suffix.lower(), all_cells(groups)
    if suffix in PICTURES:
        if figure is not None and figure.startswith("3"):
            panels = [(_what(group), curves(group.cells)) for group in groups]
            save_panels(path, panels, "val_accuracy", title=f"Figure {figure}")
        else:
            title = f"Figure {figure}" if figure else ", ".join(group.name for group in groups)
            save_figure(path, curves(cells), list(METRICS), title=title)
    elif suffix == ".html":
        from tnacli.report.page import page
        from tnacli.version import __version__

        title, description = groups[0][:2] if len(groups) == 1 else ("tna report", "")
        made_by = f"written by tnacli {__version__}"
        write_atomically(path, page(title, description, cells, tables.effects, made_by=made_by).encode())
    elif suffix == ".json":
        write_atomically(
            path, (json.dumps(_document(groups, tables).plain(), indent=2, allow_nan=False) + "\n").encode()
        )
    elif suffix in _SUFFIXES:
        write_atomically(path, _text(_SUFFIXES[suffix], tables).encode())
    else:
        known = ", ".join([*PICTURES, ".html", *_SUFFIXES])
        raise UsageError(
            f"--save {path}: the ending says what to write, and {suffix or 'none'} is not known; known: {known}"
        )


def _what(group: Group) -> str:
    """The heading of a panel of Figure 3: one method by alpha, or several methods."""
    from tnacli.report.cells import method

    methods = list(dict.fromkeys(method(cell.settings) for cell in group.cells))
    return f"(a) {methods[0]} by α" if len(methods) == 1 else "(b) methods compared"
