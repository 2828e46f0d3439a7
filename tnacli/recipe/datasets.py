"""What is known of each data set before a byte of it is read: shapes, classes, statistics, size, where to get it.

Nothing here needs torch. The rooms that read the files are in `tnacli.data`.
"""

from __future__ import annotations

from dataclasses import dataclass

OWN = ("folder", "event_folder")
"""Data sets of the user's own: the folder itself is named, not one that holds it."""


@dataclass(frozen=True)
class DatasetSpec:
    """One data set as the recipes name it.

    `channels` and `size` are None where they depend on the user's own files. `mean` and `std` are per channel, of pixels
    scaled to [0, 1]; None for event frames, which are not normalised, and where they are measured on the training set.
    """

    title: str
    kind: str  # "images" or "events"
    channels: int | None = None
    size: tuple[int, int] | None = None  # height, width as fed to the network
    sensor: tuple[int, int, int] | None = None  # events: width, height, polarities as recorded
    on_its_side: bool = False  # its AEDAT 2.0 recordings are of a camera that lay on its side: x and y are exchanged
    classes: int | None = None
    train: int | None = None
    test: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_padding: int = 0
    flip: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    paper_alpha: float | None = None  # of the matching loss, Table 1
    download_mb: float | None = None
    how_to_get: str = ""

    @property
    def is_events(self) -> bool:
        return self.kind == "events"

    @property
    def camera(self) -> tuple[int, int] | None:
        """Height and width of the sensor, None where it is not known."""
        return self.sensor and (self.sensor[1], self.sensor[0])


# The paper normalises all three image sets with CIFAR-10's statistics; Fashion-MNIST has one channel, so its own
# statistics are used there (docs/reproduction.md). The paper's augmentation: pad 4, random crop, flip with p = 0.5.
_PAPER_MEAN = (0.4914, 0.4822, 0.4465)
_PAPER_STD = (0.2470, 0.2435, 0.2616)
_CLASS_FOLDERS = "or lay the images out as {train,test}/<class>/<image> folders"

DATASETS: dict[str, DatasetSpec] = {
    "digits": DatasetSpec(
        title="handwritten digits (scikit-learn, embedded)",
        kind="images",
        channels=1,
        size=(8, 8),
        classes=10,
        train=1437,
        test=360,
        mean=(0.3052,),
        std=(0.3760,),
        crop_padding=1,
        how_to_get="nothing to do: it is part of scikit-learn",
    ),
    "cifar10": DatasetSpec(
        title="CIFAR-10",
        kind="images",
        channels=3,
        size=(32, 32),
        classes=10,
        train=50_000,
        test=10_000,
        mean=_PAPER_MEAN,
        std=_PAPER_STD,
        crop_padding=4,
        flip=0.5,
        paper_alpha=1e-3,
        download_mb=163,
        how_to_get=f"`tna data prepare cifar10 --download` (163 MB), {_CLASS_FOLDERS}",
    ),
    "cifar100": DatasetSpec(
        title="CIFAR-100",
        kind="images",
        channels=3,
        size=(32, 32),
        classes=100,
        train=50_000,
        test=10_000,
        mean=_PAPER_MEAN,
        std=_PAPER_STD,
        crop_padding=4,
        flip=0.5,
        paper_alpha=1e-3,
        download_mb=161,
        how_to_get=f"`tna data prepare cifar100 --download` (161 MB), {_CLASS_FOLDERS}",
    ),
    "fashion_mnist": DatasetSpec(
        title="Fashion-MNIST",
        kind="images",
        channels=1,
        size=(28, 28),
        classes=10,
        train=60_000,
        test=10_000,
        mean=(0.2860,),
        std=(0.3530,),
        crop_padding=4,
        flip=0.5,
        paper_alpha=1e-4,
        download_mb=30,
        how_to_get=f"`tna data prepare fashion_mnist --download` (30 MB), {_CLASS_FOLDERS}",
    ),
    "folder": DatasetSpec(
        title="images of one's own, {train,test}/<class>/<image>",
        kind="images",
        crop_padding=4,
        flip=0.5,
        how_to_get="lay the images out as {train,test}/<class>/<image>, or <class>/<image> alone, and name the folder "
        "with --data-root, or data.root in a recipe",
    ),
    "cifar10dvs": DatasetSpec(
        title="CIFAR10-DVS",
        kind="events",
        channels=2,
        size=(48, 48),
        sensor=(128, 128, 2),
        on_its_side=True,
        classes=10,
        train=9_000,
        test=1_000,
        rotation=30.0,
        shear=30.0,
        paper_alpha=1e-4,
        download_mb=7_700,
        how_to_get="`tna data prepare cifar10dvs --download` (7.7 GB), or unpack the ten class archives of "
        "doi:10.6084/m9.figshare.4724671 under CIFAR10DVS/",
    ),
    "nmnist": DatasetSpec(
        title="N-MNIST",
        kind="events",
        channels=2,
        size=(34, 34),
        sensor=(34, 34, 2),
        classes=10,
        train=60_000,
        test=10_000,
        download_mb=1_180,
        how_to_get="`tna data prepare nmnist --download` (1.2 GB), or unpack it as NMNIST/{Train,Test}/<digit>/*.bin",
    ),
    "event_folder": DatasetSpec(
        title="recordings of one's own, {train,test}/<class>/<recording>",
        kind="events",
        channels=2,
        how_to_get="lay the recordings out as {train,test}/<class>/<file>, or <class>/<file> alone, and name the folder with "
        "--data-root, or data.root in a recipe",
    ),
}
