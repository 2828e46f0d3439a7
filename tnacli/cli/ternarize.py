"""`tna ternarize`: compress a trained full-precision checkpoint, and fine-tune it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output


def ternarize(
    checkpoint: Annotated[
        Path, typer.Argument(help="A full-precision checkpoint of `tna train`, or the folder of its run.")
    ],
    mode: Annotated[
        str, typer.Option("--mode", help="ternary or binary.", autocompletion=completion.words("ternary", "binary"))
    ] = "ternary",
    delta: Annotated[
        float | None,
        typer.Option(
            "--delta",
            callback=options.above_zero,
            help="Delta: weights from -Delta to +Delta become 0 (ternary) (default: 0.1).",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold",
            help="Where Delta comes from in each layer: fixed as --delta says, mean: a share of mean |w|, or learned "
            "(ternary) (default: fixed).",
            autocompletion=completion.words("fixed", "mean", "learned"),
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            "--share",
            callback=options.above_zero,
            help="Delta over mean |w|, with --threshold mean, and at first with learned (default: 0.7).",
        ),
    ] = None,
    gradual: Annotated[
        str | None,
        typer.Option(
            "--gradual",
            help="Compress layer by layer over a fifth of the epochs, forward or backward (default: all at once).",
            autocompletion=completion.words("forward", "backward"),
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=0, help="Epochs of fine-tuning; 0: compression alone (default: 2/3 of the checkpoint's)."
        ),
    ] = None,
    twin: Annotated[
        bool | None,
        typer.Option(
            "--twin/--no-twin", help="Fine-tune beside a full-precision twin (default: if the checkpoint has one)."
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha",
            callback=options.above_zero,
            help="Weight of the matching loss with a twin (default: the checkpoint's, or the paper's for the data set).",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            callback=options.above_zero,
            help="Initial rate (default: the checkpoint's schedule at 60 % of its epochs).",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Seed of order, augmentation and a new twin (default: the checkpoint's)."),
    ] = None,
    out: options.Out = Path("runs"),
    data_root: options.DataRoot = None,
    other_data: Annotated[
        bool, typer.Option("--other-data", help="Fine-tune even on other data than CHECKPOINT learned from.")
    ] = False,
    trust_build: options.TrustBuild = None,
    device: options.Device = "auto",
    fresh: options.Fresh = False,
    time_limit: options.TimeLimit = None,
    tensorboard: options.TensorBoard = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Compress the hidden layers of CHECKPOINT and fine-tune them; the result is a run of its own below --out.

    The default replays what follows compression in the paper: the learning rate goes on from where the schedule stands at
    60 % of the epochs and falls as far as it would have, for 2/3 of the epochs (100 after the paper's 150).

    Examples:

      tna ternarize runs/quickstart/tna-seed0-0123456789/last.pt

      tna ternarize last.pt --mode binary --no-twin --epochs 20

      tna ternarize last.pt --epochs 0 --delta 0.05

      tna ternarize last.pt --threshold learned --gradual forward
    """
    from tnacli.cli.common import with_place
    from tnacli.cli.loading import load_torch
    from tnacli.storage import network_file

    load_torch()
    from tnacli.cli.results import show_results
    from tnacli.cli.running import Start, train_all
    from tnacli.cli.wanted import Wanted
    from tnacli.snn.own import require_trust
    from tnacli.training.checkpoint import load_checkpoint
    from tnacli.training.fine_tune import compression_from_options, compression_run

    output = Output(as_json, quiet, verbose)
    checkpoint = network_file(checkpoint)
    loaded = load_checkpoint(checkpoint)
    model = require_trust(loaded.settings.model, trust_build, str(checkpoint))
    compression = compression_from_options(mode, delta=delta, threshold=threshold, share=share, gradual=gradual)
    run = compression_run(
        loaded, compression, source=str(checkpoint), epochs=epochs, twin=twin, alpha=alpha, learning_rate=learning_rate,
        seed=seed,
    )  # fmt: skip
    run = dataclasses.replace(run, settings=run.settings.model_copy(update={"model": model}))
    runs = with_place([run], device=device, data_root=data_root)
    wanted = Wanted(runs, out, fresh=fresh, time_limit=time_limit, tensorboard=tensorboard)
    trained = train_all(output, wanted, start=Start(loaded, other_data))
    show_results(output, trained, {}, command="ternarize")
    trained.refuse_unfinished()
