"""Paired tests over seeds against scipy's and against their definitions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_rel

from tnacli.report.statistics import DRAWS, paired, sign_permutation_test, spread, t_test

values = st.floats(-50, 50).map(lambda x: round(x, 3))


@given(st.lists(st.tuples(values, values), min_size=2, max_size=8))
def test_t_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    differences = [a - b for a, b in pairs]
    if max(differences) - min(differences) < 1e-6:
        return  # no spread: scipy has no answer
    expected = ttest_rel([a for a, _ in pairs], [b for _, b in pairs]).pvalue
    assert t_test(differences) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=7))
def test_sign_permutation_is_scipys(differences: list[int]) -> None:
    def size(x: Any, axis: int) -> Any:
        return abs(x.mean(axis=axis))

    result = permutation_test(
        (differences,), size, permutation_type="samples", alternative="greater", n_resamples=10**6
    )
    assert sign_permutation_test(differences) == pytest.approx(float(result.pvalue))


def test_sign_permutation_has_a_smallest_value() -> None:
    assert sign_permutation_test([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 2**5


def test_many_seeds_are_sampled_and_never_give_zero() -> None:
    p = sign_permutation_test([1.0 + n / 100 for n in range(30)])
    assert p is not None
    assert 1 / DRAWS <= p < 0.01
    mixed = sign_permutation_test([(-1.0) ** n for n in range(30)])
    assert mixed == pytest.approx(1.0)


def test_alike_differences_have_no_spread() -> None:
    assert t_test([0.0, 0.0, 0.0]) == 1.0
    assert t_test([0.1, 0.1, 0.1]) == 0.0
    assert t_test([1.0]) is None
    assert sign_permutation_test([1.0]) is None


@given(st.dictionaries(st.integers(0, 9), values), st.dictionaries(st.integers(0, 9), values))
def test_paired_uses_the_seeds_that_both_have(first: dict[int, float], second: dict[int, float]) -> None:
    shared = sorted(first.keys() & second.keys())
    result = paired(first, second)
    if not shared:
        assert result is None
        return
    assert result is not None
    assert result.difference.count == len(shared)
    assert math.isclose(result.difference.mean, sum(first[s] - second[s] for s in shared) / len(shared), abs_tol=1e-9)


def test_spread_is_the_sample_deviation() -> None:
    for numbers in itertools.permutations([1.0, 2.0, 4.0]):
        found = spread(numbers)
        assert found.mean == pytest.approx(7 / 3)
        assert found.std == pytest.approx(math.sqrt(7 / 3))
    assert str(spread([72.004])) == "72.00"
