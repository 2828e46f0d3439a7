"""`tna runs diff`: two run folders side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import options, tables
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.documents.compare import RunsDiff
    from tnacli.runs.store import RunFolder

_Run = typer.Argument(help="A run folder.", show_default=False)


def diff(
    a: Annotated[Path, _Run],
    b: Annotated[Path, _Run],
    format: tables.Format = "rich",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Two runs side by side: the settings in which they differ, what they came to, and what else computed them.

    `tna compare` sets runs of several seeds against each other.

    Examples:

      tna runs diff runs/quickstart/baseline-seed0-0123456789 runs/quickstart/tna-seed0-9876543210
    """
    from tnacli.report.pair import lines, results_pair_table, settings_pair_table

    format = tables.known_format(format, as_json)
    output = Output(format == "json", quiet)
    folders = _folder(a), _folder(b)
    shown = [settings_pair_table(*(folder.require_begun() for folder in folders)), results_pair_table(lines(*folders))]
    output.say(f"A: {folders[0].path}\nB: {folders[1].path}")
    tables.print_tables(output, format, shown, partial(_document, *folders))


def _folder(path: Path) -> RunFolder:
    """The run folder at `path`. Raises UsageError if there is none."""
    from tnacli.errors import UsageError
    from tnacli.report.cells import is_failed_start, is_run_folder
    from tnacli.runs.store import RunFolder

    if is_failed_start(str(path)):
        raise UsageError(f"{path}: its training never began; there is nothing to compare")
    if not is_run_folder(str(path)):
        raise UsageError(f"{path}: no run folder; `tna runs` lists those on disk, `tna compare` takes recipes, too")
    return RunFolder(path)


def _document(a: RunFolder, b: RunFolder) -> RunsDiff:
    from tnacli.cli.documents.compare import DiffedRun, Quantity, RunsDiff
    from tnacli.report.pair import differing_settings, lines

    begun = a.require_begun(), b.require_begun()
    sides = [
        DiffedRun(folder=folder.path, recipe=one.recipe, run=one.run, seed=one.seed, identity=one.identity)
        for folder, one in zip((a, b), begun, strict=True)
    ]
    return RunsDiff(
        a=sides[0], b=sides[1], settings=dict(differing_settings(*begun)),
        results=[Quantity.model_validate(line) for line in lines(a, b)],
    )  # fmt: skip
