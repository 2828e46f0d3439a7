"""Finding data sets on disk."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tnacli.data.locate import Place, locate, missing_parts
from tnacli.data.status import status
from tnacli.errors import DataError

Write = Callable[..., Path]


def test_official_files_come_first(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "cifar100", ["a", "b"])
    assert locate("cifar100", "auto", str(tmp_path)).place == Place("folders", place)
    (tmp_path / "cifar-100-python").mkdir()
    assert locate("cifar100", "auto", str(tmp_path)).place == Place("torchvision", tmp_path)
    assert locate("cifar100", "folder", str(tmp_path)).place == Place("folders", place)
    assert locate("cifar100", "official", str(tmp_path)).place == Place("torchvision", tmp_path)


def test_one_set_is_not_taken_for_another(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "cifar100", ["a", "b"])
    write_images(tmp_path / "mine", ["a", "b"])
    assert locate("cifar10", "auto", str(tmp_path)).place is None
    assert locate("cifar10", "auto", str(tmp_path / "mine")).place is None


def test_the_root_may_be_the_sets_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    inside = locate("fashion_mnist", "auto", str(tmp_path / "FashionMNIST"))
    assert inside.place == Place("torchvision", tmp_path)
    monkeypatch.chdir(tmp_path / "FashionMNIST")
    assert locate("fashion_mnist", "auto", ".").place is not None


def test_missing_parts(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"):
        (raw / name).touch()
    place = Place("torchvision", tmp_path)
    gone = str(raw / "t10k-labels-idx1-ubyte")
    assert missing_parts("fashion_mnist", place, exactly=False) == (gone,)
    assert gone in (status("fashion_mnist", str(tmp_path)).problem or "")
    Path(gone).touch()
    assert missing_parts("fashion_mnist", place, exactly=True) == ()


def test_missing_recordings(tmp_path: Path, write_cifar10dvs: Write) -> None:
    place = Place("classes", write_cifar10dvs(tmp_path / "CIFAR10DVS", [1, 901]))
    assert missing_parts("cifar10dvs", place, exactly=False) == ()
    assert missing_parts("cifar10dvs", place, exactly=True) == ("9,980 of 10,000 recordings",)
    (place.path / "bird").rename(place.path / "crow")
    assert missing_parts("cifar10dvs", place, exactly=False) == (str(place.path / "bird"),)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may look into every folder")
def test_a_locked_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(DataError, match=r"locked.* cannot be looked into: Permission denied"):
        locate("cifar10", "auto", str(tmp_path / "locked"))
