"""`tna runs`: which runs are on disk, two of them side by side, finished ones as lines of a ledger; what of it can go."""

from __future__ import annotations

import datetime
from pathlib import Path

import typer

from tnacli.cli import options
from tnacli.cli.clean import clean
from tnacli.cli.console import Output, size_text
from tnacli.cli.diff import diff
from tnacli.cli.record import record

app = typer.Typer(name="runs", add_completion=False, invoke_without_command=True, no_args_is_help=False)
app.command("record")(record)
app.command("diff")(diff)
app.command("clean")(clean)


@app.callback()
def runs(
    context: typer.Context,
    out: options.Out = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """List the runs on disk, below --out: how far each is, what it came to, how much room it takes, when it was last written.

    Examples:

      tna runs

      tna runs record runs/quickstart --ledger results.jsonl

      tna runs clean
    """
    if context.invoked_subcommand is not None:
        return
    from tnacli.cli.documents.lists import RunOnDisk, Runs
    from tnacli.errors import FileFormatError, UsageError
    from tnacli.report.marks import started_from
    from tnacli.runs.store import RunFolder

    output = Output(as_json)
    if not out.is_dir():
        raise UsageError(f"{out}: no such folder; runs lie below `runs` where `tna train` was run, or below its --out")
    found = []
    for path in sorted(path.parent for path in out.glob("*/*/run.json")):
        folder = RunFolder(path)
        begun, status, result = folder.begun, folder.status, None
        try:
            result = folder.result
        except FileFormatError:
            begun = None
        files = [file.stat() for file in path.iterdir() if file.is_file()]
        found.append(
            RunOnDisk(
                recipe=path.parent.name if begun is None else begun.recipe,
                run=path.name if begun is None else begun.run,
                seed=None if begun is None else begun.seed,
                status="damaged" if begun is None else status,
                accuracy=None if result is None else result.accuracy["base"],
                size_bytes=sum(file.st_size for file in files),
                written=datetime.datetime.fromtimestamp(max(file.st_mtime for file in files)).isoformat(" ", "minutes"),
                altered=() if begun is None else begun.altered,
                initial=None if begun is None else begun.initial,
                started_from=None if begun is None else begun.settings.train.initial,
                folder=path,
            )
        )
    if as_json:
        output.document(Runs(runs=found))
        return
    from tnacli.cli.tables import show_table
    from tnacli.report.table import Column, Table

    columns = (
        Column("recipe", "recipe"), Column("run", "run"), Column("seed", "seed", number=True), Column("status", "status"),
        Column("accuracy", "test accuracy %", number=True), Column("size_bytes", "size", number=True),
        Column("written", "written"), Column("notes", "note"),
    )  # fmt: skip
    rows = [
        (
            one.recipe, one.run, one.seed, one.status, one.accuracy, size_text(one.size_bytes), one.written,
            "; ".join([*one.altered, *([started_from(one.started_from)] if one.initial else [])]),
        )
        for one in found
    ]  # fmt: skip
    show_table(output, Table(f"runs below {out}", columns, tuple(rows)))
