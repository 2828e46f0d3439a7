from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tnacli.errors import FileFormatError, StorageError
from tnacli.storage import network_file, write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links as POSIX has them")


def _fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_writes_into_folders_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failure_keeps_the_previous_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, function, lambda *_: _fail(number))
    with pytest.raises(StorageError, match=f"file: could not be written: {os.strerror(number)}"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(StorageError, match=f"{name}: could not be written: it is not a regular file"):
            write_atomically(tmp_path / name, b"new")
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 3


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_for_real(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs limits on file sizes")
    signal = pytest.importorskip("signal")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "file"
    path.write_bytes(b"old")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(StorageError, match="could not be written"):
            write_atomically(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(StorageError, match="could not be written"):
        write_atomically(tmp_path / "file" / "below", b"new")


@posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "data" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@posix
def test_permissions_are_the_umasks_or_those_of_the_file_before(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", b"")
    finally:
        os.umask(umask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    (tmp_path / "old").write_bytes(b"")
    (tmp_path / "old").chmod(0o604)
    write_atomically(tmp_path / "old", b"new")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o604


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space or choose another place, then"),
        (errno.EDQUOT, "Free some space or choose another place, then"),
        (errno.EACCES, "Make that place writable or choose another, then"),
        (errno.EROFS, "Make that place writable or choose another, then"),
        (errno.EIO, "Choose another place, then"),
    ],
)
def test_the_advice_fits_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: _fail(number))
    with pytest.raises(StorageError) as refused:
        write_atomically(tmp_path / "file", b"")
    assert str(refused.value) == (
        f"{tmp_path / 'file'}: could not be written: {os.strerror(number)}. What was there before is unchanged. "
        f"{advice} run the same command again."
    )


def test_of_a_run_the_last_checkpoint_is_taken(tmp_path: Path) -> None:
    """The one before it where that is all there is; a file stands for itself."""
    run = tmp_path / "a-seed0"
    run.mkdir()
    with pytest.raises(FileFormatError, match="is a folder without a checkpoint"):
        network_file(run)
    for name in ("previous.pt", "last.pt"):
        (run / name).touch()
        assert network_file(run) == run / name
    assert network_file(run / "previous.pt") == run / "previous.pt"
    with pytest.raises(FileFormatError, match="holds the folders of 1 runs"):
        network_file(tmp_path)
