"""`tna runs record`: finished runs as lines of a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnacli.cli import options
from tnacli.cli.console import Output


def record(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER", help="Run folders, or folders of run folders; unfinished runs are left out."),
    ],
    ledger: Annotated[
        Path, typer.Option("--ledger", metavar="FILE", help="The ledger (.jsonl), which is made if it is not there.")
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Add finished runs to a ledger: a line of JSON each, with settings, result and curves, that outlives folder and checkpoint.

    A run that the ledger has already keeps its line. `tna report --ledger` shows what is in it. Recipes that share a
    run may each have it in their ledger: in a folder of ledgers it is one, and refused if its results are two.

    Examples:

      tna runs record runs/claims_cifar10 --ledger docs/results/claims_cifar10.jsonl
    """
    from tnacli.errors import UsageError
    from tnacli.runs.ledger import record as add
    from tnacli.runs.store import RunFolder

    output = Output(as_json, quiet)
    found = []
    for folder in folders:
        inside = (
            [folder]
            if (folder / "run.json").exists()
            else sorted({path.parent for path in folder.rglob("result.json")})
        )
        finished = [RunFolder(path) for path in inside if RunFolder(path).status == "finished"]
        if not finished:
            raise UsageError(f"{folder}: no finished run here; `tna train` makes run folders, below --out")
        found += finished
    new, known = add(found, ledger)
    output.say(f"{ledger}: {new} new, {known} there already")
    if as_json:
        from tnacli.cli.documents.lists import Recorded

        output.document(Recorded(ledger=ledger, new=new, known=known))
