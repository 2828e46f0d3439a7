"""Run folders with made-up results: what a report says of them is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tnacli.data.learned_from import LearnedFrom
from tnacli.recipe.identity import Run
from tnacli.runs.metadata import BegunRun, Precision, RunMetadata, Versions
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder

Finish = Callable[..., RunFolder]


def epoch(
    number: int, accuracy: float, *, matching: float | None = None, shares: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One line of metrics.jsonl."""
    parts = {"cross_entropy": 1.0 / number} | ({} if matching is None else {"matching": matching})
    return {
        "epoch": number, "learning_rate": 0.01, "train_loss": 2.0 / number, "train_parts": parts,
        "train_accuracy": {"base": accuracy + 1}, "measured_on": "test", "loss": {"base": 1.5 / number},
        "accuracy": {"base": accuracy}, "firing_rate": {"conv1": 0.25, "conv2": 0.0625},
        "compressed": "ternary" if shares else None, "shares": shares or {}, "seconds": 1.0, "samples_per_second": 100.0,
    }  # fmt: skip


@pytest.fixture
def finish(out: Path) -> Finish:
    """Store a run below `out` with an accuracy, as if it had been trained; None leaves it unfinished."""

    def finish(
        run: Run, accuracy: float | None, *, epochs: int = 3, source: str = "official", fingerprint: str = "0",
        precision: Precision = "fp32", validation: float | None = None, **networks: float,
    ) -> RunFolder:  # fmt: skip
        folder = RunFolder.of(out, run)
        folder.path.mkdir(parents=True)
        data = LearnedFrom(
            name=run.settings.data.name, source=source, fingerprint=fingerprint, samples={}, digests={}, files=None
        )
        metadata = RunMetadata(
            recipe=run.recipe, run=run.name, identity=run.identity, altered=run.altered, initial=None, data=data,
            kind="images", classes=("cat", "dog"), channels=1, size=(8, 8), mean=None, std=None,
            versions=Versions(tnacli="0", torch="0", python="0"), kernels="compiled", seed=run.seed,
        )  # fmt: skip
        folder.begin(BegunRun(**dict(metadata), settings=run.settings), 0)
        twin = run.settings.objective.kind == "twin"
        shares = {"conv2": {"negative": 0.2, "zero": 0.5, "positive": 0.3}} if run.settings.compression else None
        for number in range(1, epochs + 1):
            value = 10.0 * number if accuracy is None else accuracy * number / epochs
            folder.append_metrics(epoch(number, value, matching=0.5 if twin else None, shares=shares))
        if accuracy is not None:
            result = RunResult(
                **dict(metadata), accuracy={"base": accuracy, **networks}, loss={"base": 0.5}, selected_epoch=epochs,
                select=run.settings.train.select, compressed=None, seconds=3.0, peak_memory_mb=100.0, firing_rate={},
                validation={} if validation is None else {"base": validation}, epochs=epochs, device="cpu",
                precision=precision, peak_beyond_start_mb=None, compiled_regions=False,
            )  # fmt: skip
            folder.finish(result)
        return folder

    return finish
