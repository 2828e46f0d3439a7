"""Event data sets: N-MNIST, CIFAR10-DVS and one's own."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tnacli.data.cache import Bytes, _say_once
from tnacli.data.frames import to_frames
from tnacli.data.load import load
from tnacli.data.locate import DVS_CLASSES
from tnacli.data.own_samples import Wanted
from tnacli.data.recordings import read_recording
from tnacli.data.sources.events import cifar10dvs_split
from tnacli.errors import DataError
from tnacli.recipe.schema.data import Data

Write = Callable[..., Path]


def test_real_nmnist(real_data: Path) -> None:
    dataset = load(Data(name="nmnist", root=str(real_data)), 4)
    assert tuple(dataset.train.inputs.shape) == (1000, 4, 2, 34, 34)
    assert len(dataset.test) == 100
    assert dataset.classes == tuple("0123456789")
    # A subset is not called official, whatever its layout.
    assert dataset.source == "folder"
    assert "has 60,000 and 10,000" in dataset.notes[0]
    path = sorted((real_data / "NMNIST" / "Test" / "0").iterdir())[0]
    events = read_recording(str(path), (34, 34)).events
    expected = to_frames(events, sensor=(34, 34), timesteps=4, size=(34, 34), binning="count")
    np.testing.assert_array_equal(dataset.test.inputs[0], expected)


def test_real_nmnist_can_be_told_apart(real_data: Path) -> None:
    """A nearest-mean classifier on summed frames: far above the 10 % of chance, so labels belong to their
    recordings.
    """
    dataset = load(Data(name="nmnist", root=str(real_data)), 2)

    def features(inputs: Bytes) -> NDArray[np.float64]:
        return unit(inputs.sum(axis=(1, 2)).reshape(len(inputs), -1))

    def unit(rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    train, test = features(dataset.train.inputs), features(dataset.test.inputs)
    means = np.stack([train[dataset.train.labels == label].mean(axis=0) for label in range(10)])
    right = (test @ unit(means).T).argmax(axis=1) == dataset.test.labels
    assert right.mean() > 0.6


def test_official_means_complete(real_data: Path) -> None:
    with pytest.raises(DataError, match=r"1,000 training and 100 test recordings; N-MNIST has 60,000 and 10,000"):
        load(Data(name="nmnist", root=str(real_data), format="official"), 4)


@pytest.mark.parametrize("place", ["CIFAR10DVS", "cifar10-dvs/extract"])
def test_cifar10dvs_split_by_number(tmp_path: Path, write_cifar10dvs: Write, place: str) -> None:
    numbers = [0, 9, 10, 899, 900, 999]
    folder = write_cifar10dvs(tmp_path / "data" / place, numbers)
    dataset = load(Data(name="cifar10dvs", augmentation={}), 5)  # type: ignore[arg-type]
    assert dataset.classes == DVS_CLASSES
    assert tuple(dataset.train.inputs.shape) == (40, 5, 2, 48, 48)
    assert dataset.train.labels.tolist() == [label for label in range(10) for _ in range(4)]
    assert dataset.test.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert dataset.source == "folder"
    assert "test set: recordings 900 to 999 of each class" in dataset.notes[0]
    path = folder / "bird" / "cifar10_bird_900.aedat"
    events = read_recording(str(path), (128, 128)).events
    upright = events._replace(x=events.y, y=events.x)  # the camera lay on its side
    expected = to_frames(upright, sensor=(128, 128), timesteps=5, size=(48, 48), binning="count")
    np.testing.assert_array_equal(dataset.test.inputs[4], expected)
    assert (dataset.augmentation.rotation, dataset.augmentation.shear) == (30.0, 30.0)


def test_cifar10dvs_complete_is_the_fields_custom_split(tmp_path: Path) -> None:
    """All 10,000 names, no contents: 9,000 and 1,000, the last 100 of each class for test."""
    for name in DVS_CLASSES:
        (tmp_path / name).mkdir()
        for number in range(1000):
            (tmp_path / name / f"cifar10_{name}_{number}.aedat").touch()
    _, listings, _ = cifar10dvs_split(tmp_path)
    assert Counter(listings["train"].labels) == dict.fromkeys(range(10), 900)
    assert Counter(listings["test"].labels) == dict.fromkeys(range(10), 100)
    files = {split: {file.path for file in listing.files} for split, listing in listings.items()}
    assert not files["train"] & files["test"]
    tested = {int(Path(path).stem.split("_")[-1]) for path in files["test"]}
    assert tested == set(range(900, 1000))


def test_cifar10dvs_with_something_wrong(tmp_path: Path, write_cifar10dvs: Write) -> None:
    place = write_cifar10dvs(tmp_path / "CIFAR10DVS", [1, 901])
    data = Data(name="cifar10dvs", root=str(tmp_path))
    with pytest.raises(DataError, match="10 training and 10 test recordings; CIFAR10-DVS has 9,000 and 1,000"):
        load(data.model_copy(update={"format": "official"}), 5)

    ship = place / "ship" / "cifar10_ship_901.aedat"
    whole = ship.read_bytes()
    ship.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"cifar10_ship_901\.aedat: cut short"):
        load(data, 5)
    ship.write_bytes(whole)
    shutil.copy(ship, place / "ship" / "again_901.aedat")
    with pytest.raises(DataError, match=r"again_901\.aedat and .*ship_901\.aedat have the same number"):
        load(data, 5)
    (place / "ship" / "again_901.aedat").rename(place / "ship" / "again.aedat")
    with pytest.raises(DataError, match=r"again\.aedat: recordings of CIFAR10-DVS end in a number from 0 to 999"):
        load(data, 5)
    (place / "ship" / "again.aedat").unlink()
    ship.unlink()
    with pytest.raises(DataError, match="ship has no test recordings"):
        load(data, 5)
    shutil.rmtree(place / "ship")
    with pytest.raises(DataError, match=r"ship is missing.*tna data prepare"):
        load(data, 5)


def test_cifar10dvs_in_train_and_test_folders(tmp_path: Path, write_cifar10dvs: Write) -> None:
    write_cifar10dvs(tmp_path / "cifar10dvs" / "train", [0, 1])
    write_cifar10dvs(tmp_path / "cifar10dvs" / "test", [2])
    dataset = load(Data(name="cifar10dvs", root=str(tmp_path)), 3)
    assert (len(dataset.train), len(dataset.test), dataset.source) == (20, 10, "folder")


def test_own_recordings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("left", "right"):
            folder = tmp_path / "mine" / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                parts = {
                    "x": rng.integers(0, 20, 50),
                    "y": rng.integers(0, 12, 50),
                    "t": np.arange(50),
                    "p": rng.integers(0, 2, 50),
                }
                np.savez(folder / f"{number}.npz", x=parts["x"], y=parts["y"], t=parts["t"], p=parts["p"])
    data = Data(name="event_folder", root=str(tmp_path / "mine"))
    with pytest.raises(DataError, match=r"0\.npz: .*data\.sensor: \[height, width\]"):
        load(data, 3)
    full = load(data.model_copy(update={"sensor": (12, 20)}), 3)
    assert tuple(full.train.inputs.shape) == (4, 3, 2, 12, 20)
    assert full.train.inputs.sum() == 200
    small = load(data.model_copy(update={"sensor": (12, 20), "size": (6, 5)}), 3)
    assert small.size == (6, 5)
    pooled = full.train.inputs.reshape(4, 3, 2, 6, 2, 5, 4).sum(axis=(4, 6))
    assert np.array_equal(pooled, small.train.inputs)
    with pytest.raises(DataError, match="events are outside the camera's 10x20"):
        load(data.model_copy(update={"sensor": (10, 20)}), 3)
    by_time = load(data.model_copy(update={"sensor": (12, 20), "binning": "time"}), 3)
    assert by_time.train.inputs.shape == full.train.inputs.shape


JAER = b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n#End Of ASCII Header\r\n"


def test_own_dvs128_recordings_say_their_size(tmp_path: Path, write_aedat2: Write) -> None:
    for split in ("train", "test"):
        for name in ("left", "right"):
            write_aedat2(tmp_path / "mine" / split / name / "a.aedat", [0, 2], [0, 1], JAER)
    dataset = load(Data(name="event_folder", root=str(tmp_path / "mine")), 2)
    assert dataset.size == (128, 128)
    with pytest.raises(DataError, match=r"data\.size \[200, 128\] is larger than the camera's \[128, 128\]"):
        load(Data(name="event_folder", root=str(tmp_path / "mine"), size=(200, 128)), 2)


def test_other_settings_are_other_cache_entries(tmp_path: Path, write_cifar10dvs: Write) -> None:
    write_cifar10dvs(tmp_path / "CIFAR10DVS", [1, 901])
    data = Data(name="cifar10dvs", root=str(tmp_path))
    shapes = set()
    for timesteps in (2, 5):
        for size in ((48, 48), (24, 32)):
            shapes.add(tuple(load(data.model_copy(update={"size": size}), timesteps).train.inputs.shape))
    assert shapes == {(10, 2, 2, 48, 48), (10, 5, 2, 48, 48), (10, 2, 2, 24, 32), (10, 5, 2, 24, 32)}
    counted, timed = (load(data.model_copy(update={"binning": rule}), 5).fingerprint for rule in ("count", "time"))
    assert counted != timed


def test_the_same_events_are_the_same_frames_in_every_format(tmp_path: Path, write_aedat2: Write) -> None:
    """Training on .aedat and testing on .npz: one orientation, one polarity, one time."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        x, y, p = rng.integers(0, 128, 200), rng.integers(0, 64, 200), rng.integers(0, 2, 200)
        t = (1 << 31) - 700 + np.sort(rng.integers(0, 1400, 200))
        address = (127 - y) << 8 | (127 - x) << 1 | (1 - p)
        write_aedat2(tmp_path / "train" / name / "a.aedat", address, t, JAER)
        (tmp_path / "test" / name).mkdir(parents=True)
        np.savez(tmp_path / "test" / name / "a.npz", x=x, y=y, t=t, p=p)
    for binning in ("count", "time"):
        data = Data.model_validate(
            {"name": "event_folder", "root": str(tmp_path), "binning": binning, "size": (32, 16)}
        )
        dataset = load(data, 3)
        assert np.array_equal(dataset.train.inputs, dataset.test.inputs)
        assert dataset.train.inputs[..., 16:, :].sum() == 0  # nothing moves in the lower half


def test_real_recordings_are_the_same_frames_as_arrays(real_dvs128: Path, tmp_path: Path) -> None:
    """A slice of the real recordings beside arrays made of their bytes, upright as jAER shows them."""
    for folder in sorted((real_dvs128 / "DVS128Objects" / "train").iterdir())[:3]:
        for split in ("train", "test"):
            (tmp_path / split / folder.name).mkdir(parents=True)
        for recording in sorted(folder.iterdir())[:2]:
            shutil.copy(recording, tmp_path / "train" / folder.name)
            content = recording.read_bytes()
            words = np.frombuffer(content[content.index(b"#End Of ASCII Header\r\n") + 22 :], ">u4").reshape(-1, 2)
            address = words[:, 0].astype(np.int64)
            np.savez(
                tmp_path / "test" / folder.name / f"{recording.stem}.npz",
                x=127 - (address >> 1 & 127),
                y=127 - (address >> 8 & 127),
                t=words[:, 1].astype(np.int64),
                p=1 - (address & 1),
            )
    for binning in ("count", "time"):
        data = Data.model_validate({"name": "event_folder", "root": str(tmp_path), "binning": binning})
        dataset = load(data, 4)
        assert dataset.size == (128, 128)
        assert np.array_equal(dataset.train.inputs, dataset.test.inputs)
        assert dataset.train.inputs.sum() == 6 * 6000


def test_few_events_outside_are_left_out_counted_and_said(
    tmp_path: Path, write_nmnist: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "test"):
        for digit in range(10):
            columns = [digit] * 2000
            if split == "train" and digit in (3, 7):
                columns[5 : digit // 3 + 5] = [40] * (digit // 3)
            write_nmnist(
                tmp_path / "nmnist" / split / str(digit) / "a.bin", [(x, 0, t, 1) for t, x in enumerate(columns)]
            )
    data = Data(name="nmnist", root=str(tmp_path))
    expected = (
        "nmnist train: 3 events outside the camera's 34x34 pixels are left out, in 2 of 10 recordings; most, 2, in "
    )
    expected += str(tmp_path / "nmnist" / "train" / "7" / "a.bin")
    for _ in range(2):  # decoded, and from the cache
        _say_once.cache_clear()
        caplog.clear()
        dataset = load(data, 20)
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [expected]
        assert dataset.train.inputs.sum(axis=(1, 2, 3, 4)).tolist() == [
            2000 - {3: 1, 7: 2}.get(digit, 0) for digit in range(10)
        ]


def test_a_recording_alone_is_read_as_in_its_data_set(tmp_path: Path, write_cifar10dvs: Write) -> None:
    """Turned upright like those of CIFAR10-DVS, to the same frames."""
    folder = write_cifar10dvs(tmp_path / "data" / "CIFAR10DVS", [0, 900])
    dataset = load(Data(name="cifar10dvs", root=str(tmp_path / "data")), 3)
    wanted = Wanted("events", 2, dataset.size, 3, data_set="cifar10dvs")
    frames, _ = wanted.read(folder / "airplane" / "cifar10_airplane_900.aedat")
    np.testing.assert_array_equal(frames, dataset.test.inputs[0])
