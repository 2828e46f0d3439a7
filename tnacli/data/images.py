"""Images as bytes: from files of any common format, torchvision's official sets, or scikit-learn."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tnacli.data import image_files
from tnacli.data.cache import Bytes, SourceFile
from tnacli.data.choose import balanced, rest
from tnacli.data.folders import readable
from tnacli.data.source import OnProgress, Source
from tnacli.data.workers import for_each
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS

DECODING = "images 2"
"""Names what `decode` computes; to be raised when that changes, so that no old cache entry is used."""


def survey(files: Sequence[SourceFile], what: str, on_progress: OnProgress) -> NDArray[np.int64]:
    """Height, width (upright) and whether it is gray (1 or 0) of every file, from its header: int64, [n, 3]."""
    seen = np.empty((len(files), 3), np.int64)

    def look(index: int) -> None:
        with image_files.opened(files[index].path) as image:
            seen[index] = (*image_files.upright_size(files[index].path, image), image.mode in image_files.GRAY_MODES)

    for_each(len(files), look, what, on_progress)
    return seen


def decode(
    files: Sequence[SourceFile],
    *,
    channels: int,
    size: tuple[int, int],
    resize: bool,
    what: str,
    on_progress: OnProgress,
    remarks: list[str] | None = None,
) -> Bytes:
    """Decode `files` to uint8, [n, channels, *size], converted to gray (1 channel) or colour (3).

    Images are turned upright as their EXIF orientation says. Transparent parts are laid on white, and of several pictures
    in a file the first is taken; both are appended to `remarks`. Images of another size are resized (bilinear, with
    antialiasing, proportions not kept) or, without `resize`, refused. Raises DataError naming the file if one cannot be decoded.
    """
    height, width = size
    pixels = np.empty((len(files), channels, height, width), np.uint8)
    remarked = {change: np.zeros(len(files), bool) for change in _REMARKS}

    def read(index: int) -> None:
        path = files[index].path
        with image_files.opened(path) as opened:
            seen = image_files.upright_size(path, opened)
            if not resize and seen != size:
                raise DataError(
                    f"{readable(path)} is {seen[0]}x{seen[1]} pixels, not {height}x{width}. To have images resized, "
                    f"say so: data.size: [{height}, {width}]."
                )
            pixels[index], done = image_files.pixels(path, opened, channels, size)
            for change, found_in in remarked.items():
                found_in[index] = change in done

    for_each(len(files), read, what, on_progress)
    for change, found_in in remarked.items():
        if remarks is not None and found_in.any():
            remarks.append(
                f"{what}: {found_in.sum():,} of {len(files):,} images {_REMARKS[change]}; the first is "
                f"{readable(files[int(found_in.argmax())].path)}"
            )
    return pixels


_REMARKS = {
    image_files.FILLED: "have transparent parts, which become white",
    image_files.FIRST: "hold several pictures, of which the first is taken",
}


def resized(pixels: Bytes, size: tuple[int, int]) -> Bytes:
    """uint8 [n, C, H, W] brought to [n, C, *size] with the filter of `decode`. Loads torch, which is faster at it than Pillow."""
    if pixels.shape[-2:] == size:
        return pixels
    import torch
    from torch.nn import functional as F

    whole = torch.from_numpy(np.ascontiguousarray(pixels))
    brought: Bytes = F.interpolate(whole, size=size, mode="bilinear", antialias=True).numpy()
    return brought


def digits(size: tuple[int, int]) -> Source:
    """scikit-learn's 1,797 handwritten digits, 8x8, of which a fixed 360, 36 of each class, are the test set.

    Their values 0 to 16 become bytes as round(255 * value / 16).
    """
    table = _digits_table()
    images, target = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    pixels = np.rint(images * (255 / 16)).astype(np.uint8)[:, None]
    labels = target.astype(np.int64)
    test = balanced(labels, DATASETS["digits"].test or 0, "digits", "test")
    parts = {"train": rest(len(labels), test), "test": test}
    return Source(
        "embedded",
        tuple(str(name) for name in range(10)),
        {split: labels[indices] for split, indices in parts.items()},
        lambda split, indices: resized(pixels[parts[split][indices]], size),
    )


@cache
def _digits_table() -> NDArray[np.float64]:
    """64 values and the class of each digit, [1797, 65].

    Read from scikit-learn's file: importing the package, and SciPy with it, takes longer than evaluating them all.
    """
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # another version, which keeps it elsewhere

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def official(name: str, root: Path, size: tuple[int, int]) -> Source:
    """CIFAR-10, CIFAR-100 or Fashion-MNIST from the official files below `root`, read by torchvision.

    The CIFAR files are checked against their published MD5 sums, Fashion-MNIST's unpacked files, for which
    there are none, against their lengths. Raises DataError if they do not match.
    """
    from torchvision import datasets

    kinds = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "fashion_mnist": datasets.FashionMNIST,
    }
    if name == "fashion_mnist":
        _check_idx_lengths(root / "FashionMNIST" / "raw")
    try:
        splits = {split: kinds[name](str(root), train=split == "train") for split in ("train", "test")}
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"The official files of {DATASETS[name].title} below {root} are damaged or incomplete "
            f"({error}). Remove them and get them again: {DATASETS[name].how_to_get}."
        ) from error

    def pixels(split: str) -> Bytes:
        data = np.asarray(splits[split].data)
        return data[:, None] if data.ndim == 3 else data.transpose(0, 3, 1, 2)

    return Source(
        "official",
        tuple(splits["train"].classes),
        {split: np.asarray(data.targets, np.int64) for split, data in splits.items()},
        lambda split, indices: resized(np.ascontiguousarray(pixels(split)[indices]), size),
    )


def _check_idx_lengths(raw: Path) -> None:
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        for file, length in (("images-idx3", 16 + count * 28 * 28), ("labels-idx1", 8 + count)):
            path = raw / f"{prefix}-{file}-ubyte"
            if not path.is_file():
                raise DataError(f"{path} is missing. Get it again: {DATASETS['fashion_mnist'].how_to_get}.")
            if path.stat().st_size != length:
                raise DataError(
                    f"{path} is damaged: {path.stat().st_size:,} bytes instead of {length:,}. Remove it and "
                    f"get it again: {DATASETS['fashion_mnist'].how_to_get}."
                )
