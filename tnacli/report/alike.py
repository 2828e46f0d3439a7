"""Whether results may be averaged or subtracted: those of other data or in another precision may not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tnacli.runs.metadata import RunMetadata
from tnacli.runs.result import RunResult


def _seeds(seeds: Sequence[Any]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def disagreement(results: Mapping[Any, RunMetadata], naming: Callable[[Sequence[Any]], str] = _seeds) -> str | None:
    """Why stored results cannot be averaged or subtracted, such as "seeds 0, 1 learned from other data than seed 2".

    None if they agree in what they learned from (source and fingerprint of the data) and in the precision of training.
    `results` are by seed, or by what `naming` makes a name of.
    """

    def groups(key: Callable[[RunMetadata], Any]) -> dict[Any, str]:
        found: dict[Any, list[Any]] = {}
        for name, result in results.items():
            found.setdefault(key(result), []).append(name)
        return {value: naming(names) for value, names in found.items()}

    data = list(groups(lambda result: (result.data.source, result.data.fingerprint)).values())
    if len(data) > 1:
        return f"{data[0]} learned from other data than {' and '.join(data[1:])}"
    precisions = groups(lambda result: result.precision if isinstance(result, RunResult) else None)
    if len(precisions) > 1:
        return ", ".join(f"{names} trained in {precision}" for precision, names in precisions.items())
    return None
