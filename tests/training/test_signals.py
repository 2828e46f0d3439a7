"""Real processes and real signals: what is asked to stop saves, says how to go on, and exits with the code it should."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import environment

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")]

RECIPE = """\
name: long
seeds: [0]
data: {name: digits}
model: {layout: 16C3-AP2-16C3-AP2-32FC, timesteps: 4}
train: {epochs: 500, batch_size: 64}
runs: {baseline: }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "long.yaml"
    path.write_text(RECIPE)
    return path


def start(recipe: Path, *options: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tnacli", "train", str(recipe), "--out", str(recipe.parent / "runs"), *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment(), close_fds=True,
    )  # fmt: skip


def wait_for_training(recipe: Path, epochs: int = 1) -> None:
    """Until so many epochs are on disk."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        for path in recipe.parent.glob("runs/*/*/metrics.jsonl"):
            if path.read_text().count("\n") >= epochs:
                return
        time.sleep(0.05)
    raise AssertionError("training has not begun")


def saved_position(recipe: Path) -> tuple[int, int]:
    from tnacli.training.checkpoint import load_checkpoint

    (path,) = recipe.parent.glob("runs/*/*/last.pt")
    state = load_checkpoint(path).metadata.state
    return state.epoch, state.step


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 75, "stopped: SIGTERM received; saved"),
        (signal.SIGUSR1, 75, "stopped: SIGUSR1 received; saved"),
        (signal.SIGINT, 130, "stopped: interrupted; saved"),
    ],
)
def test_a_signal_saves_and_the_same_command_goes_on(recipe: Path, number: int, code: int, said: str) -> None:
    process = start(recipe)
    wait_for_training(recipe)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, ""), err
    assert said in err
    assert err.count("stopping after this step; saving ...") == 1
    assert "The same command goes on from there." in err
    assert "Traceback" not in err
    position = saved_position(recipe)
    assert position > (0, 0)
    if number != signal.SIGTERM:
        return
    limited = start(recipe, "--time-limit", "0")
    _, err = limited.communicate(timeout=90)
    assert limited.returncode == 75, err
    assert f"going on from epoch {position[0] + 1}, step {position[1]}" in err
    assert "time limit reached; saved" in err
    assert saved_position(recipe) > position


def test_ctrl_c_on_a_terminal_once_saves_and_leaves_the_cursor(recipe: Path) -> None:
    """The terminal itself sends the signal, to the whole foreground group."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.clear()
        os.environ.update(environment(COLUMNS="100"))
        arguments = ["-m", "tnacli", "train", str(recipe), "--out", str(recipe.parent / "runs")]
        os.execv(sys.executable, [sys.executable, *arguments])
    seen = b""

    def drain(until: float) -> None:
        nonlocal seen
        os.set_blocking(terminal, False)
        while time.monotonic() < until:
            try:
                part = os.read(terminal, 1 << 16)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except OSError:
                return
            if not part:
                return
            seen += part

    until = time.monotonic() + 90
    while time.monotonic() < until and not any(
        path.read_text() for path in recipe.parent.glob("runs/*/*/metrics.jsonl")
    ):
        drain(time.monotonic() + 0.2)
    os.write(terminal, b"\x03")
    drain(time.monotonic() + 60)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    text = seen.decode(errors="replace")
    assert "interrupted; saved" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor stays hidden"


def test_a_second_ctrl_c_stops_at_once(recipe: Path) -> None:
    """The loop is held up within a step; one Ctrl-C waits for it, two do not."""
    code = (
        "import sys, time\n"
        "from tnacli.training import loop\n"
        "step = loop.Trainer._step\n"
        "def held(self, batch):\n"
        "    print('in a step', file=sys.stderr, flush=True)\n"
        "    end = time.monotonic() + 60\n"
        "    while time.monotonic() < end: time.sleep(0.05)\n"
        "    return step(self, batch)\n"
        "loop.Trainer._step = held\n"
        "from tnacli.cli.app import main\n"
        f"sys.argv = ['tna', 'train', {str(recipe)!r}, '--out', {str(recipe.parent / 'runs')!r}]\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    while "in a step" not in (line := process.stderr.readline()):
        assert line, "ended before its first step"
    process.send_signal(signal.SIGINT)
    # It is said at once that the first one was heard, not only when the step is done.
    assert process.stderr.readline() == "stopping after this step; saving ...\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.stderr.close()


@pytest.mark.parametrize(("number", "as_json", "code"), [(signal.SIGINT, False, 130), (signal.SIGTERM, True, 75)])
def test_what_is_finished_is_shown_when_the_next_run_is_stopped(
    recipe: Path, number: int, as_json: bool, code: int
) -> None:
    recipe.write_text(recipe.read_text().replace("runs: {", "runs: {short: {train: {epochs: 1}}, "))
    process = start(recipe, *(["--json"] if as_json else []))
    wait_for_training(recipe, epochs=2)  # of the second
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "; saved" in err.splitlines()[-1]
    if as_json:
        document = json.loads(out)
        assert [run["run"] for run in document["runs"]] == ["short"]
        assert (document["error"]["kind"], document["error"]["exit_code"]) == ("Stopped", 75)
        assert document["error"]["message"].startswith("SIGTERM received; saved")
    else:
        assert [line.split()[0] for line in out.splitlines()] == ["long", "run", "short"]


@pytest.mark.parametrize(
    ("place", "number", "code"),
    [("torch", signal.SIGINT, 130), ("data", signal.SIGINT, 130), ("torch", signal.SIGTERM, 75)],
)
def test_a_signal_before_training_ends_at_once(recipe: Path, place: str, number: int, code: int) -> None:
    """While torch is imported, and while data is read: nothing is to be saved, so nothing waits."""
    hold = "time.sleep(60)"
    program = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {'torch' if place == 'torch' else 'sklearn'!r}:\n"
        "            print('holding', file=sys.stderr, flush=True)\n"
        f"            {hold}\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from tnacli.cli.app import main\n"
        f"sys.argv = ['tna', 'train', {str(recipe)!r}, '--out', {str(recipe.parent / 'runs')!r}, '--json']\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    while "holding" not in (line := process.stderr.readline()):
        assert line, "ended before"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    kind, said = ("Interrupted", "interrupted") if code == 130 else ("Stopped", "SIGTERM received")
    error = json.loads(out)["error"]
    assert (process.returncode, error["exit_code"], error["kind"]) == (code, code, kind)
    assert error["message"].startswith(said)
    assert f"stopped: {said}" in err
    assert "Traceback" not in err


def test_of_two_processes_one_trains_and_the_other_is_refused(recipe: Path) -> None:
    first = start(recipe, "--set", "train.epochs=500")
    wait_for_training(recipe)
    second = start(recipe, "--json")
    out, err = second.communicate(timeout=90)
    assert second.returncode == 75, err
    assert "another process is training this run" in err
    document = json.loads(out)
    assert (document["runs"], document["error"]["kind"]) == ([], "RunBusyError")
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 75
    first.communicate()
    (path,) = recipe.parent.glob("runs/*/*/metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1)), "lines of two processes are mixed"
