"""The scripts of `tna train --slurm`: what a task runs, and that one that was asked to stop is queued again."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tests.cli.conftest import tna as tna
from tnacli.cli.slurm import slurm_script
from tnacli.recipe.parse.load import load, plan


def test_the_script_is_a_shell_script_that_asks_for_every_share(tna: Tna) -> None:
    printed = tna("train", "fig3a_cifar100_kd_alpha", "--out", "/shared/my runs", "--slurm")
    assert printed.code == 0
    checked = subprocess.run(["bash", "-n"], input=printed.out, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "#SBATCH --array=1-3\n" in printed.out
    (command,) = [line for line in printed.out.splitlines() if line.startswith("srun ")]
    words = shlex.split(command)
    assert words[1:3] == ["tna", "train"]
    assert words[words.index("--out") + 1] == "/shared/my runs"
    assert words[-2:] == ["--shard", "$SLURM_ARRAY_TASK_ID/3"]
    assert "--slurm" not in words


def test_values_that_a_shell_would_obey_are_quoted() -> None:
    script = slurm_script(plan(load("quickstart")), ["train", "$(touch x)", "a;b"], "quickstart")
    (command,) = [line for line in script.splitlines() if line.startswith("srun ")]
    assert shlex.split(command)[3:5] == ["$(touch x)", "a;b"]


def test_an_argument_of_two_lines_stays_a_comment() -> None:
    script = slurm_script(plan(load("quickstart")), ["train", "a\ntouch x"], "quickstart")
    assert [line for line in script.splitlines() if line.startswith("touch")] == [
        'touch x\' --shard "$SLURM_ARRAY_TASK_ID/2"'
    ]


def test_many_gpus_train_each_run_under_torchrun(tna: Tna) -> None:
    printed = tna("train", "fig3a_cifar100_kd_alpha", "--run", "kd_ce_1e-2", "--slurm-gpus", "2x4", "--slurm")
    assert printed.code == 0
    assert "#SBATCH --nodes=2\n" in printed.out
    assert "#SBATCH --gres=gpu:4\n" in printed.out
    (command,) = [line for line in printed.out.splitlines() if line.startswith("srun ")]
    words = shlex.split(command)
    assert words[:6] == ["srun", "torchrun", "--nnodes", "2", "--nproc-per-node", "4"]
    assert words[words.index("-m") :] == [
        "-m", "tnacli", "--", "train", "fig3a_cifar100_kd_alpha", "--run", "kd_ce_1e-2", "--shard", "$SLURM_ARRAY_TASK_ID/3", "&",
    ]  # fmt: skip
    assert tna("train", "quickstart", "--slurm", "--slurm-gpus=1").out.count("torchrun") == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--slurm-gpus", "2"), "belongs to --slurm"),
        (("--slurm", "--slurm-gpus", "0"), "such as 4 or 2x4"),
        (("--slurm", "--slurm-gpus", "2x"), "such as 4 or 2x4"),
        (("--slurm", "--shard", "1/2"), "a share of its own"),
        (("--slurm", "--fresh"), "would begin anew"),
    ],
)
def test_what_does_not_go_with_it_is_refused(tna: Tna, options: tuple[str, ...], said: str) -> None:
    refused = tna("train", "quickstart", *options)
    assert (refused.code, said in refused.err) == (2, True)


STANDS_IN = {
    "srun": 'exec "$@"\n',
    # As torchrun: what it started saves when it is asked to stop, and the exit code is 1 whatever that ends with.
    "torchrun": 'trap "touch saved; exit 1" TERM\necho "$@" > started\n[ -e fails ] && exit 1\n[ -e ends ] && exit 0\n'
    "while true; do sleep 0.05; done\n",
    "tna": 'echo "$@" > started\n[ -e fails ] && exit 7\n[ -e ends ] && exit 0\ntouch saved; exit 75\n',
    "scontrol": '[ "$1" = show ] && echo first && exit\necho "$@" > asked\n',
}


@pytest.mark.parametrize("gpus", ["1", "2"])
@pytest.mark.parametrize("how", ["ends", "fails", "stops"])
def test_a_task_that_was_stopped_is_queued_again(tna: Tna, tmp_path: Path, gpus: str, how: str) -> None:
    """And no other: with commands in place of Slurm's, torchrun and tna, which say what they were called with."""
    for name, text in STANDS_IN.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / how).touch()
    (tmp_path / "job.sh").write_text(tna("train", "quickstart", "--slurm", "--slurm-gpus", gpus).out)
    task = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "40", "SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "first"}
    places = {**os.environ, **task, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    job = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=places)
    try:
        if how == "stops" and gpus == "2":
            deadline = time.monotonic() + 30
            while not (tmp_path / "started").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            job.send_signal(signal.SIGTERM)
        ended = job.wait(timeout=30)
    finally:
        job.kill()
    assert "--shard 2/2" in (tmp_path / "started").read_text()
    assert ("first:20042" in (tmp_path / "started").read_text()) == (gpus == "2")
    assert (ended == 0) == (how == "ends")
    assert (tmp_path / "saved").exists() == (how == "stops")
    if how == "stops":
        assert (tmp_path / "asked").read_text() == "requeue 40_2\n"
    else:
        assert not (tmp_path / "asked").exists()
