"""A process may be stopped, or killed, between storing a run's result and saying so: the run is shown all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tnacli.runs.result import RunResult
from tnacli.runs.store import RunFolder

ENDED_WHEN_STORED = """\
import os, sys

if any(argument.startswith("import sys; sys.path[:] =") for argument in sys.orig_argv):  # a process of --jobs
    from tnacli.runs.store import RunFolder

    finish = RunFolder.finish

    def finish_and_end(folder, result):
        finish(folder, result)
        os.kill(os.getpid(), {number})

    RunFolder.finish = finish_and_end
"""


def ended_once_stored(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    finish = RunFolder.finish

    def finish_and_end(folder: RunFolder, result: RunResult) -> None:
        finish(folder, result)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(RunFolder, "finish", finish_and_end)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_signal_just_after_the_result(
    tna: Tna, recipe: Path, out: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    arguments = ("train", recipe, "--out", out, "--set", "train.epochs=1", "--json")
    if fresh:  # the second run is finished, too, but not of this command
        assert tna(*arguments).code == 0
    ended_once_stored(monkeypatch, signal.SIGTERM)
    stopped = tna(*arguments, *(["--fresh"] if fresh else []))
    assert stopped.code == 75, stopped.err
    assert [(run["run"], run["trained"]) for run in stopped.json["runs"]] == [("baseline", True)]
    assert "SIGTERM received" in stopped.json["error"]["message"]


def test_a_run_that_is_to_be_packed_is_not_done_before(
    tna: Tna, recipe: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (
        "train",
        recipe,
        "--out",
        out,
        "--set",
        "train.epochs=1",
        "--set",
        "export=true",
        "--run",
        "tna_t_snn",
        "--json",
    )
    with monkeypatch.context() as patched:
        ended_once_stored(patched, signal.SIGTERM)
        stopped = tna(*arguments)
    assert (stopped.code, stopped.json["runs"]) == (75, [])
    again = tna(*arguments)
    assert again.code == 0, again.err
    assert [(run["trained"], "packed" in run) for run in again.json["runs"]] == [(False, True)]


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_process_of_several_killed_just_after_its_result(
    tna: Tna, recipe: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing left of what was wanted the command is done; what was to be packed, too, is left."""
    (site := tmp_path / "site").mkdir()
    (site / "sitecustomize.py").write_text(ENDED_WHEN_STORED.format(number=int(signal.SIGKILL)))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    arguments = ("train", recipe, "--set", "train.epochs=1", "--jobs", 2, "--json", "--out")
    done = tna(*arguments, out)
    assert done.code == 0, done.err
    assert [(run["run"], run["trained"]) for run in done.json["runs"]] == [("baseline", True), ("tna_t_snn", True)]
    killed = tna(*arguments, tmp_path / "packed", "--set", "export=true")
    assert killed.code == 75, killed.err
    assert [run["run"] for run in killed.json["runs"]] == ["baseline"]
    assert "tna_t_snn seed 0; its process was ended by SIGKILL" in killed.json["error"]["message"]
