"""One measurement each: contenders in turn, peak memory, agreement, whole processes. Each gives a plain record.

A record holds what was measured, or `skipped` or `failed` with the reason; nothing is raised, so that no part costs another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from benchmarks.work import SkippedError, Work
from benchmarks.worker import FailedError, Worker

Record = dict[str, Any]
_MOST_ROUNDS = 30


class Measurement(Protocol):
    """Something to be measured; `key` tells its record from all others."""

    @property
    def key(self) -> Record: ...

    def measure(self) -> Record: ...


def measured(what: Measurement) -> Record:
    """The record of `what`, whatever happens."""
    try:
        found = what.measure()
    except SkippedError as reason:
        found = {"skipped": str(reason)}
    except (FailedError, OSError, subprocess.SubprocessError) as error:
        found = {"failed": str(error)}
    return {**what.key, **found}


def _times(seconds: Sequence[float]) -> Record:
    return {"min_ms": 1e3 * min(seconds), "median_ms": 1e3 * median(seconds)}


def _work_key(work: Work) -> Record:
    key = asdict(work)
    del key["folder"]
    return key


@dataclass(frozen=True)
class Pair:
    """Two contenders in turn, A B A B, for about `seconds` and at least `rounds` rounds, after a first turn of each.

    In one process; with `apart` each in its own and with its own settings of the allocator, tnacli's or the system's.
    """

    kind: str
    task: str
    ours: str
    theirs: str
    work: Work
    seconds: float
    rounds: int = 3
    apart: bool = False
    timeout_seconds: float = 300.0

    @property
    def key(self) -> Record:
        return {"kind": self.kind, "name": self.theirs, "against": self.ours, **_work_key(self.work)}

    def measure(self) -> Record:
        with ExitStack() as stack:
            a = stack.enter_context(Worker(timeout_seconds=self.timeout_seconds))
            b = a
            if self.apart:
                b = stack.enter_context(Worker(keep_freed=False, timeout_seconds=self.timeout_seconds))
            b.build("b", self.task, self.theirs, self.work)
            a.build("a", self.task, self.ours, self.work)
            turns: list[tuple[float, float]] = []
            began = time.perf_counter()
            while len(turns) < self.rounds or (
                time.perf_counter() - began < self.seconds and len(turns) < _MOST_ROUNDS
            ):
                turns.append((a.seconds("a"), b.seconds("b")))
            ours, theirs = zip(*turns, strict=True)
            found = {
                "rounds": len(ours), "ours": _times(ours), "theirs": _times(theirs),
                "ratio": median(y / x for x, y in zip(ours, theirs, strict=True)), "ratio_of_minima": min(theirs) / min(ours),
            }  # fmt: skip
            if self.task == "evaluation":
                found |= _compared(a.logits("a"), b.logits("b"))
            return found


def _compared(ours: list[list[float]], theirs: list[list[float]]) -> Record:
    def best(logits: list[float]) -> int:
        return max(range(len(logits)), key=logits.__getitem__)

    return {
        "samples": len(ours),
        "equal_predictions": sum(best(x) == best(y) for x, y in zip(ours, theirs, strict=True)),
        "difference": max(abs(x - y) for xs, ys in zip(ours, theirs, strict=True) for x, y in zip(xs, ys, strict=True)),
    }


@dataclass(frozen=True)
class Memory:
    """Peak memory of one contender, alone in a process.

    tnacli's allocator is set up as `tna train` does it where it trains, and is the system's elsewhere, as everybody's is.
    """

    task: str
    name: str
    work: Work

    @property
    def key(self) -> Record:
        return {"kind": "memory", "task": self.task, "name": self.name, **_work_key(self.work)}

    def measure(self) -> Record:
        with Worker(keep_freed=self.task == "training" and self.name.startswith("tnacli")) as worker:
            return {"mb": worker.memory_mb(self.task, self.name, self.work)}


@dataclass(frozen=True)
class Called:
    """What a function of the worker gives: "agreement" of a peer, "profile" of a step."""

    kind: str
    name: str
    work: Work

    @property
    def key(self) -> Record:
        return {"kind": self.kind, "name": self.name, **_work_key(self.work)}

    def measure(self) -> Record:
        with Worker() as worker:
            found: Record = worker.call(self.kind, *([self.name] if self.kind == "agreement" else []), self.work)
            return found


@dataclass(frozen=True)
class Process:
    """Python with these arguments as a whole process, `rounds` times after one that warms the caches."""

    name: str
    arguments: tuple[str, ...]
    rounds: int

    @property
    def key(self) -> Record:
        return {"kind": "process", "name": self.name}

    def measure(self) -> Record:
        seconds = []
        # An installed package has its bytecode; in a checkout the first round leaves it, if it may.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        for _ in range(self.rounds + 1):
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, *self.arguments],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
                env=environment,
            )
            seconds.append(time.perf_counter() - started)
            if done.returncode:
                raise FailedError(f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return {"rounds": self.rounds, **_times(seconds[1:])}


def prepare(works: Sequence[Work], say: Callable[[str], None]) -> None:
    """Write what evaluation reads into each work's folder. A failure shows in the rows that miss it."""
    for work in works:
        Path(work.folder).mkdir(parents=True, exist_ok=True)
        try:
            with Worker() as worker:
                worker.call("prepare", work)
        except (SkippedError, FailedError) as error:
            say(f"preparing {work}: {error}")
