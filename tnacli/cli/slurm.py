"""Runs as a Slurm job array: a share of them a task, each run on one GPU or on many."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tnacli.cli.shards import pieces
from tnacli.errors import UsageError
from tnacli.recipe.identity import Run


@dataclass(frozen=True)
class Gpus:
    """What each run is trained on."""

    nodes: int = 1
    on_each: int = 1

    @property
    def together(self) -> int:
        return self.nodes * self.on_each


ONE = Gpus()


def gpus_of(text: str | None) -> Gpus:
    """`G` or `NODESxG`. Raises UsageError for other text."""
    if text is None:
        return ONE
    match = re.fullmatch(r"(?:([1-9][0-9]{0,3})x)?([1-9][0-9]{0,2})", text)
    if match is None:
        raise UsageError(f"--slurm-gpus {text!r} is none; write GPUS or NODESxGPUS, such as 4 or 2x4")
    return Gpus(int(match[1] or 1), int(match[2]))


def slurm_script(runs: Sequence[Run], arguments: Sequence[str], name: str, gpus: Gpus = ONE) -> str:
    """A job-array script that runs `tna ARGUMENTS` with one share a task, under torchrun where a run has many GPUs.

    `arguments` are those of the command line as given; `--slurm` and `--slurm-gpus` are left out of them.
    """
    count, given = len(pieces(runs)), _without_slurm(arguments)
    share = f'--shard "$SLURM_ARRAY_TASK_ID/{count}"'
    if gpus.together == 1:
        started = shlex.join(["tna", *given])
    else:
        started = (
            f"torchrun --nnodes {gpus.nodes} --nproc-per-node {gpus.on_each} --rdzv-backend c10d "
            f'--rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:$port" -m tnacli -- {shlex.join(given)}'
        )
    return f"""\
#!/bin/bash
# {len(runs)} runs in {count} tasks, {gpus.together} GPU{"s" * (gpus.together > 1)} each, written by:
#   {shlex.join(["tna", *arguments]).replace(chr(10), chr(10) + "#   ")}
# Submit it with sbatch from the folder that the command was given in. --out and --data-root must be on a disk that all
# nodes share. Adjust the resources first.
#SBATCH --job-name=tna-{name}
#SBATCH --array=1-{count}
#SBATCH --nodes={gpus.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={8 * gpus.on_each}
#SBATCH --gres=gpu:{gpus.on_each}
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=tna-{name}-%a.log
#SBATCH --open-mode=append
{_FOR_MANY.format(started=started, share=share) if gpus.together > 1 else _FOR_ONE.format(started=started, share=share)}"""


_REQUEUE = """\
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""

_FOR_ONE = (
    """\
# Five minutes before the time is up tna is asked to stop; it saves and exits with 75, and the task is queued again.
#SBATCH --signal=TERM@300

srun {started} {share}
code=$?
if [ "$code" -eq 75 ]; then
"""
    + _REQUEUE
)

_FOR_MANY = (
    """\
# Five minutes before the time is up all processes are asked to stop; they save, and the task is queued again. torchrun exits
# with 1 whatever its processes end with, so whether they were asked is what is remembered.
#SBATCH --signal=B:TERM@300

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
asked=
trap 'asked=1; kill -TERM "$work"' TERM
srun {started} {share} &
work=$!
wait "$work"
code=$?
if [ -n "$asked" ]; then
    wait "$work"
"""
    + _REQUEUE
)


def _without_slurm(arguments: Sequence[str]) -> list[str]:
    left, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--slurm-gpus":
            next(rest, None)
        elif argument != "--slurm" and not argument.startswith("--slurm-gpus="):
            left.append(argument)
    return left
