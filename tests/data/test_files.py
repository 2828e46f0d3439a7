"""Files at a glance: what changes it, what does not, and how a change is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tnacli.data.files import changes, files_there
from tnacli.recipe.schema.data import Data


@pytest.fixture
def imgs(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "imgs" / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.png").write_bytes(label.encode())
    return tmp_path / "imgs"


def glance(root: Path) -> dict[str, str]:
    found = files_there(Data(name="folder", root=str(root)))
    assert found is not None
    return found


def swap(root: Path) -> None:
    for split in ("train", "test"):
        for source, target in (("cat", "aside"), ("dog", "cat"), ("aside", "dog")):
            (root / split / source).rename(root / split / target)


def edit_in_place(root: Path) -> None:
    path = root / "train" / "cat" / "0.png"
    path.write_bytes(b"dog")
    later = path.stat().st_mtime_ns + 1
    os.utime(path, ns=(later, later))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "more": (lambda root: (root / "train" / "cat" / "3.png").touch(), "train/cat (3 files then, 4 now)"),
    "fewer": (lambda root: (root / "test" / "dog" / "0.png").unlink(), "test/dog (3 files then, 2 now)"),
    "a class more": (lambda root: (root / "train" / "emu").mkdir(), "train/emu (new)"),
    "a class less": (lambda root: shutil.rmtree(root / "train" / "cat"), "train/cat (gone)"),
    "another name": (
        lambda root: (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "9.png"),
        "train/cat (files of other names, sizes or times)",
    ),
    "other bytes": (edit_in_place, "train/cat (files of other names, sizes or times)"),
    "swapped": (swap, "test/cat, test/dog, train/cat and 1 more (files of other names, sizes or times)"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_has_changed_is_named(name: str, imgs: Path) -> None:
    change, said = CHANGES[name]
    before = glance(imgs)
    change(imgs)
    assert changes(before, glance(imgs)) == said


def test_what_is_no_sample_and_where_the_folder_lies_make_no_difference(imgs: Path, tmp_path: Path) -> None:
    before = glance(imgs)
    assert before.keys() == {"train/cat", "train/dog", "test/cat", "test/dog"}
    (imgs / "train" / "cat" / ".DS_Store").touch()
    (imgs / "notes.txt").touch()
    moved = imgs.rename(tmp_path / "elsewhere")
    assert changes(before, glance(moved)) == ""


def test_official_files_and_class_folders_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "cifar10" / split / "cat").mkdir(parents=True)
    data = Data(name="cifar10", root=str(tmp_path))
    before = files_there(data)
    official = tmp_path / "cifar-10-batches-py"
    official.mkdir()
    (official / "batches.meta").touch()
    after = files_there(data)
    assert before is not None
    assert after is not None
    assert list(after) == ["cifar-10-batches-py"]
    assert changes(before, after) == "cifar-10-batches-py (new), test/cat, train/cat (gone)"


def test_samples_without_files_and_data_that_is_not_there(tmp_path: Path) -> None:
    assert files_there(Data()) == {}
    assert files_there(Data(name="cifar10", format="generated")) == {}
    assert files_there(Data(name="folder", root=str(tmp_path / "nowhere"))) is None


def test_a_glance_needs_no_torch(imgs: Path) -> None:
    program = (
        "import sys; from tnacli.data.files import files_there; from tnacli.recipe.schema.data import Data\n"
        f"assert files_there(Data(name='folder', root={str(imgs)!r}))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
