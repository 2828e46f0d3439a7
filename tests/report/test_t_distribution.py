"""Student's t distribution against SciPy's."""

from __future__ import annotations

import pytest
from scipy.special import nctdtr, stdtr, stdtrit

from tnacli.report.t_distribution import cumulative, noncentrality, quantile

DEGREES = (1, 2, 3, 4, 7, 9, 23, 40, 99, 500)


@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize("t", [-40.0, -9.0, -4.0, -2.0, -0.1, 0.0, 0.7, 3.0, 12.0])
def test_cumulative_is_scipys(t: float, degrees: int) -> None:
    assert cumulative(t, degrees) == pytest.approx(float(stdtr(degrees, t)), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize("delta", [0.5, 2.0, 5.0])
def test_the_noncentral_one_is_scipys(delta: float, degrees: int) -> None:
    assert cumulative(2.5, degrees, delta) == pytest.approx(float(nctdtr(degrees, delta, 2.5)), rel=1e-9)


@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.9995])
def test_the_quantile_is_scipys(p: float, degrees: int) -> None:
    assert quantile(p, degrees) == pytest.approx(float(stdtrit(degrees, p)), rel=1e-9)


@pytest.mark.parametrize("degrees", DEGREES)
def test_the_noncentrality_gives_its_probability(degrees: int) -> None:
    least = quantile(0.975, degrees)
    assert float(nctdtr(degrees, noncentrality(0.2, degrees, least), least)) == pytest.approx(0.2, rel=1e-9)
