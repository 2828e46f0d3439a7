"""Loading: subsets, validation, splits, and what is said when something is missing."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tnacli.data.cache import Bytes
from tnacli.data.load import load, resolved, statistics
from tnacli.errors import DataError
from tnacli.recipe.schema.data import Augmentation, Data

Write = Callable[..., Path]


def rows(inputs: Bytes) -> set[bytes]:
    return {sample.tobytes() for sample in inputs}


def test_subsets_are_balanced_nested_and_fixed() -> None:
    small = load(Data(train_samples=50, test_samples=20), 5)
    large = load(Data(train_samples=105, test_samples=200), 5)
    assert np.bincount(small.train.labels).tolist() == [5] * 10
    assert np.bincount(large.train.labels).tolist() == [11] * 5 + [10] * 5
    assert rows(small.train.inputs) <= rows(large.train.inputs)
    assert rows(small.test.inputs) <= rows(large.test.inputs)
    assert load(Data(train_samples=50, test_samples=20), 5).fingerprint == small.fingerprint


def test_validation_is_held_out_of_the_training_samples() -> None:
    whole = load(Data(train_samples=100), 5)
    parted = load(Data(train_samples=100, validation_samples=30), 5)
    assert parted.validation is not None
    assert np.bincount(parted.validation.labels).tolist() == [3] * 10
    assert np.bincount(parted.train.labels).tolist() == [7] * 10
    assert not rows(parted.train.inputs) & rows(parted.validation.inputs)
    assert rows(parted.train.inputs) | rows(parted.validation.inputs) == rows(whole.train.inputs)
    assert whole.validation is None
    assert np.array_equal(parted.test.inputs, whole.test.inputs)
    assert parted.fingerprint != whole.fingerprint


@pytest.mark.parametrize(("settings_", "message"), [
    ({"train_samples": 2000}, r"2,000 train samples are asked for \(data\.train_samples, or --samples\); digits has 1,437 here"),
    ({"test_samples": 361}, r"361 test samples are asked for \(data\.test_samples, or --samples\); digits has 360"),
    ({"train_samples": 20, "validation_samples": 11}, r"data\.validation_samples is 11 of 20 "),
])  # fmt: skip
def test_more_than_there_is(settings_: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(Data.model_validate(settings_), 5)


def test_only_the_asked_for_splits_are_read(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "data" / "cifar10", list("abcdefghij"), size=(32, 32))
    seen: list[str] = []
    dataset = load(Data(name="cifar10"), 5, splits=("test",), on_progress=lambda what, *_: seen.append(what))
    assert set(seen) == {"reading cifar10 test"}
    assert (len(dataset.train), dataset.validation, len(dataset.test)) == (0, None, 20)
    assert (dataset.channels, dataset.size) == (3, (32, 32))
    whole = load(Data(name="cifar10"), 5)
    assert np.array_equal(whole.test.inputs, dataset.test.inputs)
    trained = load(Data(name="cifar10", validation_samples=10), 5, splits=("train", "validation"))
    assert (len(trained.train), len(trained.validation or ()), len(trained.test)) == (20, 10, 0)


def test_test_alone_is_normalised_like_the_training_samples(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    data = Data(name="folder", root=str(place))
    whole, alone = load(data, 5), load(data, 5, splits=("test",))
    assert (alone.mean, alone.std) == (whole.mean, whole.std) == statistics(whole.train.inputs)
    assert len(alone.train) == 0


def test_normalise() -> None:
    known, measured, none = (load(Data(normalise=how), 5) for how in ("auto", "measure", "none"))  # type: ignore[arg-type]
    assert known.mean == (0.3052,)
    assert measured.mean == pytest.approx(known.mean, abs=5e-5)
    assert measured.mean != known.mean
    assert none.mean is none.std is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1 << 16), st.integers(1, 4))
def test_statistics_are_those_of_floats(seed: int, channels: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (7, channels, 3, 5), np.uint8)
    scaled = pixels / 255
    mean, std = statistics(pixels)
    assert mean == pytest.approx(scaled.mean(axis=(0, 2, 3)).tolist(), abs=1e-12)
    assert std == pytest.approx(scaled.std(axis=(0, 2, 3)).tolist(), abs=1e-12)


def test_augmentation_is_filled_in_from_the_facts() -> None:
    assert resolved(Data(name="cifar10")) == Augmentation(crop_padding=4, flip=0.5, rotation=0.0, shear=0.0)
    asked = Data(name="cifar10", augmentation=Augmentation(crop_padding=0))
    assert resolved(asked) == Augmentation(crop_padding=0, flip=0.5, rotation=0.0, shear=0.0)
    assert resolved(Data(name="cifar10dvs")) == Augmentation(crop_padding=0, flip=0.0, rotation=30.0, shear=30.0)


def test_a_missing_set_says_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(data: Data) -> str:
        with pytest.raises(DataError) as caught:
            load(data, 5)
        return str(caught.value)

    text = message(Data(name="cifar100"))
    assert "CIFAR-100 was not found" in text
    assert str(Path("data") / "cifar-100-python") in text
    assert str(Path("data") / "cifar100" / "{train,test}") in text
    assert "(the default, as none of --data-root, data.root and $TNA_DATA is given)" in text
    assert "tna data prepare cifar100 --download" in text
    assert "161 MB" in text
    monkeypatch.setenv("TNA_DATA", str(tmp_path / "elsewhere"))
    assert f"{tmp_path / 'elsewhere'} ($TNA_DATA)" in message(Data(name="nmnist"))
    named = message(Data(name="cifar10dvs", root=str(tmp_path / "named")))
    assert f"{tmp_path / 'named'} (--data-root, or data.root of the recipe)" in named
    assert "7.7 GB" in named
    own = message(Data(name="folder", root=str(tmp_path / "mine")))
    assert f"{tmp_path / 'mine'}/{{train,test}}/<class>/" in own
    assert "generated" not in own
    only_folders = message(Data(name="cifar10", format="folder"))
    assert "cifar-10-batches-py" not in only_folders


def test_where_a_set_may_lie(tmp_path: Path, write_images: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_images(tmp_path / "all" / "CIFAR-10", list("abcdefghij"), size=(32, 32), train=1, test=1)
    by_root = load(Data(name="cifar10", root=str(tmp_path / "all")), 5)
    by_folder = load(Data(name="cifar10", root=str(place)), 5)
    monkeypatch.setenv("TNA_DATA", str(tmp_path / "all"))
    by_environment = load(Data(name="cifar10"), 5)
    assert by_root.fingerprint == by_folder.fingerprint == by_environment.fingerprint


def test_notes_are_logged(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load(Data(name="nmnist", root=str(real_data), train_samples=10, test_samples=10), 2)
    assert "1,000 training and 100 test recordings" in caplog.text
