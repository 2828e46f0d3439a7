"""`python -m benchmarks [--width 0.25] [--batch 64] [--rounds 10] [--json FILE]`: training steps side by side.

The contenders take turns, A B C A B C, in one process, so that a drifting machine slows all of them; minimum and median
of each are shown with their ratio to tnacli's. Peak memory is measured in a process of its own for each.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.memory import peak_memory_mb
from benchmarks.networks import CONTENDERS, Work
from tnacli.training.device import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = Work(arguments.width, arguments.batch)

    memory = {name: peak for name in CONTENDERS if (peak := peak_memory_mb(name, work)) is not None}
    keep_freed_memory()  # for all alike: `tna train` does it, and it would be unfair not to give it to the others
    steps, skipped = {}, {}
    for name, build in CONTENDERS.items():
        try:
            steps[name] = build(work)
        except ImportError as error:
            skipped[name] = f"not installed: {error.name}"
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.rounds + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number >= 2:
                seconds[name].append(time.perf_counter() - started)
    reference = seconds["tnacli"]
    rows = [
        {
            "name": name,
            "min_ms": 1e3 * min(times),
            "median_ms": 1e3 * median(times),
            "ratio": median(a / b for a, b in zip(times, reference, strict=True)),
            "memory_mb": memory.get(name),
        }
        for name, times in seconds.items()
    ]
    print(f"width {work.width}, batch {work.batch}, T = {work.timesteps}, fp32, {torch.get_num_threads()} threads")
    print(f"{'':28} {'min ms':>9} {'median ms':>10} {'x tnacli':>9} {'memory MB':>10}")
    for row in rows:
        mb = "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}"
        print(f"{row['name']:28} {row['min_ms']:9.1f} {row['median_ms']:10.1f} {row['ratio']:9.2f} {mb:>10}")
    for name, reason in skipped.items():
        print(f"{name:28} skipped: {reason}")
    if arguments.json:
        document: dict[str, Any] = {
            "date": datetime.date.today().isoformat(), "torch": torch.__version__, "python": platform.python_version(),
            "capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
            "width": work.width, "batch": work.batch, "rounds": arguments.rounds, "rows": rows,
        }  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
