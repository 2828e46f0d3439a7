"""`tna doctor`: what this machine can do, and what is in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnacli.cli import options
from tnacli.cli.console import Output
from tnacli.errors import DeviceError


def doctor(
    out: Annotated[Path, typer.Option("--out", help="Folder that is to hold the runs.")] = Path("runs"),
    data_root: options.DataRoot = None,
    as_json: options.Json = False,
) -> None:
    """Check versions, devices, the compiler, data sets, disk space and write access; each problem with its fix.

    Exits with 0 if training can work, warnings or not, and with 5 if something prevents it.

    Examples:

      tna doctor

      tna doctor --data-root ~/data --json
    """
    from tnacli.cli.checks import examine

    output = Output(as_json)
    found = examine(out, data_root)
    counts = {status: sum(one.status == status for one in found) for status in ("ok", "warning", "problem")}
    if as_json:
        from tnacli.cli.documents.lists import Check, Doctor

        checks = [Check.model_validate(one) for one in found]
        output.document(Doctor(warnings=counts["warning"], problems=counts["problem"], checks=checks))
    else:
        rows = [[one.name, one.status, one.found, one.fix] for one in found]
        output.table("", ["check", "", "found", "what to do"], rows)
        output.say(f"{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} checks in order")
    if counts["problem"]:
        names = ", ".join(one.name for one in found if one.status == "problem")
        raise DeviceError(f"{names}: training cannot work before that is mended; the last column says how")
