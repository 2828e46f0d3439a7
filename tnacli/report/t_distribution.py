"""Student's t distribution, central and not, in plain Python: to load SciPy would take longer than a report does.

T = (Z + delta) / s, where Z is standard normal and s^2 is chi-squared over its `degrees` of freedom. So P(T <= t) is the mean of
Phi(t s - delta) over s. The trapezoidal rule over log s, where the density falls off exponentially on both sides, takes it to
some 13 digits of what is not in the far tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

_FAR = 40.0
"""Where the density is e^-40 of its greatest value it ends."""


def cumulative(t: float, degrees: int, delta: float = 0.0) -> float:
    """P(T <= t); `delta` is the noncentrality."""
    return math.fsum(weight * math.erfc((delta - t * s) * math.sqrt(0.5)) for s, weight in _scales(degrees)) / 2


@cache
def quantile(p: float, degrees: int) -> float:
    """The t for which P(T <= t) is `p`, which is above 0.5, of the central distribution."""
    return _root(lambda t: cumulative(t, degrees) - p, 0.0)


@cache
def noncentrality(p: float, degrees: int, t: float) -> float:
    """The delta for which P(T <= t) is `p`, which is below that of the central distribution."""
    return _root(lambda delta: p - cumulative(t, degrees, delta), 0.0)


@cache
def _scales(degrees: int) -> tuple[tuple[float, float], ...]:
    """Values of s at equal distances in log s, and the probability of each."""
    step = min(0.04, 0.25 / math.sqrt(2 * degrees))
    first, last = -_FAR / degrees - 1, math.log(1 + 2 * _FAR / degrees) / 2 + 0.5
    logs = [first + n * step for n in range(math.ceil((last - first) / step))]
    density = [math.exp(degrees * (u - (math.exp(2 * u) - 1) / 2)) for u in logs]
    total = math.fsum(density)
    return tuple((math.exp(u), one / total) for u, one in zip(logs, density, strict=True))


def _root(rising: Callable[[float], float], low: float) -> float:
    """Where a function that is negative at `low`, and rises, is 0: regula falsi, its stale end halved (Illinois)."""
    high = low + 1
    while rising(high) < 0:
        low, high = high, 2 * high
    below, above = rising(low), rising(high)
    while high - low > 1e-12 * high:
        middle = (low * above - high * below) / (above - below)
        value = rising(middle)
        if abs(value) < 1e-15:
            return middle
        if value < 0:
            low, below, above = middle, value, above / 2
        else:
            high, above, below = middle, value, below / 2
    return (low + high) / 2
