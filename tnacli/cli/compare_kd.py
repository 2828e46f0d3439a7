"""`tna compare-kd`: TNA against knowledge distillation, trained and set side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnacli.cli import completion, options
from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.trained import Trained
    from tnacli.recipe.schema.recipe import Settings
    from tnacli.report.distillation import Method
    from tnacli.report.table import Table


def compare_kd(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe with a baseline: fig3b_cifar100_kd, or any other.", autocompletion=completion.recipes
        ),
    ],
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            "--alpha",
            callback=options.above_zero,
            help="An alpha of KD + CE; repeatable (default: 1e-2 to 1e-6, as in Figure 3a).",
        ),
    ] = None,
    tna_alpha: Annotated[
        float | None,
        typer.Option("--tna-alpha", callback=options.above_zero, help="Alpha of TNA (default: the recipe's, or 1e-4)."),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            help="mse, or kl (KL divergence of softened outputs), for all methods (default: the recipe's, or mse).",
            autocompletion=completion.words("mse", "kl"),
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", callback=options.above_zero, help="Softens the outputs of --match kl (default: 4)."
        ),
    ] = None,
    seed: options.Seed = None,
    overlays: options.With = None,
    overrides: options.Set = None,
    out: options.Out = Path("runs"),
    data_root: options.DataRoot = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    jobs: options.Jobs = None,
    time_limit: options.TimeLimit = None,
    tensorboard: options.TensorBoard = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a baseline, a teacher, KD, KD + CE and TNA of RECIPE, and compare accuracy and cost (section 5.3.3).

    KD has only the matching loss to a frozen teacher; KD + CE has cross-entropy as well, for each alpha of a sweep. The
    teacher is a baseline from another seed. Finished runs, of any recipe, are taken from --out. With --match kl the default
    alphas are ours: 1, 0.1 and 0.01 for KD + CE, 0.1 for TNA.

    Examples:

      tna compare-kd fig3b_cifar100_kd

      tna compare-kd quickstart --alpha 1e-4 --alpha 1e-5 --seed 0 --seed 1 --seed 2

      tna compare-kd fig3b_cifar100_kd --with laptop --match kl --json
    """
    from tnacli.cli.common import with_place
    from tnacli.errors import UsageError
    from tnacli.recipe.parse import load
    from tnacli.report.distillation import Method, Outcomes, comparison_table, differences_table, methods

    output = Output(as_json, quiet, verbose)
    if match not in (None, "mse", "kl"):
        raise UsageError(f"--match is mse or kl, not {match!r}")
    if temperature is not None and match != "kl":
        raise UsageError("--temperature has no effect without --match kl")
    if len(set(alpha or ())) != len(alpha or ()):
        raise UsageError("an --alpha is given twice; give each once")
    loaded = load(recipe, overlays=overlays or (), overrides=overrides or ())
    compared = [
        Method(m.kind, m.alpha, with_place(m.runs, device=device, data_root=data_root))
        for m in methods(
            loaded, alphas=alpha or (), tna_alpha=tna_alpha, match=match, temperature=temperature, seeds=seed or ()
        )
    ]
    runs = list({run.identity: run for method in compared for run in method.runs}.values())
    if dry_run:
        from tnacli.cli.dry_run import show

        show(output, loaded, runs, out, command="compare-kd")
        return
    from tnacli.cli.jobs import train_at_once
    from tnacli.cli.running import train_all
    from tnacli.cli.wanted import Wanted

    wanted = Wanted(tuple(runs), out, time_limit=time_limit, tensorboard=tensorboard)
    trained = train_all(output, wanted) if jobs is None else train_at_once(output, wanted, jobs=jobs)
    found = {outcome.run.identity: outcome for outcome in trained.outcomes}
    lost = {one.run.identity: one.note for one in trained.diverged}
    outcomes = []
    for m in compared:
        done = {run.seed: found[run.identity] for run in m.runs if run.identity in found}
        missing = tuple(
            lost.get(run.identity, f"seed {run.seed} is not trained") for run in m.runs if run.identity not in found
        )
        results = {seed: outcome.result for seed, outcome in done.items()}
        outcomes.append(Outcomes(m, results, missing))
    tables = [comparison_table(outcomes, _extra_parameters(compared)), differences_table(outcomes)]
    _show(output, loaded.recipe.name, tables, trained)
    trained.refuse_unfinished()


def _extra_parameters(compared: list[Method]) -> dict[str, int | None]:
    """Parameters held besides those of the base while a method trains, by its label."""
    from tnacli.cli.dry_run import sizes

    def parameters(settings: Settings) -> int | None:
        found = sizes(settings)
        return None if found is None else found.parameters

    base = parameters(compared[0].runs[0].settings)
    extra: dict[str, int | None] = {}
    for method in compared:
        run = method.runs[0]
        mine = parameters(run.settings)
        teacher = 0 if run.teacher is None else parameters(run.teacher.settings)
        extra[method.label] = None if base is None or mine is None or teacher is None else mine - base + teacher
    return extra


def _show(output: Output, recipe: str, tables: list[Table], trained: Trained) -> None:
    from tnacli.cli.tables import show_table
    from tnacli.report.table import rows_by_key

    if output.as_json:
        from tnacli.cli.documents.training import ComparedMethod, CompareKD, Difference

        compared, differences = map(rows_by_key, tables)
        output.document(CompareKD(
            recipe=recipe, methods=[ComparedMethod.model_validate(row) for row in compared],
            differences=[Difference.model_validate(row) for row in differences], diverged=trained.document(),
        ))  # fmt: skip
        return
    for table in tables if trained.outcomes or trained.diverged else ():
        show_table(output, table, f"{recipe}: {table.title}")
