"""A disk that fills up: the error says so, and what was good before is good after."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, tiny_tna_t_snn
from tnacli import storage
from tnacli.errors import StorageError
from tnacli.experiment import Experiment, Outcome
from tnacli.recipe.identity import Run
from tnacli.recipe.schema.recipe import Runtime
from tnacli.runs.store import RunFolder
from tnacli.training.checkpoint import load_checkpoint
from tnacli.training.events import EpochDone, Event, Saved

SMALL_BYTES = 400 << 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB: room for the tiny run, and not for what else we put there."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def run_of() -> Run:
    often = Runtime(checkpoint_every=1)
    return Run("tiny", "run", 0, tiny_tna_t_snn().model_copy(update={"runtime": often}))


def check_it_goes_on(out: Path, trained: Outcome) -> None:
    """The same run, with space again, ends with the weights of the undisturbed one, and nothing lies about."""
    resumed = Experiment(out).execute(run_of())
    ours, theirs = load_checkpoint(resumed.checkpoint).tensors, load_checkpoint(trained.checkpoint).tensors
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [row["epoch"] for row in resumed.folder.metrics()] == [1, 2, 3, 4]
    assert not [path.name for path in resumed.folder.path.iterdir() if path.suffix in (".part", ".damaged")]
    assert not resumed.folder.new.exists()


@pytest.mark.parametrize("after_epoch", [0, 1, 2, 4])
def test_a_disk_that_fills_keeps_the_last_good_checkpoint(small_disk: Path, trained: Outcome, after_epoch: int) -> None:
    out, filler = small_disk / "runs", small_disk / "filler"
    saved: list[int] = []

    def fill(run: Run | None = None, event: Event | None = None) -> None:
        if isinstance(event, Saved):
            saved.append(event.epoch)
        if event is None or (isinstance(event, EpochDone) and event.epoch == after_epoch):
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1024))

    if not after_epoch:
        fill()
    with pytest.raises(StorageError, match=r"(No space left on device|cannot be written)"):
        Experiment(out, emit=fill).execute(run_of())
    folder = RunFolder.of(out, run_of())
    kept = [load_checkpoint(path).metadata.state.epoch for path in (folder.last, folder.previous) if path.exists()]
    assert kept == saved[:-3:-1], "not what was said to be saved"
    # The one before may still be being written as the disk fills.
    assert max(0, after_epoch - 2) <= len(saved) <= max(0, after_epoch - 1)
    filler.unlink()
    check_it_goes_on(out, trained)


FAILING: dict[str, Callable[..., None]] = {"fsync": os.fsync, "replace": os.replace}


@pytest.mark.parametrize("function", FAILING)
@pytest.mark.parametrize("call", range(0, 22, 3))
def test_any_write_may_fail(
    out: Path, trained: Outcome, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    """The n-th sync or rename of a run fails, as on a full or broken disk: run.json, metrics, checkpoints, the result."""
    left = [call]
    real = FAILING[function]

    def failing(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(storage.os, function, failing)
        try:
            Experiment(out).execute(run_of())
        except StorageError as error:
            assert "No space left on device" in str(error)  # noqa: PT017 - some of these writes may fail unheard
        else:
            assert function == "fsync" or left[0] >= 0  # a folder's own sync may fail: the file is in place by then
    check_it_goes_on(out, trained)


def test_metrics_on_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written: No space left on device"):
        folder.append_metrics({"epoch": 1})


def test_a_torn_or_foreign_line_of_metrics_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        folder.append_metrics({"epoch": epoch, "x": "y" * 50})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "metrics.jsonl").write_bytes(b'7\n{"loss": 1}\n' + whole[:length])
        folder.keep_metrics(2)
        assert [row["epoch"] for row in folder.metrics()] == [1, 2][: (length + 1) // (len(whole) // 3)]


def test_a_run_moved_aside_while_it_was_waited_for_is_not_taken_for_ours(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened before another process moved the folder aside, locked after: two would train into the same place."""
    import fcntl

    from tnacli.errors import RunBusyError

    folder = RunFolder.of(out, Run("tiny", "run", 0, TINY))
    flock = fcntl.flock

    def moved(file: object, how: int) -> None:
        folder.set_aside()
        folder.path.mkdir()
        flock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", moved)
    with pytest.raises(RunBusyError, match="moved this run aside"), folder.locked():
        pass
