"""The peak memory of a contender's training step, each measured in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.networks import CONTENDERS, Work


def peak_memory_mb(name: str, work: Work) -> float | None:
    """Peak memory in MB (1e6 bytes) of three steps beyond what the process held before; None where it is not installed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", name, str(work.width), str(work.batch)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return float(done.stdout) if done.returncode == 0 else None


if __name__ == "__main__":
    step = CONTENDERS[sys.argv[1]](Work(float(sys.argv[2]), int(sys.argv[3])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6)
