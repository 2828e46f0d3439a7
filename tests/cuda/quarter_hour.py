"""What was never run on a GPU, in the order of its worth: `python -m tests.cuda.quarter_hour FOLDER`, twelve minutes on one.

Each part is a process of its own with a limit, so that one that hangs or crashes costs no other. What it prints is in FOLDER
while it does, and how it ended in FOLDER/findings.json before the next one begins: a machine that is taken away takes nothing.
docs/gpu.md says what each part is to show. Needs a checkout with the extras `test` and, for the third part, `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINUTES = 12.0
_LEAST = 10.0  # seconds that are worth a start
_PYTEST = ("-m", "pytest", "-o", "addopts=", "--import-mode=importlib", "-q", "-s")


@dataclass(frozen=True)
class Part:
    """What Python is started with, FOLDER standing for where findings go, and for how many seconds at most."""

    name: str
    arguments: tuple[str, ...]
    seconds: float


PARTS = (
    Part("steps", ("-m", "tests.cuda.steps", "baseline, bf16", "twin, bf16", "twin, bf16, low memory"), 90),
    Part("ahead", (*_PYTEST, "tests/data/test_batches.py", "tests/training/test_writer.py", "-k", "gpu or cuda"), 50),
    Part("peers", ("-m", "benchmarks", "--device", "cuda", "--precision", "bf16", "--missing", "--json",
                   "FOLDER/benchmarks.json"), 220),
    Part("training", (*_PYTEST, "tests/cuda/test_training.py"), 170),
    Part("graphs", ("-m", "tests.cuda.graphs"), 60),
    Part("operator", (*_PYTEST, "tests/snn/test_triton.py", "-k", "on_the_gpu"), 130),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """How a part ended: its exit code, "cut off" where it was stopped, or "not begun" where no time was left."""

    part: str
    ended: int | str
    seconds: float


def run(parts: Sequence[Part], folder: Path, minutes: float) -> list[Finding]:
    """Run `parts` one after the other for so many minutes in all, and keep what each finds in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    ends, findings = time.monotonic() + 60 * minutes, list[Finding]()
    for part in parts:
        findings.append(_ran(part, folder, ends - time.monotonic()))
        print(f"{part.name}: {findings[-1].ended}, {findings[-1].seconds:.0f} s", flush=True)
        unfinished = folder / "findings.json.part"
        unfinished.write_text(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
        unfinished.replace(folder / "findings.json")
    return findings


def _ran(part: Part, folder: Path, left: float) -> Finding:
    if left < min(_LEAST, part.seconds):
        return Finding(part.name, "not begun", 0.0)
    began = time.monotonic()
    with (folder / f"{part.name}.txt").open("w") as out:
        arguments = [word.replace("FOLDER", str(folder.resolve())) for word in part.arguments]
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        ended: int | str
        try:
            ended = process.wait(min(left, part.seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
            process.wait()
            ended = "cut off"
    return Finding(part.name, ended, time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cuda.quarter_hour", description=__doc__)
    parser.add_argument("folder", type=Path, help="where findings go")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"in all (default {MINUTES:g})")
    given = parser.parse_args()
    run(PARTS, given.folder, given.minutes)


if __name__ == "__main__":
    main()
