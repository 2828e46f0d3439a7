"""Where the results come from that a command shows: run folders, recipes with the runs below --out, ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.report.cells import Cell
    from tnacli.runs.recorded import Place

Ledger = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="PATH",
        help="Read results from a ledger, or a folder of ledgers (*.jsonl), in place of run folders.",
    ),
]
Seeds = Annotated[
    list[int] | None, typer.Option("--seed", min=0, help="This seed instead of the recipes'. Repeatable.")
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="RUN",
        help="The run that the others are compared with (default: the first).",
        autocompletion=completion.runs,
    ),
]

Split = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="test|validation",
        help="The samples whose accuracies are compared: the test set, or those that data.validation_samples holds out.",
    ),
]


def on_split(cells: Sequence[Cell], split: str) -> tuple[Cell, ...]:
    """The cells with their accuracies on that split. Raises UsageError for an unknown one, and where no samples are held out."""
    from tnacli.errors import UsageError
    from tnacli.report.cells import on_validation

    if split not in ("test", "validation"):
        raise UsageError(f"--split is test or validation, not {split!r}")
    return on_validation(cells) if split == "validation" else tuple(cells)


def place_of(ledger: Path | None, out: Path) -> Place:
    """Where results are: `out`, or a ledger if one is given. Raises UsageError if both are."""
    from tnacli.errors import UsageError
    from tnacli.runs.recorded import Ledger

    if ledger is None:
        return out
    if out != Path("runs"):
        raise UsageError("--ledger and --out both say where results are; give one")
    return Ledger.at(ledger)


def without_failed_starts(output: Output, references: Sequence[str]) -> list[str]:
    """`references` without folders of runs whose training never began, which is said. Raises UsageError if none is left."""
    from tnacli.errors import UsageError
    from tnacli.report.cells import is_failed_start

    failed = [reference for reference in references if is_failed_start(reference)]
    for reference in failed:
        output.say(f"{reference}: its training never began; left out")
    if failed and len(failed) == len(references):
        raise UsageError("no training began in any of these folders; `tna train` with the recipe begins it")
    return [reference for reference in references if reference not in failed]


def chosen(
    references: Sequence[str], place: Place, *, overlays: Sequence[str], overrides: Sequence[str], seeds: Sequence[int],
    data_root: str | None,
) -> tuple[Cell, ...]:  # fmt: skip
    """The runs that `references` mean, each once: run folders, folders of them, recipes, and RECIPE:RUN.

    Without any, all of a ledger. Raises UsageError for options that belong to recipes where there is none, RecipeError for what
    is none of these.
    """
    from tnacli.cli.common import with_data
    from tnacli.errors import UsageError
    from tnacli.recipe.parse import load
    from tnacli.report.cells import cells_of, cells_of_folders, is_run_folder
    from tnacli.runs.store import RunFolder

    folders = [] if references or isinstance(place, Path) else place.folders
    cells: list[Cell] = []
    for reference in references:
        path = Path(reference)
        inside = [path] if is_run_folder(reference) else sorted(one.parent for one in path.glob("*/run.json"))
        folders += map(RunFolder, inside)
        if inside:
            continue
        name, _, run = reference.rpartition(":") if ":" in reference else (reference, "", "")
        loaded = load(name, overlays=overlays, overrides=overrides)
        placed = {key: with_data(settings, data_root) for key, settings in loaded.recipe.runs.items()}
        loaded = replace(loaded, recipe=loaded.recipe.model_copy(update={"runs": placed}))
        cells += cells_of(loaded, place, runs=[run] if run else [], seeds=seeds)
    if folders and not cells and (overlays or overrides or seeds):
        raise UsageError("run folders have settings and seeds of their own; --with, --set and --seed belong to recipes")
    cells = [*cells_of_folders(folders), *cells]
    each = {tuple(folder.path for folder in cell.folders.values()): cell for cell in cells}
    return tuple(each.values())


def reference_among(cells: Sequence[Cell], name: str | None, where: str) -> Cell:
    """The cell called `name`, RECIPE:RUN or by one of its folders, or the first. Raises UsageError if `where` has no such run."""
    from tnacli.errors import UsageError

    found = [cell for cell in cells if name is None or name in _names(cell)]
    if not found:
        raise UsageError(f"--against {name}: {where} has no such run; it has {', '.join(cell.name for cell in cells)}")
    return found[0]


def _names(cell: Cell) -> list[str]:
    """What a run may be called on the command line."""
    run = next(iter(cell.results.values())).run if cell.results else cell.name
    return [cell.name, f"{cell.recipe}:{run}", *(str(folder.path) for folder in cell.folders.values())]
