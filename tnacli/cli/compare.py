"""`tna compare`: any runs side by side, over the seeds that they share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion, options, sources, tables
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.documents.compare import Compare
    from tnacli.report.cells import Cell
    from tnacli.report.table import Table


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...",
            help="Run folders (those that differ in nothing but their seed are one run), folders of them, RECIPE:RUN, or RECIPE "
            "for all of its runs; without any, all of the --ledger.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    against: sources.Against = None,
    split: sources.Split = "test",
    seed: sources.Seeds = None,
    overlays: options.With = None,
    overrides: options.Set = None,
    out: options.Out = Path("runs"),
    ledger: sources.Ledger = None,
    data_root: options.DataRoot = None,
    format: tables.Format = "rich",
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            "-o",
            metavar="FILE",
            help="Write a picture (.png, .svg, .pdf), or the tables (.md, .csv, .tex, .json; CSV in "
            "several files, NAME-1.csv, NAME-2.csv, ...).",
        ),
    ] = None,
    draw: tables.Draw = "curves",
    title: tables.Title = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare runs with the first of them: differences with interval and p over the seeds that both have, and settings.

    Differences are paired: the result of the same seed is subtracted. Results of different data or precision are not.

    Examples:

      tna compare quickstart:tna quickstart:baseline

      tna compare runs/quickstart/baseline-* runs/quickstart/tna-* -o curves.png

      tna compare claims_cifar10 --against kd_ce --ledger docs/results -o differences.png --draw differences

      tna compare alpha_digits --split validation --ledger docs/results
    """
    from tnacli.errors import UsageError
    from tnacli.report.cells import named_apart
    from tnacli.report.changed import compared as with_changes
    from tnacli.report.differences import all_corrected, differences_from, differences_table
    from tnacli.report.plots import PICTURES
    from tnacli.report.settings import settings_table
    from tnacli.report.tables import accuracy_table

    format = tables.known_format(format, as_json)
    output = Output(format == "json", quiet)
    tables.require_known_drawing(draw, save)
    place = sources.place_of(ledger, out)
    if not runs and ledger is None:
        raise UsageError("name the runs to compare: their folders, RECIPE:RUN or RECIPE; or a --ledger, for all in it")
    references = sources.without_failed_starts(output, runs or [])
    cells: Sequence[Cell] = sources.chosen(
        references, place, overlays=overlays or [], overrides=overrides or [],
        seeds=seed or [], data_root=data_root,
    )  # fmt: skip
    if len(cells) < 2:
        found = "".join(f"{cell.recipe}:{cell.name}" for cell in cells) or "none"
        raise UsageError(f"a comparison takes two runs or more; here is {found}")
    cells = with_changes(sources.on_split(named_apart(cells), split))
    reference = sources.reference_among(cells, against, "the comparison")
    corrected = all_corrected(differences_from(cells, reference))
    differences = differences_table(corrected, f"differences from {reference.name}")
    shown = [
        accuracy_table(cells, title=f"{split} accuracy"), differences,
        settings_table(cells, reference, f"settings other than those of {reference.name}"),
    ]  # fmt: skip
    document = partial(_document, cells, reference, differences)
    if save is None or output.as_json:
        tables.print_tables(output, format, shown, document)
    if save is not None:
        title = ", ".join(cell.name for cell in cells) if title is None else title
        if draw == "differences":
            from tnacli.report.difference_plot import lines_of, save_differences

            save_differences(save, lines_of(corrected), title=title, split=split)
            tables.say_written(output, [save])
        else:
            tables.say_written(output, _save(save, cells, shown, title=title, document=document))
        if save.suffix.lower() in PICTURES:
            tables.say_missing(output, cells)


def _document(cells: Sequence[Cell], reference: Cell, differences: Table) -> Compare:
    from tnacli.cli.documents.compare import Compare, ComparedRun, Difference
    from tnacli.report.settings import compared
    from tnacli.report.table import rows_by_key

    settings = compared({cell.name: cell.settings for cell in cells})
    return Compare(
        against=reference.name,
        split=reference.split,
        runs=[
            ComparedRun(
                recipe=cell.recipe, run=cell.name, seeds=tuple(cell.results), planned_seeds=len(cell.seeds),
                accuracy=cell.accuracy, notes=cell.marks,
            )
            for cell in cells
        ],
        differences=[Difference.model_validate(row) for row in rows_by_key(differences)],
        same_settings=dict(settings.same),
        other_settings={key: dict(values) for key, values in settings.differing.items()},
    )  # fmt: skip


def _save(
    path: Path, cells: Sequence[Cell], shown: Sequence[Table], *, title: str, document: partial[Compare]
) -> list[Path]:
    from tnacli.report.curves import METRICS, curves
    from tnacli.report.plots import PICTURES, save_figure

    if path.suffix.lower() not in PICTURES:
        return tables.save_tables(path, shown, document, others=PICTURES)
    save_figure(path, curves(cells), list(METRICS), title=title)
    return [path]
