"""The file of results: records under the machine and versions they were measured with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Record

VERSION = 1
_ANSWERS = {"ratio", "ratio_of_minima", "ours", "theirs", "rounds", "mb", "skipped", "failed", "min_ms", "median_ms", "samples",
            "equal_predictions", "difference", "logits", "gradient", "firing_rate", "ms", "parts", "operators"}  # fmt: skip


@dataclass
class Results:
    """All records of one machine, and where they are kept."""

    about: dict[str, Any]
    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Put `record` in, in place of an older one of the same measurement."""
        key = _key(record)
        for number, old in enumerate(self.records):
            if _key(old) == key:
                self.records[number] = record
                return
        self.records.append(record)

    def find(self, kind: str, **wanted: Any) -> list[Record]:
        """The records of `kind` with these values."""
        return [
            r for r in self.records if r["kind"] == kind and all(r.get(key) == value for key, value in wanted.items())
        ]

    def one(self, kind: str, **wanted: Any) -> Record | None:
        """The record of `kind` with these values that holds a measurement, if there is one."""
        found = [r for r in self.find(kind, **wanted) if "skipped" not in r and "failed" not in r]
        return found[0] if found else None

    def write(self, path: Path) -> None:
        document = {"version": VERSION, **self.about, "records": self.records}
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)


def read(path: Path) -> Results:
    """The results in a file. Raises ValueError if it holds something else."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.pop("version", None) != VERSION:
        raise ValueError(f"{path} holds no results of version {VERSION}; move it away and measure again")
    records = document.pop("records")
    return Results(document, records)


def _key(record: Record) -> frozenset[tuple[str, Any]]:
    return frozenset((name, value) for name, value in record.items() if name not in _ANSWERS)


def measured(records: Iterable[Record]) -> list[Record]:
    """Those that hold a measurement."""
    return [r for r in records if "skipped" not in r and "failed" not in r]
