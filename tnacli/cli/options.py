"""Options that several commands share, so that each means and says the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout instead of tables.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no messages; errors and warnings still show.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More detail on stderr.")]
Out = Annotated[Path, typer.Option("--out", help="Folder that holds the runs.", file_okay=False)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
DataRoot = Annotated[
    str | None, typer.Option("--data-root", help="Folder that holds the data sets (default: $TNA_DATA, or ./data).")
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with", metavar="OVERLAY", help="Lay an overlay over the recipe: smoke, laptop, or a file. Repeatable."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value, such as train.epochs=20. Repeatable."),
]
Seed = Annotated[
    list[int] | None,
    typer.Option("--seed", min=0, help="This seed instead of the recipe's. Repeatable."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train again; what was there is moved aside.")]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="MINUTES", min=0, help="Save and stop (exit 75) after this long."),
]
Limit = Annotated[
    int | None, typer.Option("--samples", min=1, help="Use only this many samples, balanced over classes.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Samples evaluated at once.")]
