"""`--dry-run` of what trains: the recipe as it resolves, where each value comes from, and what the runs would take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Literal

from tnacli.cli.console import Output, size_text
from tnacli.cli.documents import training as documents
from tnacli.cli.documents.training import Costs, DataSeen, MatchingWeight, PlannedRun, Sizes, TrainDryRun
from tnacli.data.look import Look, look
from tnacli.recipe.costs import costs, sample_of
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.gpus import SUSTAINED, on_cards
from tnacli.recipe.identity import Run
from tnacli.recipe.layout import LayerShape
from tnacli.recipe.parse import Loaded, Resolved, resolved
from tnacli.recipe.schema.matching import weight_in_batch_means
from tnacli.recipe.schema.objective import Solo
from tnacli.recipe.schema.recipe import Settings
from tnacli.recipe.schema.siblings import models_of
from tnacli.report.changed import data_changed
from tnacli.runs.store import RunFolder


def show(
    output: Output, loaded: Loaded, runs: Sequence[Run], out: Path, *, command: Literal["train", "compare-kd"] = "train"
) -> None:
    """Print the plan; nothing is built or written, and nothing loaded but checkpoints to start from, which must fit.

    The data are looked for, and not read. Runs that the recipe does not have are of the command's own making.
    """
    _require_initial(runs, out)
    seen = {data: look(data) for data in dict.fromkeys(run.settings.data for run in runs)}
    plans = [_planned(run, out, seen[run.settings.data]) for run in runs]
    if output.as_json:
        found_data = [DataSeen(name=one.name, there=one.there, text=one.text) for one in dict.fromkeys(seen.values())]
        made_by: Literal["train --dry-run", "compare-kd --dry-run"] = (
            "train --dry-run" if command == "train" else "compare-kd --dry-run"
        )
        output.document(TrainDryRun(command=made_by, recipe=loaded.recipe.name, data=found_data, runs=plans))
        return
    own = f"tna {command}"
    names = list(dict.fromkeys(run.name for run in runs))
    by_name = {run.name: run for run in runs}
    resolved_rows = {name: _resolved(by_name[name], loaded, own) for name in names}
    keys = list(dict.fromkeys(key for rows in resolved_rows.values() for row in rows for key in [row.key]))
    table: list[list[object]] = []
    for key in keys:
        found = {name: next(((r.value, r.origin) for r in resolved_rows[name] if r.key == key), None) for name in names}
        values = {name: pair for name, pair in found.items() if pair is not None}
        distinct = {(repr(value), str(origin)) for value, origin in values.values()}
        if len(distinct) == 1 and len(values) == len(names):
            value, origin = next(iter(values.values()))
            table.append([key, "all", value, origin])
        else:
            table.extend([key, name, value, origin] for name, (value, origin) in values.items())
    if not output.verbose:
        table = [row for row in table if str(row[3]) not in ("default", own)]
    output.table(f"{loaded.recipe.name}: settings", ["key", "run", "value", "from"], table)
    rows: list[list[object]] = []
    for run, planned in zip(runs, plans, strict=True):
        size, unknown = planned.size, "depends on your " + ("data" if run.settings.model.build is None else "code")
        rows.append([
            run.name, run.seed, planned.status, f"{size.parameters:,}" if size else unknown,
            size_text(size.checkpoint_bytes) if size else "",
            size_text(size.packed_bytes) if size and size.packed_bytes else "", *_costs_texts(planned.costs),
            planned.folder,
        ])  # fmt: skip
        if planned.data_changed:
            output.say(f"{run.name} seed {run.seed}: data files changed since: {planned.data_changed}")
    for one in dict.fromkeys(seen.values()):
        output.say(f"data: {one.name}: {one.text}", style=None if one.there else "yellow")
    for place, digest in dict.fromkeys((run.settings.train.initial, run.initial) for run in runs if run.initial):
        who = ", ".join(dict.fromkeys(run.name for run in runs if run.initial == digest))
        output.say(f"{who}: from the weights of {place} (SHA-256 {str(digest)[:10]}...), which fit")
    numbers = ("parameters", "checkpoint", "packed 2-bit", "FLOP a sample", "FLOP in all", "memory of a step")
    output.table(
        f"{loaded.recipe.name}: runs", ["run", "seed", "status", *numbers, "folder"], rows, right=("seed", *numbers)
    )
    _show_gpus(output, loaded.recipe.name, {one.run: one for one in plans}.values())
    if matched := list(dict.fromkeys(row for run in runs if (row := _matched(run)) is not None)):
        heads = ["run", "alpha", "reduction", "in batch means"]
        output.table(f"{loaded.recipe.name}: weight of the matching loss", heads, [list(row) for row in matched])
        output.say("in batch means: the alpha that weighs as much where squared differences of time-summed logits are summed "
                   "over classes and averaged over the batch (reduction: batch_mean), at the run's batch size")  # fmt: skip
    output.say("FLOP: forward and backward, all networks, compression and evaluation not counted; memory: in fp32 on the CPU "
               "with the compiled kernels, without Python, torch and the data")  # fmt: skip
    if not output.verbose:
        output.say("values not shown are defaults; -v shows them all")


def _show_gpus(output: Output, recipe: str, plans: Iterable[PlannedRun]) -> None:
    """What the runs would take on known cards, where the device is to be CUDA."""
    rows: list[list[object]] = []
    for planned in plans:
        for found in planned.gpus:
            fits = found.unavailable or ("yes" if found.fits else "no: " + (" or ".join(found.remedies) or "too large"))
            needed = "" if found.needed_bytes is None else size_text(found.needed_bytes)
            hours = "" if found.hours is None else f"{found.hours:.2g}"
            rows.append([planned.run, found.card, needed, fits, hours])
    if rows:
        heads = ["run", "GPU", "memory needed", "fits", "hours"]
        output.table(f"{recipe}: on a GPU, estimated", heads, rows, right=("memory needed", "hours"))
        output.say(
            "on a GPU: estimates by arithmetic; steps were measured on an H200 alone. Memory: tensors, a tenth for the "
            "allocator, 1 GB for CUDA; in fp32 cuDNN takes some 11 GB more where they are free. Hours: training at "
            f"{SUSTAINED:.0%} of the data sheet's arithmetic and all of its memory's rate, or as fast as the host launches"
        )


def _require_initial(runs: Sequence[Run], out: Path) -> None:
    """Raise RecipeError if a run that is not finished cannot start from the checkpoint that its recipe names."""
    starting = {run.name: run for run in runs if run.initial and RunFolder.of(out, run).status != "finished"}
    if starting:
        from tnacli.cli.loading import load_torch

        load_torch()
        from tnacli.training.warm_start import initial_checkpoint

        for run in starting.values():
            initial_checkpoint(run)


def _matching(settings: Settings) -> MatchingWeight | None:
    """How much the matching loss weighs, in a unit that does not depend on `reduction`; None without one."""
    objective = settings.objective
    if isinstance(objective, Solo):
        return None
    found = weight_in_batch_means(objective, settings.train.batch_size, DATASETS[settings.data.name].classes)
    weight, why_not = (None, found) if isinstance(found, str) else (found, None)
    return MatchingWeight(weight_in_batch_means=weight, why_not=why_not)


def _matched(run: Run) -> tuple[object, ...] | None:
    objective, found = run.settings.objective, _matching(run.settings)
    if isinstance(objective, Solo) or found is None:
        return None
    weight = found.weight_in_batch_means
    return run.name, f"{objective.alpha:g}", objective.reduction, found.why_not if weight is None else f"{weight:g}"


def _resolved(run: Run, loaded: Loaded, own: str) -> tuple[Resolved, ...]:
    """Every setting of a run with its origin, that of runs which the recipe does not have being `own`."""
    origins = loaded.origins.get(run.name)
    rows = resolved(run.settings, origins or {})
    return rows if origins is not None else tuple(row._replace(origin=own) for row in rows)


def _planned(run: Run, out: Path, seen: Look) -> PlannedRun:
    folder, found = RunFolder.of(out, run), costs(run.settings, seen.sample)
    cards = on_cards(run.settings, seen.sample) if run.settings.runtime.device.startswith("cuda") else ()
    return PlannedRun(
        run=run.name,
        seed=run.seed,
        identity=run.identity,
        status=folder.status,
        folder=folder.path,
        altered=run.altered,
        size=sizes(run.settings, seen),
        initial=run.initial,
        data_changed=data_changed(run.settings.data, folder.learned_from) or None,
        costs=None if found is None else Costs.model_validate(found),
        gpus=[documents.OnCard.model_validate(card) for card in cards],
        matching=_matching(run.settings),
        settings=run.settings,
    )


def _costs_texts(found: Costs | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    memory = "" if found.step_bytes is None else f"about {size_text(found.step_bytes)}"
    return f"{found.sample_flop:.2g}", "" if found.run_flop is None else f"{found.run_flop:.2g}", memory


def sizes(settings: Settings, seen: Look | None = None) -> Sizes | None:
    """Parameters of all trained networks, bytes of a checkpoint with its optimiser, bytes of the base packed at 2 bits.

    Maps between features, which are few, are not counted. None where the input's shape is only known from the user's own
    files, which nobody has `seen`, or the network from the user's own code, which a plan does not run.
    """
    sample = sample_of(settings, None if seen is None else seen.sample)
    if sample is None:
        return None
    parameters = buffers = 0
    for model in models_of(settings.model, settings.objective).values():
        *hidden_weights, readout = _weights(sample.shapes(model))
        hidden = sum(weight[0] for weight in hidden_weights)
        normed = settings.model.norm == "batch"
        parameters += sum(map(prod, hidden_weights)) + prod(readout) + readout[0] + hidden * (2 if normed else 1)
        buffers += 2 * hidden if normed else 0
    base = sample.shapes(settings.model)
    # Adam keeps two moments a parameter.
    checkpoint = 4 * (3 * parameters + buffers)
    packed = packed_bytes(base) if settings.compression else None
    return Sizes(parameters=parameters, checkpoint_bytes=checkpoint, packed_bytes=packed)


def packed_bytes(shapes: tuple[LayerShape, ...]) -> int:
    """Bytes of the tensors of a 2-bit packed file: codes in whole bytes a row, the rest in fp32."""
    first, *hidden, readout = _weights(shapes)
    constants = 8 * sum(weight[0] for weight in (first, *hidden))
    rows = sum(weight[0] * -(-prod(weight[1:]) // 4) for weight in hidden)
    return 4 * prod(first) + constants + rows + 4 * (prod(readout) + readout[0])


def _weights(shapes: tuple[LayerShape, ...]) -> list[tuple[int, ...]]:
    return [weight for shape in shapes for weight in shape.branches.values()]
