"""Options that several commands share, so that each means and says the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tnacli.cli import completion

T = TypeVar("T", float | None, list[float] | None)


def above_zero(parameter: typer.CallbackParam, value: T) -> T:
    """A number, or each of a list, if it is above 0 and finite. Raises UsageError."""
    from tnacli.errors import UsageError

    for number in value if isinstance(value, list | tuple) else () if value is None else (value,):
        if not 0 < number < float("inf"):
            raise UsageError(f"{parameter.opts[0]} must be above 0, not {number:g}")
    return value


def share_above_zero(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """A number above 0 and at most 1. Raises UsageError."""
    from tnacli.errors import UsageError

    if value is not None and not 0 < value <= 1:
        raise UsageError(f"{parameter.opts[0]} must be above 0 and at most 1, not {value:g}")
    return value


def _known_device(value: str) -> str:
    import re

    from tnacli.errors import UsageError
    from tnacli.recipe.schema.patterns import DEVICE, PATTERNS

    if not re.fullmatch(DEVICE, value):
        raise UsageError(f"--device is {PATTERNS[DEVICE]}; not {value!r}")
    return value


def _number_of_jobs(value: str | None) -> str | None:
    from tnacli.errors import UsageError

    if value is not None and value != "auto" and not (value.isdecimal() and 1 <= int(value) <= 1024):
        raise UsageError(f"--jobs is auto or a number from 1 to 1024, not {value!r}")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout instead of tables.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no messages; errors and warnings still show.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More detail on stderr.")]
Out = Annotated[Path, typer.Option("--out", help="Folder that holds the runs.", file_okay=False)]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, cuda:1 or mps.",
        callback=_known_device,
        autocompletion=completion.words("auto", "cpu", "cuda", "mps"),
    ),
]
DataRoot = Annotated[
    str | None, typer.Option("--data-root", help="Folder that holds the data sets (default: $TNA_DATA, or ./data).")
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="OVERLAY",
        help="Lay an overlay over the recipe: smoke, laptop, or a file. Repeatable.",
        autocompletion=completion.overlays,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one value, such as train.epochs=20; several make a run each: objective.alpha=[1e-2,1e-3]. Repeatable.",
        autocompletion=completion.settings,
    ),
]
Seed = Annotated[
    list[int] | None,
    typer.Option("--seed", min=0, help="This seed instead of the recipe's. Repeatable."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train again; what was there is moved aside.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what would be done, and where each value comes from; look for the data."),
]
Jobs = Annotated[
    str | None,
    typer.Option(
        "--jobs",
        metavar="N|auto",
        help="Train so many runs at once, each in a process with its share of the cores, or a GPU of its own.",
        callback=_number_of_jobs,
        autocompletion=completion.words("auto"),
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="MINUTES", min=0, help="Save and stop (exit 75) after this long."),
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Log every run for TensorBoard below DIR, too (needs the extra tensorboard).",
        file_okay=False,
    ),
]
Limit = Annotated[
    int | None, typer.Option("--samples", min=1, help="Use only this many samples, balanced over classes.")
]
TrustBuild = Annotated[
    str | None,
    typer.Option(
        "--trust-build",
        metavar="[FOLDER/]MODULE:FUNCTION",
        help="Import and call this function if the checkpoint needs it to make its network (model.build).",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Samples evaluated at once.")]


def refuse_trust(trust_build: str | None) -> None:
    """Raise UsageError if --trust-build is given for a packed file."""
    if trust_build is not None:
        from tnacli.errors import UsageError

        raise UsageError("a packed file needs no code of anyone's; --trust-build applies to checkpoints")
