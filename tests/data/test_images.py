"""Decoding images: pixel for pixel what Pillow says, or an error that names the file."""

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tnacli.data import images
from tnacli.data.cache import SourceFile
from tnacli.data.load import load, statistics
from tnacli.data.source import no_progress
from tnacli.errors import DataError
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.schema.data import Data


def listed(*paths: Path) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(str(path), 0, 0) for path in paths)


def decode(*paths: Path, channels: int = 3, size: tuple[int, int] = (6, 9), resize: bool = False) -> Any:
    return images.decode(listed(*paths), channels=channels, size=size, resize=resize, what="", on_progress=no_progress)


def picture(mode: str, size: tuple[int, int] = (6, 9), seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        (".png", "RGB"),
        (".png", "L"),
        (".png", "P"),
        (".png", "RGBA"),
        (".png", "LA"),
        (".png", "1"),
        (".webp", "RGB"),
        (".jpg", "RGB"),
        (".jpg", "L"),
        (".jpg", "CMYK"),
        (".bmp", "RGB"),
        (".gif", "P"),
        (".tiff", "RGB"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_pillows(tmp_path: Path, suffix: str, mode: str, channels: int) -> None:
    path = tmp_path / f"a{suffix}"
    picture(mode).save(path)
    pixels = decode(path, channels=channels)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(6, 9, channels)
    np.testing.assert_array_equal(pixels[0].transpose(1, 2, 0), expected)


def test_many_images_keep_their_order_and_report_progress(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(150)]
    for number, path in enumerate(paths):
        Image.new("L", (2, 1), number).save(path)
    seen: list[tuple[str, int, int]] = []
    pixels = images.decode(
        listed(*paths),
        channels=1,
        size=(1, 2),
        resize=False,
        what="reading",
        on_progress=lambda *x: seen.append(x),
    )
    assert pixels[:, 0, 0, 1].tolist() == list(range(150))
    assert [what for what, _, _ in seen] == ["reading"] * 3
    assert seen[-1] == ("reading", 150, 150)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tiff"])
@pytest.mark.parametrize("kept", [0, 0.2, 0.6])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str, kept: float) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    picture("RGB", (40, 40)).save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=rf"cut\{suffix} cannot be decoded"):
        decode(whole, cut, size=(40, 40))


def test_another_size_is_refused_or_resized(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    original = picture("RGB", (20, 10))
    original.save(path)
    with pytest.raises(DataError, match=r"a\.png is 20x10 pixels, not 6x9.*data\.size: \[6, 9\]"):
        decode(path)
    expected = np.asarray(original.resize((9, 6), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(path, resize=True)[0], expected)
    # The official sets go through torch instead of Pillow: the same filter, up to rounding.
    through_torch = images.resized(np.asarray(original).transpose(2, 0, 1)[None], (6, 9))
    assert np.abs(through_torch[0].astype(int) - expected).max() <= 1


def test_digits_are_all_there_and_split_evenly() -> None:
    from sklearn.datasets import load_digits

    dataset = load(Data(), 5)
    bunch = load_digits()
    assert dataset.source == "embedded"
    assert dataset.classes == tuple("0123456789")
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    assert np.bincount(dataset.test.labels).tolist() == [36] * 10
    both = np.concatenate([dataset.train.inputs, dataset.test.inputs]).reshape(-1, 64)
    ours = sorted((np.rint(both / 255 * 16)).astype(int).tolist())
    assert ours == sorted(bunch.data.astype(int).tolist())
    assert dataset.train.inputs.max() == 255


def test_the_digits_facts_are_the_measured_ones() -> None:
    dataset = load(Data(), 5)
    for known, measured in zip((dataset.mean, dataset.std), statistics(dataset.train.inputs), strict=True):
        assert known is not None
        assert known == pytest.approx(measured, abs=5e-5)


def test_fashion_mnist_is_what_torchvision_reads(real_data: Path) -> None:
    from torchvision.datasets import FashionMNIST

    dataset = load(Data(name="fashion_mnist", root=str(real_data)), 5)
    assert dataset.source == "official"
    assert dataset.classes == tuple(FashionMNIST.classes)
    for train, split in ((True, dataset.train), (False, dataset.test)):
        peer = FashionMNIST(str(real_data), train=train)
        np.testing.assert_array_equal(split.inputs[:, 0], peer.data)
        np.testing.assert_array_equal(split.labels, peer.targets)
    measured = statistics(dataset.train.inputs)
    assert DATASETS["fashion_mnist"].mean == pytest.approx(measured[0], abs=5e-5)
    assert DATASETS["fashion_mnist"].std == pytest.approx(measured[1], abs=5e-5)


def test_a_truncated_fashion_file_is_named(real_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (real_data / "FashionMNIST" / "raw").iterdir():
        (raw / file.name).symlink_to(file)
    images_file = raw / "t10k-images-idx3-ubyte"
    content = images_file.read_bytes()[:-1]
    images_file.unlink()
    images_file.write_bytes(content)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is damaged: 7,840,015 bytes instead of 7,840,016"):
        load(Data(name="fashion_mnist", root=str(tmp_path)), 5)


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """CIFAR-10's official files with 20 images each, and torchvision made to expect their MD5 sums."""
    import hashlib

    from torchvision.datasets import CIFAR10

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    truth: dict[str, Any] = {"data": [], "labels": []}
    sums = {}
    for file in [
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
    ]:
        pixels = rng.integers(0, 256, (20, 3072)).astype(np.uint8)
        labels = (rng.permutation(20) % 10).tolist()
        truth["data"].append(pixels.reshape(20, 3, 32, 32))
        truth["labels"] += labels
        (folder / file).write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=2))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    names = DVS_LIKE_NAMES
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    meta = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [[f, s] for f, s in sums.items() if f != "test_batch"])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    truth["data"] = np.concatenate(truth["data"])
    return truth


DVS_LIKE_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize("place", [".", "cifar10", "CIFAR-10"])
def test_official_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    truth = write_cifar10(tmp_path / "data" / place, monkeypatch)
    dataset = load(Data(name="cifar10", validation_samples=10), 5)
    assert dataset.source == "official"
    assert dataset.classes == tuple(DVS_LIKE_NAMES)
    np.testing.assert_array_equal(dataset.test.inputs, truth["data"][100:])
    assert dataset.test.labels.tolist() == truth["labels"][100:]
    assert (len(dataset.train), len(dataset.validation or ())) == (90, 10)
    enlarged = load(Data(name="cifar10", size=(40, 36)), 5)
    assert enlarged.size == (40, 36)


def test_official_cifar_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path / "data", monkeypatch)
    with (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DataError, match=r"official files of CIFAR-10 below data are damaged or incomplete"):
        load(Data(name="cifar10"), 5)


def test_official_cifar_is_downloaded_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]
) -> None:
    import hashlib

    from torchvision.datasets import CIFAR10

    truth = write_cifar10(tmp_path / "made", monkeypatch)
    published = tmp_path / "published"
    published.mkdir()
    with tarfile.open(published / CIFAR10.filename, "w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "url", f"{serve(published)}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((published / CIFAR10.filename).read_bytes()).hexdigest())
    seen: list[str] = []
    data = Data(name="cifar10", root=str(tmp_path / "fetched"), download=True)
    dataset = load(data, 5, on_progress=lambda what, done, total: seen.append(what))
    np.testing.assert_array_equal(dataset.test.inputs, truth["data"][100:])
    assert seen[0] == f"downloading {CIFAR10.filename}"
    assert "unpacking cifar10" in seen
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/nobody")
    assert load(data, 5).fingerprint == dataset.fingerprint
    # Unpacking that was interrupted is done again, from the archive that is there.
    (tmp_path / "fetched" / "cifar-10-batches-py" / "data_batch_2").unlink()
    assert load(data, 5).fingerprint == dataset.fingerprint
