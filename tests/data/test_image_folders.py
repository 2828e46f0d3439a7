"""Images in class folders."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tnacli.data.files import files_there
from tnacli.data.folders import class_folders
from tnacli.data.image_files import IMAGE_SUFFIXES
from tnacli.data.load import load, statistics
from tnacli.data.sources.image_folders import FASHION_CLASSES
from tnacli.errors import DataError
from tnacli.recipe.schema.data import Data

Write = Callable[..., Path]


def own(place: Path, **settings: object) -> Data:
    return Data.model_validate({"name": "folder", "root": str(place), **settings})


def test_sorted_class_folders_give_the_labels(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["b", "a", "C"])
    dataset = load(own(place), 5)
    assert dataset.classes == ("C", "a", "b")
    assert dataset.train.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    with Image.open(place / "train" / "a" / "0001.png") as image:
        np.testing.assert_array_equal(dataset.train.inputs[4].transpose(1, 2, 0), np.asarray(image))
    assert (dataset.channels, dataset.size, dataset.source) == (3, (8, 8), "folder")
    assert (dataset.mean, dataset.std) == statistics(dataset.train.inputs)


def test_train_and_test_in_any_case(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    before = load(own(place), 5).fingerprint
    (place / "train").rename(place / "TRAIN")
    (place / "test").rename(place / "Test")
    assert load(own(place), 5).fingerprint == before
    (place / "train").mkdir()
    with pytest.raises(DataError, match="holds both TRAIN and train"):
        load(own(place), 5)


@pytest.mark.parametrize("name", ["val", "Valid", "validation"])
def test_a_validation_folder_stands_in_for_a_test_folder(tmp_path: Path, write_images: Write, name: str) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    before = load(own(place), 5)
    assert before.notes == ()
    (place / "test").rename(place / name)
    after = load(own(place), 5)
    assert after.fingerprint == before.fingerprint
    assert after.notes == (f"{place / name} is the test set, as there is no folder called test",)
    (place / "test").mkdir()
    with pytest.raises(DataError, match="has no folder for a, b"):
        load(own(place), 5)  # a folder called test is the test set, whatever else there is


def test_a_validation_folder_beside_a_test_folder_is_not_passed_over_in_silence(
    tmp_path: Path, write_images: Write
) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    before = load(own(place), 5)
    shutil.copytree(place / "train", place / "val")
    after = load(own(place), 5)
    assert after.fingerprint == before.fingerprint
    assert after.notes == (f"{place / 'val'} is not used: data.validation_samples holds samples of train out",)
    shutil.rmtree(place / "test")
    shutil.copytree(place / "train", place / "valid")
    assert load(own(place), 5).notes == (
        f"{place / 'val'} is the test set, as there is no folder called test",
        f"{place / 'valid'} is not used: data.validation_samples holds samples of train out",
    )


@pytest.mark.parametrize("layout", ["train alone", "a folder a class"])
def test_without_a_test_folder_one_in_five_of_each_class_is_held_out(
    tmp_path: Path, write_images: Write, layout: str
) -> None:
    place = write_images(tmp_path / "set", ["a", "b"], train=20)
    shutil.rmtree(place / "test")
    train = place / "train"
    if layout == "a folder a class":
        for label in ("a", "b"):
            (train / label).rename(place / label)
        train.rmdir()
        train = place
    dataset = load(own(place), 5)
    assert (len(dataset.train), len(dataset.test)) == (32, 8)
    assert np.bincount(dataset.test.labels).tolist() == [4, 4]
    (note,) = dataset.notes
    assert note.startswith(f"{train} has no test folder beside it: one file in 5 of each class is its test set")
    assert note.endswith("8 of 40 files")
    seen = {tuple(one.flatten().tolist()) for part in (dataset.train, dataset.test) for one in part.inputs}
    assert len(seen) == 40, "each image is in one of the two"
    # Another file moves none of the others between the two, but for one where the share grows.
    held_out = {tuple(one.flatten().tolist()) for one in dataset.test.inputs}
    Image.new("RGB", (8, 8), "red").save(train / "a" / "another.png")
    now = {tuple(one.flatten().tolist()) for one in load(own(place), 5).test.inputs}
    assert len(held_out - now) <= 1
    for number in range(1, 20):
        (train / "b" / f"{number:04}.png").unlink()
    with pytest.raises(DataError, match=r"set/(train/)?b has a single file"):
        load(own(place), 5)


def test_published_sets_need_their_test_set(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "cifar10", ["a", "b"])
    shutil.rmtree(place / "test")
    with pytest.raises(DataError, match="CIFAR-10 was not found"):
        load(Data(name="cifar10", root=str(tmp_path)), 5)


def test_changed_files_are_seen_in_every_layout(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    shutil.rmtree(place / "test")
    assert set(files_there(own(place)) or ()) == {"train/a", "train/b"}
    for label in ("a", "b"):
        (place / "train" / label).rename(place / label)
    (place / "train").rmdir()
    assert set(files_there(own(place)) or ()) == {"a", "b"}


def test_gray_if_all_are_gray(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"], mode="L")
    assert load(own(place), 5).channels == 1
    assert load(own(place), 5).notes == ()
    Image.new("RGB", (8, 8)).save(place / "test" / "b" / "colour.png")
    dataset = load(own(place, train_samples=2), 5)
    assert dataset.channels == 3
    assert dataset.notes == ("10 of 11 images are gray, the others in colour: all are read as colour",)
    assert np.array_equal(dataset.train.inputs[:, 0], dataset.train.inputs[:, 2])


def test_different_sizes_need_a_size(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    Image.new("RGB", (12, 10)).save(place / "test" / "b" / "zz.png")
    with pytest.raises(DataError, match=r"0000\.png is 8x8.*zz\.png is 10x12.*data\.size: \[height, width\]"):
        load(own(place), 5)
    assert load(own(place, size=(6, 7)), 5).size == (6, 7)


def test_what_is_no_image_is_passed_over_and_told(
    tmp_path: Path, write_images: Write, caplog: pytest.LogCaptureFixture
) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    before = load(own(place), 5).fingerprint
    (place / "train" / "a" / "notes.txt").write_text("x")
    (place / "train" / "a" / ".DS_Store").write_text("x")
    (place / "train" / "a" / "deeper").mkdir()
    (place / "train" / "README").write_text("x")
    with caplog.at_level(logging.INFO):
        dataset = load(own(place), 5)
    assert dataset.fingerprint == before
    (note,) = dataset.notes
    assert note.startswith("passed over, not images:")
    assert note.endswith("and 1 more")
    assert note in caplog.text


def test_classes_must_match(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b", "c"])
    shutil.rmtree(place / "test" / "b")
    with pytest.raises(DataError, match=r"test has no folder for b, which .*train has"):
        load(own(place), 5)
    shutil.rmtree(place / "train" / "b")
    (place / "test" / "d").mkdir()
    with pytest.raises(DataError, match=r"train has no folder for d, which .*test has"):
        load(own(place), 5)


def test_an_empty_class_is_named(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    for file in (place / "test" / "b").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"test/b has no files to learn from; files read are \.bmp"):
        load(own(place), 5)


def test_one_class_is_none(tmp_path: Path, write_images: Write) -> None:
    with pytest.raises(DataError, match="holds 1 class folders; there must be at least 2"):
        load(own(write_images(tmp_path / "set", ["a"])), 5)


def test_a_known_set_has_its_number_of_classes(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "data" / "cifar10", ["a", "b"], size=(32, 32))
    with pytest.raises(DataError, match="holds 2 classes, CIFAR-10 has 10"):
        load(Data(name="cifar10"), 5)


def test_a_known_set_has_its_size_and_channels(tmp_path: Path, write_images: Write) -> None:
    write_images(tmp_path / "data" / "Fashion-MNIST", list("0123456789"), size=(20, 20), train=1, test=1)
    with pytest.raises(DataError, match=r"png is 20x20 pixels, not 28x28.*data\.size"):
        load(Data(name="fashion_mnist"), 5)
    dataset = load(Data(name="fashion_mnist", size=(28, 28)), 5)
    assert (dataset.channels, dataset.size) == (1, (28, 28))


def test_fashion_classes_keep_their_official_labels(tmp_path: Path, write_images: Write) -> None:
    """Sorted by name, Ankle boot would be label 0; a network trained on the official files calls it 9."""
    from torchvision.datasets import FashionMNIST

    assert tuple(FashionMNIST.classes) == FASHION_CLASSES
    names = [
        "t-shirt_top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle-boot",
    ]
    by_name = write_images(tmp_path / "named" / "fashion_mnist", names, size=(28, 28), train=1, test=1)
    for label, name in enumerate(names):
        for split in ("train", "test"):
            target = tmp_path / "numbered" / "fashion_mnist" / split / str(label)
            shutil.copytree(by_name / split / name, target)
    one = load(Data(name="fashion_mnist", root=str(tmp_path / "named")), 5)
    other = load(Data(name="fashion_mnist", root=str(tmp_path / "numbered")), 5)
    assert one.classes == other.classes == FASHION_CLASSES
    assert sorted(one.train.labels.tolist()) == list(range(10))
    for label in range(10):
        assert np.array_equal(one.test.inputs[one.test.labels == label], other.test.inputs[other.test.labels == label])


def test_decoded_once_and_again_when_a_file_changes(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    steps: list[str] = []

    def again() -> str:
        steps.clear()
        return load(own(place), 5, on_progress=lambda what, *_: steps.append(what)).fingerprint

    first = again()
    assert steps
    assert again() == first
    assert not steps
    Image.new("RGB", (8, 8), (1, 2, 3)).save(place / "train" / "a" / "0000.png")
    assert again() != first
    assert steps


def test_a_damaged_image_leaves_no_cache(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    damaged = place / "train" / "b" / "0001.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-40])
    with pytest.raises(DataError, match=r"b/0001\.png cannot be decoded"):
        load(own(place), 5)
    assert not [path for path in (tmp_path / "cache").iterdir() if "survey" not in path.name]
    damaged.write_bytes(whole)
    assert len(load(own(place), 5).train) == 6


def test_normalising_a_constant_channel_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "set" / split / name / "x.png")
    with pytest.raises(DataError, match=r"channel 0 has the same value.*data\.normalise: none"):
        load(own(tmp_path / "set"), 5)
    assert load(own(tmp_path / "set", normalise="none"), 5).mean is None


def test_real_cifar100(real_cifar100: Path) -> None:
    """A subset of the lossless real images: the published statistics, to what 1,000 images can tell."""
    dataset = load(Data(name="cifar100", root=str(real_cifar100), train_samples=1000, test_samples=100), 5)
    assert np.bincount(dataset.train.labels).tolist() == [10] * 100
    assert dataset.classes[0] == "apple"
    assert dataset.classes[-1] == "worm"
    mean, std = statistics(dataset.train.inputs)
    assert mean == pytest.approx((0.50707516, 0.48654887, 0.44091784), abs=0.02)
    assert std == pytest.approx((0.26733429, 0.25643846, 0.27615047), abs=0.02)
    # One file name occurs in two classes of the whole set: classes tell the files apart, not names.
    listing = class_folders(real_cifar100 / "cifar100", IMAGE_SUFFIXES).splits
    assert {split: len(part.files) for split, part in listing.items()} == {"train": 50_000, "test": 10_000}
    assert Counter(listing["train"].labels) == dict.fromkeys(range(100), 500)


def test_what_systems_leave_behind_is_no_class(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    before = load(own(place), 5)
    left = ["@eaDir", ".ipynb_checkpoints", "__MACOSX", ".DS_Store", "Thumbs.db", "lost+found", ".hidden", "#recycle"]
    left += ["@Recycle", "$RECYCLE.BIN", "System Volume Information", "__pycache__"]
    for name in left:
        for folder in (place, place / "train", place / "train" / "a", place / "test" / "b"):
            (folder / name).mkdir()
            Image.new("RGB", (8, 8)).save(folder / name / "thumbnail.png")
    for folder in (place / "train", place / "train" / "a"):
        for name in ("desktop.ini", "ehthumbs.db", "Icon\r"):
            (folder / name).write_bytes(b"")
    after = load(own(place), 5)
    assert (after.classes, after.fingerprint, after.notes) == (before.classes, before.fingerprint, ())


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def rename(place: Path, old: str, new: str, *splits: str) -> None:
    for split in splits:
        (place / split / old).rename(place / split / new)


def test_a_class_is_one_however_unicode_spells_it(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", [COMPOSED, "cafz", "a"])
    before = load(own(place), 5)
    assert before.classes == ("a", "cafz", COMPOSED)
    for splits in (("train",), ("test",)):  # the second time both are decomposed, which alone would sort elsewhere
        rename(place, COMPOSED, DECOMPOSED, *splits)
        after = load(own(place), 5)
        assert (after.classes, after.fingerprint) == (before.classes, before.fingerprint)


def test_one_class_in_two_spellings_is_refused(tmp_path: Path, write_images: Write) -> None:
    try:
        place = write_images(tmp_path / "set", [COMPOSED, DECOMPOSED, "a"])
    except FileExistsError:
        pytest.skip("this file system takes both spellings for one")
    with pytest.raises(DataError, match=rf"test holds two folders called {COMPOSED}, .*\(NFC and NFD\)"):
        load(own(place), 5)


def test_a_class_whose_name_is_not_utf8_is_refused(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    name = os.fsdecode(b"caf\xe9")
    try:
        rename(place, "b", name, "train", "test")
    except OSError:
        pytest.skip("this file system has no names that are not UTF-8")
    with pytest.raises(DataError, match=r"a folder whose name is not UTF-8: caf\\xe9\. .*rename it") as caught:
        load(own(place), 5)
    str(caught.value).encode()


def test_files_whose_names_are_not_utf8_are_read_and_named_readably(tmp_path: Path, write_images: Write) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    before = load(own(place), 5)
    picture = place / "train" / "a" / os.fsdecode(b"0001\xe9.png")
    try:
        (place / "train" / "a" / "0001.png").rename(picture)
    except OSError:
        pytest.skip("this file system has no names that are not UTF-8")
    assert load(own(place), 5).fingerprint == before.fingerprint
    picture.write_bytes(b"")
    with pytest.raises(DataError, match=r"0001\\xe9\.png cannot be decoded") as caught:
        load(own(place), 5)
    str(caught.value).encode()
    picture.rename(picture.with_suffix(".txt"))
    (note,) = load(own(place), 5).notes
    assert note.encode().endswith(rb"0001\xe9.txt")


def test_transparency_is_said_when_a_set_is_loaded(
    tmp_path: Path, write_images: Write, caplog: pytest.LogCaptureFixture
) -> None:
    place = write_images(tmp_path / "set", ["a", "b"])
    Image.new("RGBA", (8, 8)).save(place / "test" / "b" / "0001.png")
    dataset = load(own(place), 5)
    assert (dataset.test.inputs[3] == 255).all()
    assert "reading folder test: 1 of 4 images have transparent parts, which become white" in caplog.text
