"""Generated samples: the right shape, the same every time, and something to learn."""

import numpy as np
import pytest

from tnacli.data.load import load
from tnacli.recipe.datasets import DATASETS
from tnacli.recipe.schema.data import Data

KNOWN = [name for name, facts in DATASETS.items() if facts.classes]


@pytest.mark.parametrize("name", KNOWN)
def test_shape_and_classes_of_every_known_set(name: str) -> None:
    facts = DATASETS[name]
    dataset = load(Data(name=name, format="generated"), 3)
    frames = (3,) if facts.is_events else ()
    assert facts.size is not None
    assert tuple(dataset.train.inputs.shape[1:]) == (*frames, facts.channels, *facts.size)
    assert len(dataset.classes) == facts.classes
    assert np.bincount(dataset.train.labels).tolist() == [4] * (facts.classes or 0)
    assert np.bincount(dataset.test.labels).tolist() == [2] * (facts.classes or 0)
    assert dataset.source == "generated"
    assert load(Data(name=name, format="generated"), 3).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(("name", "shape"), [("folder", (3, 20, 16)), ("event_folder", (2, 2, 20, 16))])
def test_in_place_of_samples_of_ones_own(name: str, shape: tuple[int, ...]) -> None:
    """With ten classes, at the size asked for, without which there is none."""
    dataset = load(Data(name=name, format="generated", size=(20, 16)), 2)
    assert (tuple(dataset.train.inputs.shape[1:]), len(dataset.classes)) == (shape, 10)
    with pytest.raises(ValueError, match=f"generated samples of {name} need one"):
        Data(name=name, format="generated")


@pytest.mark.parametrize("name", ["cifar10", "nmnist"])
def test_asked_for_sizes(name: str) -> None:
    data = Data(name=name, format="generated", train_samples=33, test_samples=12, size=(20, 16), validation_samples=10)
    dataset = load(data, 2)
    assert (len(dataset.train), len(dataset.validation or ()), len(dataset.test)) == (23, 10, 12)
    assert dataset.size == (20, 16)


@pytest.mark.parametrize("name", ["cifar10", "cifar10dvs", "digits"])
def test_classes_can_be_learned(name: str) -> None:
    dataset = load(Data(name=name, format="generated", train_samples=200, test_samples=100), 2)
    train, test = (split.inputs.reshape(len(split), -1).astype(float) for split in (dataset.train, dataset.test))
    means = np.stack([train[dataset.train.labels == label].mean(axis=0) for label in range(10)])
    distances = np.linalg.norm(test[:, None] - means, axis=2)
    assert (distances.argmin(axis=1) == dataset.test.labels).mean() > 0.9
    assert not np.array_equal(dataset.train.inputs[0], dataset.train.inputs[10])  # same class, other noise
