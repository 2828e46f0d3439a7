"""Obtaining whole data sets: the right files in the right folders."""

import hashlib
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tnacli.data import published
from tnacli.data.download import Archive
from tnacli.data.load import load
from tnacli.data.published import archives, obtain
from tnacli.data.source import no_progress
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.schema.data import Data

Write = Callable[..., Path]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist", "nmnist", "cifar10dvs"])
def test_every_archive_has_addresses_and_a_checksum(name: str) -> None:
    _, files = archives(name)
    assert len({file.name for file in files}) == len(files)
    for file in files:
        assert re.fullmatch(r"[0-9a-f]{32}", file.md5)
        assert file.urls
        assert all(re.match(r"https?://[^/ ]+/\S+$", url) for url in file.urls)


@pytest.mark.parametrize("name", ["digits", "folder", "event_folder"])
def test_nothing_to_download(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to download"):
        obtain(name, tmp_path, no_progress)


def test_cifar10dvs_from_its_class_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str], write_cifar10dvs: Write
) -> None:
    """The published layout, one zip a class with the class folder inside, from download to frames."""
    made = write_cifar10dvs(tmp_path / "made", [0, 900])
    web = tmp_path / "web"
    web.mkdir()
    address = serve(web)
    files = []
    for folder in sorted(made.iterdir()):
        with zipfile.ZipFile(web / f"{folder.name}.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"{folder.name}/{file.name}")
        md5 = hashlib.md5((web / f"{folder.name}.zip").read_bytes()).hexdigest()
        files.append(Archive(f"{folder.name}.zip", (f"{address}/{folder.name}.zip",), md5))
    assert [file.name for file in files] == [file.name for file in archives("cifar10dvs")[1]]
    monkeypatch.setitem(published._PUBLISHED, "cifar10dvs", lambda: ("CIFAR10DVS", tuple(files)))

    data = Data(name="cifar10dvs", root=str(tmp_path / "data"))
    with pytest.raises(DataError, match="CIFAR10-DVS was not found"):
        load(data, 5)
    dataset = load(data.model_copy(update={"download": True}), 5)
    assert (len(dataset.train), len(dataset.test)) == (10, 10)
    assert load(data, 5).fingerprint == dataset.fingerprint


def test_folders_are_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.download fetches the official files"):
        load(Data(name="cifar10", format="folder", download=True, root=str(tmp_path)), 5)


def test_sizes_are_told_in_the_facts() -> None:
    for name in ("cifar10", "cifar100", "fashion_mnist", "nmnist", "cifar10dvs"):
        assert DATASETS[name].download_mb
