"""Paired tests over seeds against scipy's and against their definitions."""

from __future__ import annotations

import itertools
import math
import random
from statistics import stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_1samp, ttest_rel

from tnacli.report.statistics import (
    DRAWS,
    holm,
    interval,
    paired,
    sign_permutation_test,
    smallest_difference,
    spread,
    t_test,
)

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


def test_sign_permutation_of_many_seeds_counts_every_way() -> None:
    draw = random.Random(0)
    differences = [round(draw.gauss(0.4, 1), 2) for _ in range(17)]
    signs = np.array(list(itertools.product((1, -1), repeat=17)))
    sums = abs(signs @ np.array(differences))
    assert sign_permutation_test(differences) == np.mean(sums >= abs(sum(differences)) - 1e-9)
    assert sign_permutation_test([1.0 + n / 100 for n in range(30)]) == 2 / 2**30
    assert sign_permutation_test([0.1, 0.2, -0.3] * 8) == 1.0  # 0 but for rounding


def test_very_many_seeds_are_sampled_and_never_give_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sign_permutation_test([1.0 + n / 100 for n in range(40)]) == 1 / DRAWS
    draw = random.Random(1)
    differences = [draw.gauss(0.2, 1) for _ in range(20)]
    exact = sign_permutation_test(differences)
    monkeypatch.setattr("tnacli.report.statistics.EXACT_UP_TO", 10)
    sampled = sign_permutation_test(differences)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=0.02)  # four deviations of 16,384 draws


def test_alike_differences_have_no_spread() -> None:
    assert t_test([0.0, 0.0, 0.0]) == 1.0
    assert t_test([0.1, 0.1, 0.1]) is None  # no spread to measure it against
    assert interval([0.1, 0.1, 0.1]) is None
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


@given(st.lists(values, min_size=2, max_size=12))
def test_the_interval_is_scipys(differences: list[float]) -> None:
    if max(differences) - min(differences) < 1e-6:
        return  # no spread: scipy has no answer
    found = interval(differences)
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)
    # One test said twice: 0 lies outside exactly where p is below 0.05.
    p = t_test(differences)
    assert p is not None
    if abs(p - 0.05) > 1e-9:
        assert (0 in found) == (p > 0.05)


def test_the_interval_by_hand() -> None:
    # 1, 2, 3: mean 2, deviation 1, and the 97.5 % point of t with 2 degrees of freedom is 4.3027.
    found = interval([1.0, 2.0, 3.0])
    assert found is not None
    half = 4.302653 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert interval([1.0]) is None
    nothing = interval([0.0, 0.0, 0.0])
    assert nothing is not None
    assert (nothing.low, nothing.high) == (0, 0)


@pytest.mark.parametrize(("count", "deviations"), [(199, 0.2), (34, 0.5), (15, 0.8)])
def test_the_smallest_difference_that_could_be_shown(count: int, deviations: float) -> None:
    """The sizes that tables of power give for the paired t-test at Cohen's small, medium and large effect."""

    def smallest(count: int) -> float:
        differences = [0.5 * (-1) ** n for n in range(count)]
        found = smallest_difference(differences)
        assert found is not None
        assert smallest_difference([2 * d for d in differences]) == pytest.approx(2 * found)
        return found / stdev(differences)

    assert smallest(count) <= deviations < smallest(count - 1)


def test_four_of_five_samples_show_the_smallest_difference() -> None:
    """The same by simulation, on the known spread of which the samples are drawn."""
    draw, count, true = random.Random(0), 5, 1.6820
    found = smallest_difference([1.0, -1.0, 0.0, 1.0, -1.0])  # of a deviation of 1
    assert found == pytest.approx(true, abs=1e-3)
    shown = 0
    for _ in range(4000):
        p = t_test([draw.gauss(true, 1) for _ in range(count)])
        assert p is not None
        shown += p < 0.05
    assert shown / 4000 == pytest.approx(0.8, abs=0.02)
    assert smallest_difference([1.0]) is None


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; none below one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
    # Two more that are outstanding count as 1: times 4 and 3.
    assert holm([0.01, 0.04], outstanding=2) == pytest.approx([0.04, 0.12])
    assert holm([0.01, 0.04, 1, 1]) == pytest.approx([0.04, 0.12, 1, 1])
    assert holm([0.4], outstanding=2) == [1.0]
