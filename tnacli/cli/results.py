"""The result table of a set of runs: one row a run, over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tnacli.cli.console import Output, duration_text, size_text
from tnacli.cli.tables import show_table
from tnacli.report.alike import disagreement
from tnacli.report.marks import marks
from tnacli.report.statistics import spread
from tnacli.report.table import Column, Table, Value

if TYPE_CHECKING:
    from tnacli.cli.documents.training import TrainedRun
    from tnacli.cli.trained import Diverged, Trained
    from tnacli.experiment import Outcome
    from tnacli.exporting import Exported

_COLUMNS = (
    Column("run", "run"), Column("weights", "weights"), Column("seeds", "seeds"),
    Column("accuracy", "test accuracy %", number=True), Column("paper", "paper %", number=True),
    Column("sibling", "sibling %", number=True), Column("packed_bytes", "packed file", number=True),
    Column("packed_accuracy", "packed test accuracy %", number=True), Column("seconds", "training", number=True),
    Column("notes", "note"),
)  # fmt: skip
WEIGHTS = {None: "fp32", "ternary": "ternary", "binary": "binary"}


def show_results(
    output: Output,
    trained: Trained,
    paper: Mapping[str, float],
    *,
    command: Literal["train", "ternarize"] = "train",
) -> None:
    """Show what runs came to, if any; `paper` is the paper's accuracy in % by name of the run."""
    outcomes, packed = trained.outcomes, trained.packed
    if output.as_json:
        from tnacli.cli.documents.training import Train

        runs = [_record(o, packed.get(o.run.identity)) for o in outcomes]
        output.document(Train(command=command, runs=runs, diverged=trained.document()))
        return
    if not outcomes and not trained.diverged:
        return
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.run.name, []).append(outcome)
    lost: dict[str, list[Diverged]] = {}
    for one in trained.diverged:
        lost.setdefault(one.run.name, []).append(one)
    notes = {
        name: "; ".join(filter(None, [*_marks(group), *(one.note for one in lost.pop(name, ()))]))
        for name, group in groups.items()
    }
    for name, ones in lost.items():  # no seed of these came to a result
        notes[name] = "; ".join([*ones[0].run.altered, *(one.note for one in ones if one.taught)])
    rows: list[tuple[Value, ...]] = []
    for name, group in groups.items():
        ours, sibling, packed_bytes, packed_accuracy = _means(group, packed)
        rows.append((
            name, WEIGHTS[group[0].result.compressed], seeds_text(o.run.seed for o in group), ours, paper.get(name), sibling,
            packed_bytes, packed_accuracy, duration_text(sum(o.result.seconds for o in group)), notes[name],
        ))  # fmt: skip
    for name, ones in lost.items():
        settings = ones[0].run.settings
        rows.append((
            name, WEIGHTS[settings.compression.mode if settings.compression else None],
            seeds_text(one.run.seed for one in ones), "diverged", *(None,) * 5, notes[name],
        ))  # fmt: skip
    runs_shown = [*(o.run for o in outcomes), *(one.run for one in trained.diverged)]
    show_table(output, Table(runs_shown[0].recipe, _COLUMNS, tuple(rows)))
    if len(outcomes) == 1:
        output.say(f"checkpoint: {outcomes[0].checkpoint}")
    elif outcomes:
        output.say(f"checkpoints: {_common_folder(outcomes)}/*/last.pt")


def _means(group: Sequence[Outcome], packed: Mapping[str, Exported]) -> tuple[Value, Value, Value, Value]:
    """Accuracies of base and siblings, size and accuracy of the packed files, over a run's seeds; None where there is no mean."""
    if _apart(group):
        return (None,) * 4
    siblings = [a for o in group for key, a in o.result.accuracy.items() if key != "base"]
    files = [packed[o.run.identity] for o in group if o.run.identity in packed]
    compared = [file.accuracy for file in files if file.accuracy is not None]
    return (
        spread([o.result.accuracy["base"] for o in group]), spread(siblings) if siblings else None,
        size_text(files[0].size_bytes) if files else None, spread(compared) if compared else None,
    )  # fmt: skip


def _marks(group: Sequence[Outcome]) -> tuple[str, ...]:
    run, apart = group[0].run, _apart(group)
    found = marks(run.settings, run.altered, [outcome.result for outcome in group])
    return (f"{apart}: no mean", *found) if apart else found


def _apart(group: Sequence[Outcome]) -> str | None:
    """Why the results of a run's seeds have no mean, where they differ in data or precision."""
    return disagreement({outcome.run.seed: outcome.result for outcome in group})


def _record(outcome: Outcome, exported: Exported | None) -> TrainedRun:
    from tnacli.cli.documents.training import Data, PackedFile, TrainedRun

    run, result = outcome.run, outcome.result
    kept = {key: value for key, value in dict(result).items() if key in TrainedRun.model_fields}
    return TrainedRun.model_validate({
        **kept,
        "data": Data(**result.data.model_dump(include=set(Data.model_fields))),
        # Asked for by this recipe, whichever recipe trained it first.
        "recipe": run.recipe, "run": run.name, "trained": outcome.trained,
        "folder": outcome.folder.path, "checkpoint": outcome.checkpoint,
        "packed": None if exported is None else PackedFile.model_validate(exported),
    })  # fmt: skip


def _common_folder(outcomes: Sequence[Outcome]) -> Path:
    folders = {outcome.folder.path.parent for outcome in outcomes}
    return folders.pop() if len(folders) == 1 else next(iter(folders)).parent


def seeds_text(seeds: Iterable[int]) -> str:
    """Seeds in their order, more than three in a row as "0 to 23"."""
    rows: list[list[int]] = []
    for seed in seeds:
        if rows and seed == rows[-1][-1] + 1:
            rows[-1].append(seed)
        else:
            rows.append([seed])
    return ", ".join(f"{row[0]} to {row[-1]}" if len(row) > 3 else ", ".join(map(str, row)) for row in rows)
