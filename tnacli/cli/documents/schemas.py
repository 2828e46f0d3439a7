"""The JSON Schemas of all documents, made from their models.

python -m tnacli.cli.documents.schemas    writes those that are shipped, tnacli/cli/schemas/NAME.json
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tnacli.cli.documents.base import Failed, JsonSchema
from tnacli.cli.documents.compare import Compare, RunsDiff
from tnacli.cli.documents.files import Evaluate, Export, Import, Inspect
from tnacli.cli.documents.lists import Cleaned, Data, Doctor, Recipes, Recorded, Report, Runs
from tnacli.cli.documents.predict import Predict
from tnacli.cli.documents.training import CompareKD, Train, TrainDryRun

DOCUMENTS: dict[str, Any] = {
    "compare": Compare, "compare_kd": CompareKD, "data": Data, "doctor": Doctor, "error": Failed, "evaluate": Evaluate,
    "export": Export, "import": Import, "inspect": Inspect, "predict": Predict, "recipes": Recipes, "report": Report,
    "runs": Runs, "runs_clean": Cleaned, "runs_diff": RunsDiff, "runs_record": Recorded, "train": Train,
    "train_dry_run": TrainDryRun,
}  # fmt: skip
FOLDER = Path(str(files("tnacli.cli").joinpath("schemas")))


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of the document `name`, a key of `DOCUMENTS`."""
    made = TypeAdapter(DOCUMENTS[name]).json_schema(schema_generator=JsonSchema)
    return {"$schema": JsonSchema.schema_dialect, **made}


def text(value: Any, indent: int = 0, column: int = 0) -> str:
    """`value` as JSON in lines of 130 characters where it can be, with what fits on one there; it begins at `column`."""
    flat = json.dumps(value)
    if column + len(flat) <= 130 or not isinstance(value, dict | list) or not value:
        return flat
    keys = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    items = value.values() if isinstance(value, dict) else value
    inner = indent + 1
    lines = [
        f"{' ' * inner}{key}{text(item, inner, inner + len(key) + 1)}" for key, item in zip(keys, items, strict=True)
    ]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return first + "\n" + ",\n".join(lines) + "\n" + " " * indent + last


if __name__ == "__main__":
    for name in DOCUMENTS:
        (FOLDER / f"{name}.json").write_text(text(schema(name)) + "\n", encoding="utf-8")
