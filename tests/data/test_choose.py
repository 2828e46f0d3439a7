"""Which samples a subset has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnacli.data.choose import balanced, quotas, rest


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.data())
def test_quotas_are_as_even_as_the_classes_allow(available: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, sum(available)))
    given_out = quotas(available, count)
    assert sum(given_out) == count
    assert all(got <= there for got, there in zip(given_out, available, strict=True))
    most = max(given_out)
    # Whoever got clearly less than the most had no more to give.
    assert all(got >= most - 1 or got == there for got, there in zip(given_out, available, strict=True))


def test_quotas_of_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="5 samples asked for, 4 available"):
        quotas([2, 2], 5)


labels_and_counts = st.lists(st.integers(0, 4), min_size=1, max_size=60).flatmap(
    lambda labels: st.tuples(
        st.just(labels), st.integers(0, len(labels)), st.integers(0, len(labels)), st.sampled_from(["a", "b"])
    )
)


@given(labels_and_counts)
def test_smaller_subsets_lie_inside_larger_ones(case: tuple[list[int], int, int, str]) -> None:
    labels, first, second, stream = case
    smaller, larger = sorted((first, second))
    inner = balanced(np.array(labels), smaller, stream).tolist()
    outer = balanced(np.array(labels), larger, stream).tolist()
    assert len(inner) == smaller
    assert len(outer) == larger
    assert outer == sorted(set(outer))
    assert set(inner) <= set(outer)
    remaining = rest(len(labels), np.array(outer, np.int64)).tolist()
    assert sorted(outer + remaining) == list(range(len(labels)))


def test_the_choice_never_changes() -> None:
    """Results are compared across versions and machines: a recipe's subset must stay what it was."""
    labels = np.arange(40) % 4
    assert balanced(labels, 6, "cifar10", "train").tolist() == [5, 18, 20, 24, 25, 27]
    assert balanced(labels, 6, "cifar10", "test").tolist() == [2, 24, 27, 28, 29, 37]
