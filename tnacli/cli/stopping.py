"""What `tna evaluate --timesteps` and `--exit-confidence` ask for, measure and show."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tnacli.cli.console import Output

if TYPE_CHECKING:
    from tnacli.cli.documents.files import Evaluate
    from tnacli.cli.measured import Measured
    from tnacli.evaluation.energy import Prices


class Stopping(NamedTuple):
    """The timesteps after which all samples are looked at, and the confidence with which one leaves; None if not asked for."""

    timesteps: Sequence[int] | None
    confidence: float | None

    def __bool__(self) -> bool:
        return self.timesteps is not None or self.confidence is not None


def numbers_of(text: str) -> Sequence[int]:
    """The timesteps of a range like 1..4 or a list like 1,2,4. Raises UsageError."""
    from tnacli.errors import UsageError

    span = re.fullmatch(r"(\d{1,4})\.\.(\d{1,4})", text)
    found: Sequence[int] = ()
    if span:
        found = range(int(span[1]), int(span[2]) + 1)
    elif re.fullmatch(r"\d{1,4}(,\d{1,4})*", text):
        found = [int(number) for number in text.split(",")]
    if not found or found[0] < 1 or sorted(set(found)) != list(found):
        raise UsageError(f"--timesteps is a range such as 1..4, or a rising list such as 1,2,4; not {text!r}")
    return found


def measure_stopped(measured: Measured, stopping: Stopping, prices: Prices) -> dict[str, Any]:
    """What a document says of it. Raises UsageError for a timestep that the network does not have."""
    from tnacli.cli.documents.files import EarlyExit, Stopped
    from tnacli.errors import UsageError
    from tnacli.evaluation.timesteps import by_timestep

    if not stopping:
        return {}
    found = by_timestep(measured.network, measured.batches().epoch(0), prices)
    last = len(found.logits)
    if stopping.timesteps is not None and stopping.timesteps[-1] > last:
        raise UsageError(
            f"{measured.about.file}: --timesteps {stopping.timesteps[-1]} is beyond its last; the network has {last}"
        )
    document: dict[str, Any] = {}
    if stopping.timesteps is not None:
        document["by_timestep"] = tuple(Stopped.model_validate(found.after(t)) for t in stopping.timesteps)
    if stopping.confidence is not None:
        left, whole = found.leaving(stopping.confidence), found.after(last)
        document["early_exit"] = EarlyExit(
            **dataclasses.asdict(left),
            confidence=stopping.confidence,
            energy_saved=1 - left.energy_nj / whole.energy_nj if whole.energy_nj else 0.0,
            energy_all_nj=whole.energy_nj,
            accuracy_all=whole.accuracy,
        )
    return document


def show_stopped(output: Output, record: Evaluate, who: str) -> None:
    """A row for each timestep, one of the samples that left early, and a sentence of what it saved."""
    rows = [(f"{one.timesteps:g}", one) for one in record.by_timestep or ()]
    left = record.early_exit
    if left is not None:
        rows.append((f"{left.timesteps:.2f} (early exit)", left))
    if not rows:
        return
    columns = ["timesteps", "accuracy %", "loss", "MACs", "additions", "energy nJ"]
    cells = [
        [name, f"{one.accuracy:.2f}", f"{one.loss:.4f}", f"{one.macs:,.0f}", f"{one.additions_nonzero:,.0f}",
         f"{one.energy_nj:,.2f}"]
        for name, one in rows
    ]  # fmt: skip
    output.table(str(record.file) if who else "", columns, cells, right=columns[1:])
    if left is not None:
        output.say(
            f"{who}samples leave at a confidence of {left.confidence:g}: {left.timesteps:.2f} timesteps on average, "
            f"{100 * left.energy_saved:.1f} % of the energy saved, "
            f"accuracy {left.accuracy:.2f} % instead of {left.accuracy_all:.2f} %"
        )
