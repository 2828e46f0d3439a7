"""What `tna data` would tell."""

from collections.abc import Callable
from pathlib import Path

from tnacli.data.status import status
from tnacli.recipe.datasets import DATASETS

Write = Callable[..., Path]


def test_nothing_there(tmp_path: Path) -> None:
    for name, facts in DATASETS.items():
        if name == "digits":
            continue
        told = status(name, str(tmp_path))
        assert (told.found, told.path, told.train, told.size_bytes) == (None, None, None, None)
        assert told.title == facts.title
        assert all(str(tmp_path) in place for place in told.looked)
        assert told.looked


def test_digits_are_always_there() -> None:
    told = status("digits")
    assert (told.found, told.train, told.test) == ("embedded", 1437, 360)


def test_class_folders(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "cifar10", list("abcdefghij"), size=(32, 32))
    told = status("cifar10", str(tmp_path))
    assert (told.found, told.train, told.test, told.path) == ("folder", 30, 20, place)
    assert told.size_bytes == sum(file.stat().st_size for file in place.rglob("*.png"))
    (place / "train" / "z").mkdir()
    broken = status("cifar10", str(tmp_path))
    assert broken.found == "folder"
    assert broken.problem is not None
    assert "has no folder for z" in broken.problem


def test_two_train_folders(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "cifar10", ["a", "b"])
    (place / "TRAIN").mkdir()
    told = status("cifar10", str(tmp_path))
    assert told.problem is not None
    assert "holds both" in told.problem


def test_recordings(tmp_path: Path, write_cifar10dvs: Write) -> None:
    write_cifar10dvs(tmp_path / "CIFAR10-DVS", [1, 2, 950])
    told = status("cifar10dvs", str(tmp_path))
    assert (told.found, told.train, told.test) == ("folder", 20, 10)


def test_real_sets(real_data: Path) -> None:
    fashion, nmnist = status("fashion_mnist", str(real_data)), status("nmnist", str(real_data))
    assert (fashion.found, fashion.train, fashion.test) == ("official", 60_000, 10_000)
    assert fashion.size_bytes == 54_950_048
    assert (nmnist.found, nmnist.train, nmnist.test) == ("folder", 1000, 100)
