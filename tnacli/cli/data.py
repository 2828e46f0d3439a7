"""`tna data`: which data sets are there, and getting those that are not."""

from __future__ import annotations

from typing import Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output, size_text

app = typer.Typer(name="data", add_completion=False, invoke_without_command=True, no_args_is_help=False)


@app.callback()
def data(
    context: typer.Context,
    data_root: options.DataRoot = None,
    as_json: options.Json = False,
) -> None:
    """List the data sets: which are there, where they were looked for, how to get the others.

    Examples:

      tna data --data-root ~/data

      tna data prepare cifar100 --download
    """
    if context.invoked_subcommand is not None:
        return
    from tnacli.data.status import status
    from tnacli.recipe.datasets import DATASETS, OWN

    output = Output(as_json)
    found = [status(name, data_root) for name in DATASETS if name not in OWN]
    if as_json:
        from tnacli.cli.documents.lists import Data, DataSet

        output.document(Data(data=[DataSet.model_validate(one) for one in found]))
        return
    output.table(
        "data sets",
        ["name", "found", "train", "test", "size", "where, or how to get it"],
        [
            [
                s.name,
                s.found or "no",
                s.train,
                s.test,
                "" if s.size_bytes is None else size_text(s.size_bytes),
                s.problem or (s.path if s.found else s.how_to_get),
            ]
            for s in found
        ],
        right=("train", "test", "size"),
    )


@app.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(help="The data set.", autocompletion=completion.data_sets)],
    data_root: options.DataRoot = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch it if it is not there.")] = False,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--size", metavar="HEIGHT WIDTH", help="Bring samples to this size (data.size).", show_default=False
        ),
    ] = None,
    sensor: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--sensor",
            metavar="HEIGHT WIDTH",
            help="The camera's, where recordings do not say it (data.sensor).",
            show_default=False,
        ),
    ] = None,
    timesteps: Annotated[int, typer.Option("--timesteps", min=1, help="Frames a recording (event data sets).")] = 5,
    quiet: options.Quiet = False,
) -> None:
    """Fetch (with --download), check and decode a data set, so that training starts at once.

    Examples:

      tna data prepare fashion_mnist --download --data-root ~/data

      tna data prepare folder --data-root ~/pictures --size 64 64
    """
    from pydantic import ValidationError

    from tnacli.cli.data_view import DataView
    from tnacli.data.load import load
    from tnacli.errors import UsageError
    from tnacli.recipe.datasets import DATASETS
    from tnacli.recipe.schema.data import Data
    from tnacli.recipe.schema.misfit import complaints

    output = Output(False, quiet)
    if name not in DATASETS:
        raise UsageError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    try:
        wanted = Data(name=name, root=data_root, download=download, size=size, sensor=sensor)
    except ValidationError as error:
        # Misfits are called as the keys of a recipe's data section, which the options here are named after.
        wrong = [f"--{one.key} {one.text}" if one.misfit and one.key else one.text for one in complaints(error)]
        raise UsageError("; ".join(wrong)) from None
    with DataView(output) as view:
        dataset = load(wanted, timesteps, on_progress=view.show)
    for note in dataset.notes:
        output.say(note)
    output.say(
        f"{dataset.name}: {len(dataset.train)} training and {len(dataset.test)} test samples of {len(dataset.classes)} "
        f"classes, {dataset.channels}x{dataset.size[0]}x{dataset.size[1]}, from {dataset.source} files; ready"
    )
