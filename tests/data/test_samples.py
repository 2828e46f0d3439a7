"""Samples and their fingerprints."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tnacli.data.samples import Samples, empty_like, fingerprint


def make(count: int = 4) -> Samples:
    return Samples(torch.arange(count * 12, dtype=torch.uint8).view(count, 3, 2, 2), torch.arange(count) % 2)


@given(st.integers(0, 47), st.integers(1, 255))
def test_any_changed_byte_changes_the_digest(position: int, change: int) -> None:
    samples = make()
    inputs = samples.inputs.clone()
    inputs.view(-1)[position] += change
    assert Samples(inputs, samples.labels).digest() != samples.digest()


def test_labels_shape_order_names_and_splits_count_too() -> None:
    samples = make()
    same = Samples(samples.inputs.clone(), samples.labels.clone())
    prints = [
        fingerprint(("a", "b"), {"train": samples.digest()}),
        fingerprint(("b", "a"), {"train": samples.digest()}),
        fingerprint(("a", "b"), {"test": samples.digest()}),
        fingerprint(("a", "b"), {"train": samples.digest(), "test": samples.digest()}),
        fingerprint(("a", "b"), {"train": samples.take(torch.tensor([1, 0, 2, 3])).digest()}),
        fingerprint(("a", "b"), {"train": Samples(samples.inputs, 1 - samples.labels).digest()}),
        fingerprint(("a", "b"), {"train": Samples(samples.inputs.view(4, 3, 1, 4), samples.labels).digest()}),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(("a", "b"), {"train": same.digest()}) == prints[0]


def test_a_strided_view_has_the_digest_of_its_copy() -> None:
    samples = make()
    view = Samples(samples.inputs[::2], samples.labels[::2])
    assert view.digest() == Samples(samples.inputs[::2].clone(), samples.labels[::2].clone()).digest()


def test_only_bytes_with_one_label_each() -> None:
    inputs, labels = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    assert len(empty_like(Samples(inputs, labels))) == 0
    for bad_inputs, bad_labels in (
        (inputs.float(), labels),
        (inputs[0], labels),
        (inputs, labels[:1]),
        (inputs, labels.int()),
    ):
        with pytest.raises(ValueError, match="must be"):
            Samples(bad_inputs, bad_labels)
