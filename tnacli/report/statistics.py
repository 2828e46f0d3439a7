"""Means, spreads and paired differences over seeds."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from operator import mul
from statistics import fmean, stdev

from tnacli.report import t_distribution

EXACT_UP_TO = 30
DRAWS = 1 << 14
SIGNIFICANCE = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of `count` values; no deviation of a single one."""

    mean: float
    std: float | None
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


@dataclass(frozen=True)
class Interval:
    """A confidence interval of 95 %."""

    low: float
    high: float

    def within(self, margin: float) -> bool:
        """Whether all of it is less than `margin` from 0."""
        return -margin < self.low and self.high < margin

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Paired:
    """The difference of two methods over the seeds that both have, first minus second.

    `p_t` and `p_signs` are two-sided probabilities of a difference at least this large if there were none. `p_signs` cannot
    fall below 2 / 2^n: with five seeds it is at least 0.0625. `interval` is that of the t-test, and `smallest` the difference
    that it would show with a probability of 80 %, given the spread found. All are None with fewer than two seeds.
    """

    difference: Spread
    p_t: float | None
    p_signs: float | None
    interval: Interval | None = None
    smallest: float | None = None


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of at least one value."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """`first` minus `second`, values by seed, over the seeds they share; None if they share none."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    return Paired(
        spread(differences), t_test(differences), sign_permutation_test(differences), interval(differences),
        smallest_difference(differences),
    )  # fmt: skip


def _alike(differences: Sequence[float]) -> bool:
    return stdev(differences) <= 1e-12 * max(1.0, abs(fmean(differences)))


def interval(differences: Sequence[float]) -> Interval | None:
    """The 95 % confidence interval (Student's t) of the mean of `differences`; None with fewer than two, or all alike."""
    if len(differences) < 2 or (_alike(differences) and any(differences)):
        return None
    half = (
        t_distribution.quantile(1 - SIGNIFICANCE / 2, len(differences) - 1)
        * stdev(differences)
        / math.sqrt(len(differences))
    )
    mean = fmean(differences)
    return Interval(mean - half, mean + half)


def smallest_difference(differences: Sequence[float]) -> float | None:
    """The true difference that as many seeds of this spread show with a probability of 80 %; None with fewer than two.

    To show is to reach p < 0.05 in the two-sided paired t-test: from the noncentral t distribution, without the other tail,
    which holds less than 1e-5 there. Of few seeds the spread itself is uncertain, and so is this.
    """
    count = len(differences)
    if count < 2:
        return None
    least = t_distribution.quantile(1 - SIGNIFICANCE / 2, count - 1)
    return t_distribution.noncentrality(1 - POWER, count - 1, least) * stdev(differences) / math.sqrt(count)


def holm(p_values: Sequence[float], *, outstanding: int = 0) -> list[float]:
    """`p_values` of several tests, in their order, corrected for their number (Holm 1979).

    Those below 0.05 are then all real with a probability of at least 95 %, however the tests depend on each other.
    Tests of the same family that are `outstanding` count as if they had found p = 1, so that none of their outcomes can raise
    what is returned now.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) + outstanding - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t-test that the mean of `differences` is 0.

    None with fewer than two of them, or where all are alike and not 0: there is no spread to measure the mean against.
    """
    if len(differences) < 2:
        return None
    mean = fmean(differences)
    if _alike(differences):
        return 1.0 if mean == 0 else None
    statistic = mean / (stdev(differences) / math.sqrt(len(differences)))
    return 2 * t_distribution.cumulative(-abs(statistic), len(differences) - 1)


def sign_permutation_test(differences: Sequence[float]) -> float | None:
    """Two-sided p that the mean of `differences` is 0, from all ways to flip their signs (Fisher's randomisation test).

    Exact up to 30 differences, from 16,384 fixed random draws beyond. None with fewer than two differences.
    """
    return _sign_permutation_test(tuple(differences), EXACT_UP_TO)


@lru_cache(maxsize=64)  # a report says the same of a pair of runs in several tables
def _sign_permutation_test(differences: tuple[float, ...], exact_up_to: int) -> float | None:
    count = len(differences)
    if count < 2:
        return None
    # What is equal but for rounding counts as at least as large.
    least = abs(math.fsum(differences)) - 1e-12 * math.fsum(map(abs, differences))
    if least <= 0:
        return 1.0
    if count <= exact_up_to:
        # Each sum is one over either half of the differences, so that those that reach `least` are counted without being made.
        first, second = _signed_sums(differences[: count // 2]), sorted(_signed_sums(differences[count // 2 :]))
        smaller = sum(map(partial(bisect_left, second), [least - one for one in first]))
        return 2 * (len(first) * len(second) - smaller) / (1 << count)
    flips = _draws(count)
    return sum(abs(math.fsum(map(mul, signs, differences))) >= least for signs in flips) / len(flips)


def _signed_sums(values: Sequence[float]) -> list[float]:
    """The sum of `values` for each way to flip their signs."""
    sums = [0.0]
    for value in values:
        sums = [one + value for one in sums] + [one - value for one in sums]
    return sums


@cache
def _draws(count: int) -> Sequence[Sequence[int]]:
    """Fixed draws of `count` signs; every test of so many differences uses the same."""
    draw = random.Random(0)
    # The observed signs count as one draw, so that p is never 0.
    return [[1] * count, *([draw.choice((1, -1)) for _ in range(count)] for _ in range(DRAWS - 1))]
