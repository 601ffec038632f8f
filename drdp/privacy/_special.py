"""Scalar special functions: the normal tail in log space, the Gaussian profile.

Only `math` is used, so a single command-line answer never waits for an import.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = [
    "close_in",
    "gaussian_delta",
    "gaussian_log_delta",
    "log_diff_exp",
    "log_normal_cdf",
    "mills_ratio",
    "normal_cdf",
    "solve_gaussian_epsilon",
    "solve_gaussian_mu",
]

_SQRT2 = math.sqrt(2.0)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def normal_cdf(x: float) -> float:
    """Phi(x), with full relative accuracy in the lower tail."""
    return 0.5 * math.erfc(-x / _SQRT2)


def mills_ratio(x: float) -> float:
    """Phi(-x) / phi(x) for x > -25, to a few units in the last place."""
    if x < 25.0:
        return 0.5 * math.erfc(x / _SQRT2) * math.exp(0.5 * x * x + _LOG_SQRT_2PI)
    term, total, square = 1.0, 1.0, x * x
    for k in range(1, 12):
        term *= -(2 * k - 1) / square
        total += term
    return total / x


def log_normal_cdf(x: float) -> float:
    """log Phi(x), for any finite x."""
    if x > 0.0:
        return math.log1p(-0.5 * math.erfc(x / _SQRT2))
    if x > -25.0:
        return math.log(normal_cdf(x))
    return -0.5 * x * x - _LOG_SQRT_2PI + math.log(mills_ratio(-x))


def log_diff_exp(a: float, b: float) -> float:
    """log(e^a - e^b) for a >= b; -inf where they are equal."""
    if a <= b:
        return -math.inf
    if b == -math.inf:
        return a
    return a + math.log(-math.expm1(b - a))


def close_in(
    excess: Callable[[float], float], bad: float, good: float, rtol: float
) -> float:
    """The good end of a bracket that was shrunk to a relative width.

    Secant steps; each probe aims a little beside the root, on the side where
    the bracket is still wide, so that both ends close in.  Where four of them
    do not halve the bracket, it is halved.

    Args:
        excess: A monotone function, at most 0 at `good` and above 0 at `bad`.
        bad: One end.
        good: The other end; what is returned was tested as well.
        rtol: How close to the boundary the answer must be, relatively.
    """
    older, newer = (bad, excess(bad)), (good, excess(good))
    probes, target = 0, 0.5 * math.fabs(good - bad)
    while math.fabs(good - bad) > (width := rtol * math.fabs(good)):
        probe = middle = 0.5 * (good + bad)
        rise = newer[1] - older[1]
        if probes < 4 and rise != 0.0 and math.isfinite(rise):
            root = newer[0] - newer[1] * (newer[0] - older[0]) / rise
            aside = math.copysign(0.4 * width, good - bad)
            probe = root + aside if math.fabs(good - root) > width else root - aside
        if not min(bad, good) < probe < max(bad, good):
            probe = middle
            if not min(bad, good) < probe < max(bad, good):
                break
        older, newer = newer, (probe, excess(probe))
        if newer[1] <= 0.0:
            good = probe
        else:
            bad = probe
        probes += 1
        if math.fabs(good - bad) <= target:
            probes, target = 0, 0.5 * math.fabs(good - bad)
    return good


def gaussian_log_delta(epsilon: float, mu: float) -> float:
    """log delta(epsilon) of mu-GDP, any real epsilon, tails included.

    delta = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu) (Balle and Wang,
    arXiv:1805.06530, Theorem 8).  As phi(mu/2 - eps/mu) = e^eps phi(-mu/2 -
    eps/mu), it is a density times a difference of two Mills ratios, and that
    is where cancellation is avoided.
    """
    if epsilon < 0.0:
        # delta(-e) = 1 - e^-e + e^-e delta(e)
        mirrored = math.exp(epsilon + gaussian_log_delta(-epsilon, mu))
        return math.log(-math.expm1(epsilon) + mirrored)
    if mu <= 0.0:
        return -math.inf
    upper = epsilon / mu - 0.5 * mu
    if upper < -1.0:
        # Here mu > 2, and the second term is well below the first.
        second = math.exp(-0.5 * upper * upper - _LOG_SQRT_2PI) * mills_ratio(
            upper + mu
        )
        return math.log(normal_cdf(-upper) - second)
    gap = _mills_gap(upper, mu)
    if not gap > 0.0:
        return -math.inf
    return -0.5 * upper * upper - _LOG_SQRT_2PI + math.log(gap)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """delta(epsilon) of mu-GDP."""
    return math.exp(gaussian_log_delta(epsilon, mu)) if mu < math.inf else 1.0


def solve_gaussian_epsilon(delta: float, mu: float) -> float:
    """The smallest epsilon >= 0 with delta(epsilon) <= delta under mu-GDP.

    The returned value was tested; it is within 1e-13 relative of the root.
    """
    wanted = math.log(delta)
    if gaussian_log_delta(0.0, mu) <= wanted:
        return 0.0
    low, high = 0.0, mu * (0.5 * mu + math.sqrt(2.0 * -wanted) + 1.0)
    while gaussian_log_delta(high, mu) > wanted:
        low, high = high, 2.0 * high
    return close_in(lambda e: gaussian_log_delta(e, mu) - wanted, low, high, 1e-13)


def solve_gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu with delta(epsilon) <= delta under mu-GDP, tested."""
    wanted = math.log(delta)
    low, high = 0.0, 1.0
    while gaussian_log_delta(epsilon, high) <= wanted:
        low, high = high, 2.0 * high
    if low == 0.0:
        low = 0.5
        while gaussian_log_delta(epsilon, low) > wanted:
            high, low = low, 0.5 * low
    return close_in(
        lambda mu: gaussian_log_delta(epsilon, mu) - wanted, high, low, 1e-13
    )


def _mills_gap(upper: float, mu: float) -> float:
    """m(upper) - m(upper + mu) for upper >= -1, without cancellation."""
    if mu > 0.25:
        near = mills_ratio(upper)
        gap = near - mills_ratio(upper + mu)
        if gap > 0.1 * near:
            return gap
    if mu > 1.0 + 0.1 * abs(upper):
        return mills_ratio(upper) - mills_ratio(upper + mu)
    # The slope 1 - t m(t) is smooth and positive: Gauss-Legendre on [0, mu].
    half = 0.5 * mu
    return half * sum(
        weight * _mills_slope(upper + half * (1.0 + node))
        for node, weight in _GAUSS_LEGENDRE
    )


def _mills_slope(x: float) -> float:
    """1 - x m(x), the slope of the Mills ratio with its sign turned."""
    if x < 12.0:
        return 1.0 - x * mills_ratio(x)
    term, total, square = 1.0, 0.0, x * x
    for k in range(1, 20):
        term *= -(2 * k - 1) / square
        total -= term
    return total


_GAUSS_LEGENDRE = (
    (-0.9602898564975363, 0.10122853629037626),
    (-0.7966664774136267, 0.22238103445337448),
    (-0.525532409916329, 0.31370664587788727),
    (-0.1834346424956498, 0.362683783378362),
    (0.1834346424956498, 0.362683783378362),
    (0.525532409916329, 0.31370664587788727),
    (0.7966664774136267, 0.22238103445337448),
    (0.9602898564975363, 0.10122853629037626),
)
