"""`tna train --dry-run`: the recipe as it resolves, where each value comes from, and what the runs would take."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from tnacli.cli.console import Output, size_text
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.describe import resolved
from tnacli.recipe.identity import Run
from tnacli.recipe.layout import LayerShape, layer_shapes
from tnacli.recipe.load import Loaded
from tnacli.recipe.objective_section import Twin
from tnacli.recipe.schema import Settings
from tnacli.report.store import RunFolder


def show(output: Output, loaded: Loaded, runs: tuple[Run, ...], out: Path) -> None:
    """Print the plan; nothing is loaded, built or written."""
    if output.as_json:
        output.document(
            {
                "command": "train --dry-run",
                "version": 1,
                "recipe": loaded.recipe.name,
                "runs": [_record(run, out) for run in runs],
            }
        )
        return
    names = list(dict.fromkeys(run.name for run in runs))
    by_name = {run.name: run for run in runs}
    resolved_rows = {name: resolved(by_name[name].settings, loaded.origins[name]) for name in names}
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
        table = [row for row in table if str(row[3]) != "default"]
    output.table(f"{loaded.recipe.name}: settings", ["key", "run", "value", "from"], table)
    rows: list[list[object]] = []
    for run in runs:
        record = _record(run, out)
        size = record["size"]
        rows.append([
            run.name, run.seed, record["status"], f"{size['parameters']:,}" if size else "depends on the data",
            size_text(size["checkpoint_bytes"]) if size else "",
            size_text(size["packed_bytes"]) if size and size["packed_bytes"] else "", record["folder"],
        ])  # fmt: skip
    output.table(
        f"{loaded.recipe.name}: runs", ["run", "seed", "status", "parameters", "checkpoint", "packed 2-bit", "folder"], rows,
        right=("seed", "parameters", "checkpoint", "packed 2-bit"),
    )  # fmt: skip
    if not output.verbose:
        output.say("values not shown are defaults; -v shows them all")


def _record(run: Run, out: Path) -> dict[str, Any]:
    folder = RunFolder.of(out, run)
    return {
        "run": run.name, "seed": run.seed, "identity": run.identity, "status": folder.status, "folder": str(folder.path),
        "altered": list(run.altered), "size": sizes(run.settings), "settings": run.settings.model_dump(mode="json"),
    }  # fmt: skip


def sizes(settings: Settings) -> dict[str, int | None] | None:
    """Parameters of all trained networks, bytes of a checkpoint with its optimiser, bytes of the base packed at 2 bits.

    None where the input's shape is only known from the user's own files.
    """
    facts = DATASETS[settings.data.name]
    size = settings.data.size or facts.size
    if facts.channels is None or facts.classes is None or size is None:
        return None
    widths = [settings.model.width]
    if isinstance(settings.objective, Twin):
        widths += [sibling.width or settings.model.width for sibling in settings.objective.siblings]
    parameters = buffers = 0
    for width in widths:
        shapes = layer_shapes(
            settings.model.layout, width=width, channels=facts.channels, size=size, classes=facts.classes
        )
        hidden = sum(shape.weight[0] for shape in shapes[:-1])
        normed = settings.model.norm == "batch"
        parameters += sum(shape.weights for shape in shapes) + shapes[-1].weight[0] + hidden * (2 if normed else 1)
        buffers += 2 * hidden if normed else 0
    base = layer_shapes(
        settings.model.layout, width=settings.model.width, channels=facts.channels, size=size, classes=facts.classes
    )
    # Adam keeps two moments a parameter.
    checkpoint = 4 * (3 * parameters + buffers)
    return {
        "parameters": parameters,
        "checkpoint_bytes": checkpoint,
        "packed_bytes": packed_bytes(base) if settings.compression else None,
    }


def packed_bytes(shapes: tuple[LayerShape, ...]) -> int:
    """Bytes of the tensors of a 2-bit packed file: codes in whole bytes a row, the rest in fp32."""
    first, hidden, readout = shapes[0], shapes[1:-1], shapes[-1]
    constants = 8 * sum(shape.weight[0] for shape in shapes[:-1])
    rows = sum(shape.weight[0] * -(-prod(shape.weight[1:]) // 4) for shape in hidden)
    return 4 * first.weights + constants + rows + 4 * (readout.weights + readout.weight[0])
