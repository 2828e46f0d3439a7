"""`tna runs clean` shows what no run needs any more, deletes it with --yes, and touches nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Tna
from tnacli.runs.store import RunFolder


@pytest.fixture
def out(tna: Tna, recipe: Path, tmp_path: Path) -> Path:
    """A finished run with leftovers, one set aside, two interrupted ones, a failed start, a damaged one, and no run's folder."""
    out = tmp_path / "runs"
    assert tna("train", recipe, "--out", out, "--run", "baseline").code == 0
    (finished,) = out.glob("tiny/baseline-*")
    shutil.copytree(finished, finished.with_name(f"{finished.name}.old1"))
    unfinished = {"interrupted": "0123456789", "killed": "1123456789", "failed": "2123456789", "damaged": "3123456789"}
    for name, identity in unfinished.items():
        shutil.copytree(finished, copy := out / "tiny" / f"{name}-seed0-{identity}")
        (copy / "result.json").unlink()
        (copy / "new.pt").write_bytes(b"half a checkpoint")
    place = {name: out / "tiny" / f"{name}-seed0-{identity}" for name, identity in unfinished.items()}
    (place["killed"] / "last.pt").rename(place["killed"] / "previous.pt")  # between the two renames of a new checkpoint
    (place["failed"] / "last.pt").unlink()
    (place["damaged"] / "last.pt").rename(place["damaged"] / "last.damaged")
    for name in ("previous.pt", "epoch-2.pt", "new.pt", "last.damaged", ".result.json.part"):
        (finished / name).write_bytes(b"x" * 1000)
    (out / "tiny" / "notes").mkdir()
    (out / "tiny" / "notes" / "previous.pt").write_text("somebody's own")
    return out


GONE = [
    ".result.json.part", "epoch-2.pt", "last.damaged", "new.pt", "previous.pt", "baseline.old1", "failed",
]  # fmt: skip


def short(path: Path | str) -> str:
    """The name of a file, or of a run's folder without seed and identity."""
    first, _, rest = Path(path).name.partition("-seed0-")
    return first + (f".{rest.partition('.')[2]}" if "." in rest else "")


def everything(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_it_is_shown_first_and_deleted_with_yes(tna: Tna, out: Path) -> None:
    before = everything(out)
    shown = tna("runs", "clean", "--out", out, "--json")
    assert shown.code == 0
    assert everything(out) == before
    assert not shown.json["deleted"]
    assert sorted(short(one["path"]) for one in shown.json["leftovers"]) == sorted(GONE)
    going = {file for one in shown.json["leftovers"] for file in before
             if file == Path(one["path"]) or Path(one["path"]) in file.parents}  # fmt: skip
    assert shown.json["size_bytes"] == sum(len(before[file]) for file in going)
    for said in (tna("runs", "clean", "--out", out), tna("runs", "clean", "--out", out, "--yes")):
        assert all(word in said.out for word in ("set aside by --fresh", "never came to a checkpoint", "1.0 kB"))
    assert "can go: --yes deletes it" not in said.err
    assert everything(out) == {file: content for file, content in before.items() if file not in going}
    (finished,) = out.glob("tiny/baseline-*")
    assert RunFolder(finished).status == "finished"
    for name, status in (("interrupted", "interrupted"), ("killed", "interrupted"), ("damaged", "new")):
        (kept,) = out.glob(f"tiny/{name}-*")
        assert RunFolder(kept).status == status
    again = tna("runs", "clean", "--out", out, "--yes")
    assert (again.out, again.err) == ("", "nothing to delete\n")


@pytest.mark.parametrize("name", ["baseline", "failed"])
def test_what_a_process_is_at_stays(tna: Tna, out: Path, name: str) -> None:
    (busy,) = (path for path in out.glob(f"tiny/{name}-*") if path.suffix == "")
    before = everything(busy)
    with RunFolder(busy).locked():
        for arguments in ((), ("--yes",)):
            found = tna("runs", "clean", "--out", out, "--json", *arguments)
            assert found.json["busy"] == [str(busy)]
            assert not any(busy in [Path(one["path"]), *Path(one["path"]).parents] for one in found.json["leftovers"])
        assert f"{busy}: a process is training this run" in tna("runs", "clean", "--out", out).err
    assert everything(busy) == before


def test_a_folder_that_is_not_there(tna: Tna, tmp_path: Path) -> None:
    assert tna("runs", "clean", "--out", tmp_path / "nowhere").code == 2


def test_what_cannot_be_deleted_is_named(tna: Tna, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    refused = tna("runs", "clean", "--out", out, "--yes")
    assert refused.code == 8
    assert ".old1: cannot be deleted: Permission denied" in refused.err
