"""Two runs side by side: the settings in which they differ, what they came to, and what computed them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tnacli.report.settings import compared, says_something, value_text
from tnacli.report.table import Column, Shown, Table, Value
from tnacli.runs.metadata import BegunRun
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder


@dataclass(frozen=True)
class Line:
    """One quantity of both runs; None where a run does not have it. `text` is how people read its numbers."""

    key: str
    title: str
    a: Any
    b: Any
    text: str = "{}"

    @property
    def difference(self) -> int | float | None:
        """B minus A, of two numbers."""
        numbers = [value for value in (self.a, self.b) if isinstance(value, int | float)]
        return numbers[1] - numbers[0] if len(numbers) == 2 else None


def differing_settings(a: BegunRun, b: BegunRun) -> list[tuple[str, dict[str, Any]]]:
    """What was asked for otherwise: seed, checkpoint started from, settings by dotted key; of "a" and "b" where it has it."""
    found: list[tuple[str, dict[str, Any]]] = [
        (key, {"a": getattr(a, key), "b": getattr(b, key)})
        for key in ("seed", "initial")
        if getattr(a, key) != getattr(b, key)
    ]
    settings = compared({"a": a.settings, "b": b.settings}, execution=True).differing
    return [*found, *((key, dict(values)) for key, values in settings.items())]


def lines(a: RunFolder, b: RunFolder) -> list[Line]:
    """Status and results of both runs, and of what computed them, only what differs.

    Raises DataError for a folder without a readable run.json, FileFormatError for a result that no training has stored.
    """
    begun, results = (a.require_begun(), b.require_begun()), (a.result, b.result)
    known = [
        Line("status", "status", a.status, b.status),
        Line("epochs", "epochs", len(a.metrics()), len(b.metrics())),
        *_accuracies(*results),
        *(
            Line(key, title, getattr(results[0], key, None), getattr(results[1], key, None), text)
            for key, title, text in (
                ("selected_epoch", "epoch selected", "{}"), ("seconds", "training, s", "{:.1f}"),
                ("peak_memory_mb", "peak memory, MB", "{:.1f}"),
            )
        ),
        *(line for line in _computed_by(*begun, *results) if line.a != line.b),
    ]  # fmt: skip
    return [line for line in known if line.a is not None or line.b is not None]


def _accuracies(a: RunResult | None, b: RunResult | None) -> Iterator[Line]:
    for key, title, text in (
        ("accuracy", "test accuracy of {}, %", "{:.2f}"), ("loss", "test loss of {}", "{:.4f}"),
        ("validation", "validation accuracy of {}, %", "{:.2f}"), ("firing_rate", "firing rate of {}", "{:.4f}"),
    ):  # fmt: skip
        first, second = ({} if one is None else getattr(one, key) for one in (a, b))
        for name in dict.fromkeys((*first, *second)):
            who = "the base" if name == "base" else name
            yield Line(f"{key}.{name}", title.format(who), first.get(name), second.get(name), text)


def _computed_by(a: BegunRun, b: BegunRun, first: RunResult | None, second: RunResult | None) -> Iterator[Line]:
    yield Line("data.source", "data read from", a.data.source, b.data.source)
    yield Line("data.fingerprint", "data fingerprint", a.data.fingerprint, b.data.fingerprint)
    yield Line("kernels", "kernels", a.kernels, b.kernels)
    for key in ("device", "precision"):
        yield Line(key, key, getattr(first, key, None), getattr(second, key, None))
    for name in type(a.versions).model_fields:
        yield Line(f"versions.{name}", name, getattr(a.versions, name), getattr(b.versions, name))


def settings_pair_table(a: BegunRun, b: BegunRun) -> Table:
    """A row for each setting that differs, with the values as `--set` takes them; nothing where a run does not have it.

    Defaults of a section that only one run has are left out.
    """
    found = differing_settings(a, b)
    sides = [{key: values[side] for key, values in found if side in values} for side in ("a", "b")]
    rows = [
        (key, *(value_text(side[key]) if key in side else None for side in sides))
        for key, _ in found
        if any(key in own and says_something(key, own[key], theirs) for own, theirs in (sides, sides[::-1]))
    ]
    notes = () if rows else ("A and B have the same settings and seed",)
    columns = (Column("setting", "setting"), Column("a", "A"), Column("b", "B"))
    return Table("settings in which A and B differ", columns, tuple(rows), notes)


def results_pair_table(found: list[Line]) -> Table:
    """A row for each of the `lines`, and B minus A of numbers."""
    columns = (
        Column("quantity", ""), Column("a", "A", number=True), Column("b", "B", number=True),
        Column("difference", "B - A", number=True),
    )  # fmt: skip
    return Table("results", columns, tuple(map(_row, found)))


def _row(line: Line) -> tuple[Value, ...]:
    a, b = (None if value is None else Shown(value, line.text.format(value)) for value in (line.a, line.b))
    return Shown(line.key, line.title), a, b, _shown_difference(line)


def _shown_difference(line: Line) -> Shown | None:
    if line.difference is None:
        return None
    written = line.text.replace("{:", "{:+").replace("{}", "{:+}").format(line.difference)
    return Shown(line.difference, written.lstrip("+-") if float(written) == 0 else written)
