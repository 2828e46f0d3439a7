"""`tna train`: every run of a recipe, over its seeds, from the first epoch or from where it was left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe file, or the name of a shipped one (see `tna recipes`).", autocompletion=completion.recipes
        ),
    ],
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            help="Only this run of the recipe, or those of a sweep or pattern (*, ?). Repeatable.",
            autocompletion=completion.runs,
        ),
    ] = None,
    seed: options.Seed = None,
    overlays: options.With = None,
    overrides: options.Set = None,
    out: options.Out = Path("runs"),
    data_root: options.DataRoot = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Only the I-th of N shares of the runs, to spread them over machines."
        ),
    ] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print a Slurm job-array script that does the same, a share a task.")
    ] = False,
    slurm_gpus: Annotated[
        str | None,
        typer.Option(
            "--slurm-gpus", metavar="[NODESx]GPUS", help="With --slurm: GPUs that train each run together (default: 1)."
        ),
    ] = None,
    jobs: options.Jobs = None,
    fresh: options.Fresh = False,
    time_limit: options.TimeLimit = None,
    tensorboard: options.TensorBoard = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train every run of RECIPE. Finished runs are skipped, interrupted ones go on where they stopped.

    Ctrl-C, SIGTERM and --time-limit save first; the same command goes on. A run that diverges does not stop the others.

    Examples:

      tna train quickstart

      tna train quickstart --jobs 2

      tna train recipes/table1_cifar100.yaml --with laptop --seed 0

      tna train table2_cifar10 --run tna_t_snn --set train.epochs=100 --dry-run

      tna train quickstart --set "objective.alpha=[1e-2,1e-3]" --set data.validation_samples=200

      tna train table2_cifar100 --out /shared/runs --slurm > job.sh

      tna train table1_cifar100 --out /shared/runs --slurm --slurm-gpus 2x4 > job.sh
    """
    from tnacli.cli.common import with_place
    from tnacli.errors import UsageError
    from tnacli.recipe.parse import load, plan, plan_coming

    output = Output(as_json, quiet, verbose)
    loaded = load(recipe, overlays=overlays or (), overrides=overrides or ())
    runs = planned = with_place(plan(loaded, runs=run or (), seeds=seed or ()), device=device, data_root=data_root)
    if slurm_gpus is not None and not slurm:
        raise UsageError("--slurm-gpus belongs to --slurm, which prints a script; torchrun trains on many GPUs here")
    if slurm:
        from tnacli.cli.slurm import gpus_of, slurm_script

        if shard is not None:
            raise UsageError("--slurm gives every task a share of its own; leave --shard out")
        if jobs is not None:
            raise UsageError("--slurm gives every task one piece of work, for one process; leave --jobs out")
        if fresh:
            raise UsageError(
                "a task that is queued again goes on with its runs, and --fresh would begin anew; leave it out"
            )
        typer.echo(slurm_script(runs, sys.argv[1:], loaded.recipe.name, gpus_of(slurm_gpus)), nl=False)
        return
    if shard is not None:
        from tnacli.cli.shards import shard as share

        runs = share(runs, shard)
    if dry_run:
        from tnacli.cli.dry_run import show

        show(output, loaded, runs, out)
        return
    from tnacli.cli.jobs import train_at_once
    from tnacli.cli.results import show_results
    from tnacli.cli.running import train_all
    from tnacli.cli.wanted import Wanted

    wanted = Wanted(
        runs, out, fresh=fresh, export=loaded.recipe.export, time_limit=time_limit, tensorboard=tensorboard,
        coming=plan_coming(loaded, seeds=seed or ()),
    )  # fmt: skip
    trained = train_all(output, wanted) if jobs is None else train_at_once(output, wanted, jobs=jobs)
    show_results(output, trained, loaded.recipe.reproduces.accuracy)
    if loaded.sweeps and trained.outcomes:
        from tnacli.report.sweep import best_of

        for line in best_of(loaded.sweeps, planned, out):  # of a share, too, in whose runs the best may not be
            output.say(line)
    trained.refuse_unfinished()
