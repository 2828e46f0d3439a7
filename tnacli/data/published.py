"""Where the known data sets are published, and bringing one to this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tnacli.data.download import Archive, fetch, unpack
from tnacli.data.source import OnProgress
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS


def archives(name: str) -> tuple[str, tuple[Archive, ...]]:
    """The folder below the data root that the archives of `name` are put and unpacked in, and the archives.

    Raises DataError for data sets that are not published anywhere.
    """
    if name not in _PUBLISHED:
        raise DataError(f"{DATASETS[name].title}: there is nothing to download; {DATASETS[name].how_to_get}.")
    return _PUBLISHED[name]()


def obtain(name: str, root: Path, on_progress: OnProgress) -> None:
    """Download and unpack the data set `name` below the data root `root`, in the layout that `load` finds.

    Archives that are there already, also ones fetched by hand, are not downloaded again. Raises DataError or
    StorageError saying what failed; the same call then goes on where it stopped.
    """
    subfolder, files = archives(name)
    folder = root / subfolder
    for number, archive in enumerate(files, 1):
        path = fetch(archive, folder, on_progress)
        on_progress(f"unpacking {name}", number - 1, len(files))
        unpack(path, folder)
        on_progress(f"unpacking {name}", number, len(files))


def _cifar(kind: str) -> Callable[[], tuple[str, tuple[Archive, ...]]]:
    def files() -> tuple[str, tuple[Archive, ...]]:
        from torchvision import datasets

        published: Any = getattr(datasets, kind)
        return ".", (Archive(published.filename, (published.url,), published.tgz_md5),)

    return files


def _fashion_mnist() -> tuple[str, tuple[Archive, ...]]:
    from torchvision.datasets import FashionMNIST

    return "FashionMNIST/raw", tuple(
        Archive(name, tuple(f"{mirror}{name}" for mirror in FashionMNIST.mirrors), md5)
        for name, md5 in FashionMNIST.resources
    )


def _nmnist() -> tuple[str, tuple[Archive, ...]]:
    from tonic.datasets import NMNIST

    return "NMNIST", (
        Archive(NMNIST.train_filename, (NMNIST.train_url,), NMNIST.train_md5),
        Archive(NMNIST.test_filename, (NMNIST.test_url,), NMNIST.test_md5),
    )


# doi:10.6084/m9.figshare.4724671, one archive a class. tonic's own address for the set answers with an empty
# page, as everything below figshare.com/ndownloader does to programs (neuromorphs/tonic#329, #337); these two
# hosts do not.
_FIGSHARE = ("https://ndownloader.figshare.com/files/{}", "https://api.figshare.com/v2/file/download/{}")
_CIFAR10DVS = {
    "airplane": (7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": (7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": (7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": (7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": (7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": (7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": (7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": (7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": (7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": (7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}


def _cifar10dvs() -> tuple[str, tuple[Archive, ...]]:
    return "CIFAR10DVS", tuple(
        Archive(f"{label}.zip", tuple(address.format(number) for address in _FIGSHARE), md5)
        for label, (number, md5) in _CIFAR10DVS.items()
    )


_PUBLISHED: dict[str, Callable[[], tuple[str, tuple[Archive, ...]]]] = {
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
    "fashion_mnist": _fashion_mnist,
    "nmnist": _nmnist,
    "cifar10dvs": _cifar10dvs,
}
