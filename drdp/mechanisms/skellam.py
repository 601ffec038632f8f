"""Exact draws from the Skellam law, the difference of two Poisson numbers.

P(k) is proportional to the Bessel function I_|k|(mu), whose sum over all
integers is e^mu.  |k| is looked up in a table (`lookup`) that needs only the
ratios I_(k+1) / I_k; these are enclosed by their recurrence, run backwards,
where every step shrinks the enclosure.  No Poisson number is drawn, no Bessel
function evaluated, and the statistical distance from the law is 0 as long as
the bits are uniform.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.discrete_gaussian import signed_draws
from drdp.mechanisms.enclosure import Enclosure, product, ratio
from drdp.mechanisms.lookup import Lookup

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["LARGEST_VARIANCE", "skellam"]

LARGEST_VARIANCE = 2.0**30
"""Of one draw: a table for more would take many seconds to make."""

_GUARD = 64


def skellam(
    count: int, variance: float | Fraction, rng: NoiseSource
) -> NDArray[np.int64]:
    """Independent draws of N1 - N2, both Poisson with mean variance / 2.

    Args:
        count: How many.
        variance: mu, taken exactly as the rational number that it is; above 0
            and at most 2^30.
        rng: Where the random bits come from, one word for each draw.

    Guarantees:
        The law is exact: nothing is rounded and no tail is left out.  Sums of n
        draws with variance mu / n have exactly the law of one with variance mu.

    Raises:
        InvalidArgumentError: If the variance is outside its domain.
    """
    count = _check.count(count=count)
    _check.positive(variance=variance)
    if variance > LARGEST_VARIANCE:
        raise InvalidArgumentError(
            f"variance must be at most 2^30, got {float(variance)!r}: noise that wide"
            " needs a coarser granularity, or a discrete Gaussian"
        )
    return signed_draws(_table(Fraction(variance)), count, rng)


@lru_cache(maxsize=16)
def _table(variance: Fraction) -> Lookup:
    return Lookup(lambda bits: _cumulative(variance, bits))


def _cumulative(mu: Fraction, bits: int) -> list[Enclosure]:
    """F of |k| for a Skellam number k."""
    width = bits + _GUARD
    one = 1 << width
    reach = 1.0
    while True:
        far = _far(float(mu), reach * (bits + 16))
        ratios = _ratios(mu, far + far // 4 + 8, width)
        weight: Enclosure = (one, one)
        low = high = 0
        sums: list[Enclosure] = []
        for k in range(far):
            times = 2 if k else 1
            low, high = low + times * weight[0], high + times * weight[1]
            sums.append((low, high))
            # ratios fall with k (Amos 1974): a geometric series bounds the rest
            fall = ratios[k]
            if 2 * weight[1] < one - fall[1]:
                rest = 2 * -((-weight[1] * fall[1]) // (one - fall[1]))
                if rest < 1 << (_GUARD - 8):
                    whole = (low, high + rest)
                    top = 1 << bits
                    pairs = (ratio(part, whole, bits) for part in sums)
                    return [(start, min(end, top)) for start, end in pairs]
            weight = product(weight, fall, width)
        reach *= 2.0


def _far(mu: float, bits: float) -> int:
    """About where the tail is 2^-bits; whether it is, is seen later."""
    need = bits * math.log(2.0)
    # Bernstein: the tail beyond k is below 2 exp(-k^2 / (2 (mu + k / 3)))
    return math.ceil(need / 3.0 + math.sqrt((need / 3.0) ** 2 + 2.0 * need * mu)) + 4


def _ratios(mu: Fraction, start: int, width: int) -> list[Enclosure]:
    """Enclosures of I_(k+1)(mu) / I_k(mu) for k = 0, ..., start - 1.

    r_(k-1) = 1 / (2 k / mu + r_k), from r_start between 0 and 1 on.
    """
    one, square = 1 << width, 1 << (2 * width)
    slope = (2 * mu.denominator << width) // mu.numerator  # 2 / mu, rounded down
    low, high = 0, one
    found: list[Enclosure] = [(0, 0)] * start
    for k in range(start, 0, -1):
        below, above = k * slope, k * (slope + 1)
        low, high = square // (above + high), square // (below + low) + 1
        found[k - 1] = low, high
    return found
