"""`--jobs`: several runs at once give the bits of one after the other, and are stopped, killed and resumed like one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from tests.cli.conftest import Result, Tna, environment
from tnacli.cli.sharing import share_out
from tnacli.cli.worker import Failed
from tnacli.cli.workers import Worker, why_gone
from tnacli.errors import DataError, RunBusyError, Stopped
from tnacli.recipe.identity import Run
from tnacli.recipe.parse import load, plan
from tnacli.runs.store import RunFolder
from tnacli.training.checkpoint import load_checkpoint

LONG = """\
name: long
seeds: [0]
data: {name: digits, train_samples: 120, test_samples: 60}
model: {layout: 4C3-AP2-6C3-AP2-12FC, timesteps: 3}
train: {epochs: 60, batch_size: 40}
runs:
  first: {}
  short: {train: {epochs: 1}, objective: {kind: twin, alpha: 1e-2}}
  second: {objective: {kind: twin, alpha: 1e-3}}
"""
ENDLESS = LONG.replace("epochs: 60", "epochs: 100000")
Start = Callable[[Path], subprocess.Popen[str]]
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="finds processes as Linux shows them")


@pytest.fixture
def long(tmp_path: Path) -> Path:
    path = tmp_path / "long.yaml"
    path.write_text(LONG)
    return path


def weights(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name: dict(load_checkpoint(path).tensors) for path in out.glob("*/*/last.pt")}


def is_free(folder: RunFolder) -> bool:
    try:
        with folder.locked():
            return True
    except RunBusyError:
        return False


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for run in first:
        assert first[run].keys() == second[run].keys()
        assert all(torch.equal(first[run][name], second[run][name]) for name in first[run]), run


def wait_until(there: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def epochs(out: Path, run: str) -> int:
    return sum(path.read_text().count("\n") for path in out.glob(f"*/{run}-*/metrics.jsonl"))


def trainer_of(out: Path, run: str) -> int:
    """The process that holds the lock of a run."""
    (lock,) = out.resolve().glob(f"*/{run}-*/lock")
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if opened.readlink() == lock:
                return int(opened.parts[2])
        except OSError:
            continue
    raise AssertionError("nobody trains it")


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def start() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start `tna train RECIPE --jobs 2 --json` in a process group of its own, as a terminal gives one to each command."""
    started: list[subprocess.Popen[str]] = []

    def call(recipe: Path) -> subprocess.Popen[str]:
        arguments = ["train", str(recipe), "--out", str(recipe.parent / "runs"), "--jobs", "2", "--json"]
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tnacli", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
            )
        )  # fmt: skip
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def test_at_once_as_one_after_the_other_and_a_diverged_run_stops_no_other(
    tna: Tna, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(
        recipe.read_text().replace("runs:\n", "export: true\nruns:\n  wild: {train: {learning_rate: 1e30}}\n")
    )
    turns, at_once = tmp_path / "turns", tmp_path / "at_once"
    alone = tna("train", recipe, "--out", turns, "--json").json
    both = tna("train", recipe, "--out", at_once, "--json", "--jobs", 2, "-v")
    assert both.code == 7
    assert "--jobs 2: 2 at once, each with 1 of 1 threads" in both.err
    assert [run["run"] for run in both.json["runs"]] == ["baseline", "tna_t_snn"]
    assert [run["accuracy"] for run in both.json["runs"]] == [run["accuracy"] for run in alone["runs"]]
    assert [run["run"] for run in both.json["diverged"]] == ["wild"]
    assert both.json["error"]["message"] == alone["error"]["message"]
    assert both.json["runs"][1]["packed"]["accuracy"] == both.json["runs"][1]["accuracy"]["base"]
    assert_same_bits(turns, at_once)
    assert all(line.split(":")[0] in ("--jobs 2", "run 1 of 3", "baseline seed 0", "tna_t_snn seed 0", "wild seed 0",
               "warning", "error") or line.startswith("run ") for line in both.err.splitlines()), both.err  # fmt: skip


@pytest.mark.slow
def test_a_comparison_with_distillation_is_trained_at_once_too(tna: Tna, recipe: Path, tmp_path: Path) -> None:
    """Each pupil is trained by the process that has trained its teacher, and what is compared is the same."""
    recipe.write_text(recipe.read_text().replace("epochs: 3", "epochs: 1"))
    common = ("compare-kd", recipe, "--alpha", "1e-2", "--json", "--out")
    alone, at_once = tna(*common, tmp_path / "turns"), tna(*common, tmp_path / "at_once", "--jobs", 2)
    assert (alone.code, at_once.code) == (0, 0), at_once.err
    assert "--jobs 2: 2 at once" in at_once.err

    def measured(result: Result) -> list[tuple[str, float | None, float]]:
        return [(row["method"], row["alpha"], row["accuracy"]["mean"]) for row in result.json["methods"]]

    assert [method for method, *_ in measured(at_once)] == ["baseline", "teacher", "KD", "KD + CE", "TNA"]
    assert measured(at_once) == measured(alone)
    assert_same_bits(tmp_path / "turns", tmp_path / "at_once")


@needs_proc
@pytest.mark.slow
def test_a_killed_process_costs_its_run_alone_and_the_same_command_goes_on(
    tna: Tna, long: Path, tmp_path: Path
) -> None:
    long.write_text(LONG + "runtime: {checkpoint_every: 1}\n")
    out = tmp_path / "runs"
    arguments = ("train", long, "--out", out, "--jobs", 2, "--json")

    def kill() -> None:
        wait_until(lambda: epochs(out, "first") >= 3)  # by then the first one's checkpoint has been waited for
        os.kill(trainer_of(out, "first"), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    killed = tna(*arguments)
    killer.join()
    assert killed.code == 75, killed.err
    assert [run["run"] for run in killed.json["runs"]] == ["short", "second"]
    assert killed.json["error"]["kind"] == "Stopped"
    assert "1 of 3 runs ended early: first seed 0; its process was ended by SIGKILL" in killed.json["error"]["message"]
    again = tna(*arguments)
    assert again.code == 0, again.err
    assert "first seed 0: 120 samples" in again.err
    assert "going on from epoch" in again.err
    assert [(run["run"], run["trained"]) for run in again.json["runs"]] == [
        ("first", True), ("short", False), ("second", False),
    ]  # fmt: skip
    assert tna("train", long, "--out", tmp_path / "turns").code == 0
    assert_same_bits(out, tmp_path / "turns")


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 75, "SIGTERM received")]
)
def test_a_signal_saves_all_and_shows_what_is_finished(
    start: Start, long: Path, number: int, code: int, said: str
) -> None:
    long.write_text(ENDLESS)
    out = long.parent / "runs"
    process = start(long)
    wait_until(lambda: list(out.glob("*/short-*/result.json")) != [] and epochs(out, "first") >= 2)
    trainers = [trainer_of(out, "first")]
    os.killpg(process.pid, number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    document = json.loads(printed)
    assert [run["run"] for run in document["runs"]] == ["short"]
    assert document["error"]["message"] == (
        f"{said}; saved what was in training; 1 of 3 runs are finished. The same command goes on from there."
    )
    assert errors.count("stopping after this step; saving ...") == 1
    assert "Traceback" not in errors
    assert all(map(is_gone, trainers))
    (saved,) = out.glob("*/first-*/last.pt")
    assert load_checkpoint(saved).metadata.state.epoch >= 2


@needs_proc
@pytest.mark.slow
def test_processes_do_not_outlive_their_parent(start: Start, long: Path) -> None:
    long.write_text(ENDLESS.replace("epochs: 1}", "epochs: 100000}") + "runtime: {checkpoint_every: 1}\n")
    out = long.parent / "runs"
    process = start(long)
    # By the end of the third epoch the first one's checkpoint has been waited for.
    wait_until(lambda: epochs(out, "first") >= 3 and epochs(out, "short") >= 3)
    trainers = [trainer_of(out, run) for run in ("first", "short")]
    assert len({process.pid, *trainers}) == 3
    process.kill()
    process.communicate()
    wait_until(lambda: all(map(is_gone, trainers)), 10)
    folders = [RunFolder(path.parent) for path in out.glob("*/*/lock")]
    # A process counts as gone when its main thread is; one that was writing a checkpoint ends when the disk has answered.
    wait_until(lambda: all(map(is_free, folders)), 10)
    assert all((folder.path / "last.pt").exists() for folder in folders)


@needs_proc
@pytest.mark.slow
def test_after_an_error_no_more_runs_are_begun(long: Path, tna: Tna) -> None:
    """The folder of one run cannot be written; the one in training goes on to its end, the third is not begun."""
    # Long enough that the other process, which may start later, has met its error by then.
    long.write_text(LONG.replace("epochs: 1}", "epochs: 250}"))
    out = long.parent / "runs"
    runs = plan(load(str(long)))
    (out / "long").mkdir(parents=True)
    (out / "long" / runs[0].folder_name).write_text("no folder")
    done = tna("train", long, "--out", out, "--jobs", 2, "--json")
    assert done.code == 8, done.err
    assert done.json["error"]["kind"] == "StorageError"
    assert "No more runs are begun" in done.err
    assert [run["run"] for run in done.json["runs"]] in ([], ["short"])
    assert not list(out.glob("*/second-*"))


def gone(code: int, failed: Failed | None = None) -> Exception:
    return why_gone(
        cast(Worker, SimpleNamespace(failed=failed, name="a seed 0", process=SimpleNamespace(returncode=code)))
    )


def test_why_a_process_has_ended() -> None:
    """Killed, the same command goes on; a crash would happen again, and a bug is one here, too."""
    assert isinstance(gone(-signal.SIGKILL), Stopped)
    assert "memory runs out" in str(gone(-signal.SIGKILL))
    assert isinstance(gone(-signal.SIGTERM), Stopped)
    assert type(gone(-signal.SIGSEGV)) is RuntimeError
    assert "SIGSEGV" in str(gone(-signal.SIGSEGV))
    assert "exit code 1" in str(gone(1))
    assert gone(0, Failed(error := DataError("gone"))) is error
    assert "ValueError: it" in str(gone(0, Failed(None, "Traceback\nValueError: it")))


def runs_of(recipe: Path, *overrides: str) -> tuple[Run, ...]:
    return plan(load(str(recipe), overrides=overrides))


def test_cores_are_shared_out_evenly(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    runs = runs_of(recipe, "seeds=[0,1,2]")
    assert len(runs) == 6
    three = share_out("3", runs)
    assert [one["OMP_NUM_THREADS"] for one in three.environments] == ["2", "2", "2"]
    assert three.text == "--jobs 3: 3 at once, each with 2 of 8 threads"
    assert len(share_out("auto", runs).environments) == min(6, 8 if os.sysconf("SC_PHYS_PAGES") > 4e6 else 6)
    only = share_out("4", runs[:1])
    assert only.environments == ({"OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "8"},)
    assert only.text.startswith("--jobs 4: one at a time; 1 piece of work")


def test_each_process_has_a_gpu(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    runs = runs_of(recipe, "seeds=[0,1,2]")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in share_out("auto", runs).environments] == ["5", "7"]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in share_out("3", runs).environments] == ["5", "7", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in share_out("2", runs).environments] == ["0", "1"]
    on_cpu = runs_of(recipe, "seeds=[0,1,2]", "runtime.device=cpu")
    assert not any("CUDA_VISIBLE_DEVICES" in one for one in share_out("2", on_cpu).environments)


@pytest.mark.parametrize(("arguments", "message"), [
    (("--jobs", "0"), "--jobs is auto or a number from 1 to 1024, not '0'"),
    (("--jobs", "many"), "--jobs is auto or a number from 1 to 1024, not 'many'"),
    (("--jobs", "2", "--slurm"), "--slurm gives every task one piece of work"),
])  # fmt: skip
def test_a_wrong_number_of_jobs(tna: Tna, recipe: Path, arguments: tuple[str, ...], message: str) -> None:
    refused = tna("train", recipe, *arguments)
    assert (refused.code, message in refused.err) == (2, True)
