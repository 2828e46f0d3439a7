"""Samples and their fingerprints."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnacli.data.samples import Samples, empty_like, fingerprint


def make(count: int = 4) -> Samples:
    return Samples(np.arange(count * 12, dtype=np.uint8).reshape(count, 3, 2, 2), np.arange(count) % 2)


@given(st.integers(0, 47), st.integers(1, 255))
def test_any_changed_byte_changes_the_digest(position: int, change: int) -> None:
    samples = make()
    inputs = samples.inputs.copy()
    inputs.reshape(-1)[position] ^= change
    assert Samples(inputs, samples.labels).digest() != samples.digest()


def test_labels_shape_order_names_and_splits_count_too() -> None:
    samples = make()
    same = Samples(samples.inputs.copy(), samples.labels.copy())
    prints = [
        fingerprint(("a", "b"), {"train": samples.digest()}),
        fingerprint(("b", "a"), {"train": samples.digest()}),
        fingerprint(("a", "b"), {"test": samples.digest()}),
        fingerprint(("a", "b"), {"train": samples.digest(), "test": samples.digest()}),
        fingerprint(("a", "b"), {"train": samples.take(np.array([1, 0, 2, 3])).digest()}),
        fingerprint(("a", "b"), {"train": Samples(samples.inputs, 1 - samples.labels).digest()}),
        fingerprint(("a", "b"), {"train": Samples(samples.inputs.reshape(4, 3, 1, 4), samples.labels).digest()}),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(("a", "b"), {"train": same.digest()}) == prints[0]


def test_a_strided_view_has_the_digest_of_its_copy() -> None:
    samples = make()
    view = Samples(samples.inputs[::2], samples.labels[::2])
    assert view.digest() == Samples(samples.inputs[::2].copy(), samples.labels[::2].copy()).digest()


def test_only_bytes_with_one_label_each() -> None:
    inputs, labels = np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int64)
    assert len(empty_like(Samples(inputs, labels))) == 0
    wrong: tuple[tuple[Any, Any], ...] = (
        (inputs.astype(np.float32), labels),
        (inputs[0], labels),
        (inputs, labels[:1]),
        (inputs, labels.astype(np.int32)),
    )
    for bad_inputs, bad_labels in wrong:
        with pytest.raises(ValueError, match="must be"):
            Samples(bad_inputs, bad_labels)
