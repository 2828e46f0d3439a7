"""`tna runs clean`: what no run needs any more, shown first, and deleted with --yes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnacli.cli import options
from tnacli.cli.console import Output, size_text


def clean(
    out: options.Out = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete it. Without this it is only shown.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show, or delete, what no run below --out needs any more: earlier checkpoints of finished runs, folders that --fresh set
    aside, and starts that never came to a checkpoint.

    Results, the last checkpoint of every run, packed files and all of an unfinished run that has a checkpoint stay; so does
    whatever a process is at.

    Examples:

      tna runs clean

      tna runs clean --yes
    """
    from tnacli.cli.documents.lists import Cleaned, Leftover
    from tnacli.errors import RunBusyError, UsageError
    from tnacli.runs.leftovers import leftovers, remove, run_folders

    output = Output(as_json, quiet)
    if not out.is_dir():
        raise UsageError(f"{out}: no such folder; runs lie below `runs` where `tna train` was run, or below its --out")
    found, busy = [], []
    for folder in run_folders(out):
        try:
            found += remove(folder) if yes else leftovers(folder)
        except RunBusyError:
            busy.append(folder.path)
    total = sum(one.size_bytes for one in found)
    if as_json:
        listed = [Leftover.model_validate(one) for one in found]
        output.document(Cleaned(deleted=yes, size_bytes=total, leftovers=listed, busy=busy))
        return
    if found:
        output.table(
            f"{'deleted' if yes else 'not needed any more'} below {out}",
            ["file or folder", "size", "what it is"],
            [[one.path.relative_to(out), size_text(one.size_bytes), one.why] for one in found],
            right=("size",),
        )
    for path in busy:
        output.say(f"{path}: a process is training this run; left as it is")
    what = f"{size_text(total)} {'deleted' if yes else 'can go: --yes deletes it'}" if found else "nothing to delete"
    output.say(what)
