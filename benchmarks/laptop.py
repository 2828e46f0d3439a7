"""`python -m benchmarks.laptop --against CHECKOUT`: whole runs of the laptop scale, here and in another checkout, in turns.

A run is `tna train claims_cifar10` as its users start it, from Python's start to the last of the test images, on the real data
(`TNA_DATA`). Times are the processor's, of one thread; a ratio is the median over pairs of neighbours.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = "claims_cifar10"
RUNS = ("baseline", "tna", "t_snn")
HERE = Path(__file__).resolve().parents[1]


def seconds_of(checkout: Path, run: str, precision: str, seed: int) -> tuple[float, str]:
    """Seconds of the processor that a run takes with the code in `checkout`, and the accuracy that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as out:
        asked = ("--run", run, "--seed", str(seed), "--set", f"train.precision={precision}", "--out", out)
        command = [sys.executable, "-m", "tnacli", "train", RECIPE, *asked]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == [run] and " seed " not in line)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, row.split()[3]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laptop", description=__doc__)
    parser.add_argument(
        "--against", type=Path, required=True, help="another checkout, whose runs come first in each pair"
    )
    parser.add_argument("--run", nargs="+", default=RUNS, help=f"default: {' '.join(RUNS)}")
    parser.add_argument("--precision", nargs="+", default=("fp32", "bf16"), help="default: both")
    parser.add_argument("--pairs", type=int, default=3, help="default: 3, with a seed each")
    arguments = parser.parse_args()
    for run in arguments.run:
        for precision in arguments.precision:
            pairs = [
                tuple(seconds_of(checkout, run, precision, seed) for checkout in (arguments.against.resolve(), HERE))
                for seed in range(arguments.pairs)
            ]
            medians = [statistics.median(pair[i][0] for pair in pairs) for i in (0, 1)]
            ratio = statistics.median(before[0] / after[0] for before, after in pairs)
            accuracies = ", ".join(f"{before[1]} and {after[1]}" for before, after in pairs)
            times = f"{medians[0]:.1f} s, {medians[1]:.1f} s, x {ratio:.2f}"
            print(f"{run}, {precision}: {times}; test accuracy {accuracies}", flush=True)


if __name__ == "__main__":
    main()
