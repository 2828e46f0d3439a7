"""`tna export`: a ternary or binary checkpoint as a packed file, verified before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnacli.cli import options
from tnacli.cli.console import Output, size_text


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint with ternary or binary weights.")],
    to: Annotated[Path, typer.Option("--output", "-o", help="The packed file to write.")] = Path("model.safetensors"),
    encoding: Annotated[
        str, typer.Option("--encoding", help="2bit: four weights a byte. base3: five weights a byte (1.6 bits each).")
    ] = "2bit",
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=0, help="Compare predictions on this many test samples [default: all]; 0: weights alone."
        ),
    ] = None,
    data_root: options.DataRoot = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pack CHECKPOINT. Every weight, and the predictions on real samples, are compared before the file appears.

    Examples:

      tna export runs/quickstart/tna_t_snn-seed0-0123456789/last.pt -o digits.safetensors

      tna export last.pt -o small.safetensors --encoding base3 --data-root ~/data
    """
    from tnacli.errors import UsageError
    from tnacli.exporting import ENCODINGS, export_checkpoint

    output = Output(as_json, quiet)
    if encoding not in ENCODINGS:
        raise UsageError(f"--encoding is one of {', '.join(ENCODINGS)}, not {encoding!r}")
    if to.exists() and not force:
        raise UsageError(f"{to} is there already; choose another name with -o, or replace it with --force")
    done = export_checkpoint(checkpoint, to, encoding=encoding, samples=samples, data_root=data_root)
    if as_json:
        output.document(
            {"command": "export", "version": 1, "checkpoint": str(checkpoint), "encoding": encoding, **done.as_json()}
        )
        return
    compared = f"{done.weights:,} weights equal"
    if done.accuracy is not None:
        compared += f", {done.samples} of {done.samples} predictions equal, test accuracy {done.accuracy:.2f} %"
    output.line(f"{to}: {size_text(done.size_bytes)}; verified: {compared}")
