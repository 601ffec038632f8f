"""Renyi divergences of random allocation, each bounded from above.

With S the likelihood ratio of `allocation`, "remove" is log E S^a and "add" is
log E S^(1-a), both under Q and divided by a - 1.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drdp.privacy._special import log_normal_cdf
from drdp.privacy.allocation import allocated

__all__ = ["LARGEST_ORDER", "log_allocation_moment"]

Array = NDArray[np.float64]

LARGEST_ORDER = 256
_UNIT = 2.0**-53


def log_allocation_moment(order: float, rounds: int, noise: float) -> float:
    """(order - 1) times the Renyi divergence, of the larger direction.

    Args:
        order: A real number above 1; infinite above `LARGEST_ORDER`.
        rounds: Number of rounds t, at least 2.
        noise: Noise multiplier z.

    Guarantees:
        Never below the truth.  "Remove" is exact at whole orders (Feldman and
        Shenfeld, arXiv:2502.08202, Corollary 4.6) and bounded by chords of a
        convex function between them; "add" is bounded as in `_log_add`.

    >>> round(log_allocation_moment(2, 2, 2.0), 10)
    0.1327922393
    """
    if order > LARGEST_ORDER:
        return math.inf
    moments = _log_remove(rounds, noise, 64 if order <= 64.0 else LARGEST_ORDER)
    below = math.floor(order)
    share = order - below
    remove = (1.0 - share) * moments[below]
    if share > 0.0:
        remove += share * moments[below + 1]
    return max(float(remove), _log_add(order, rounds, noise))


@lru_cache(maxsize=64)
def _log_remove(rounds: int, noise: float, most: int) -> tuple[float, ...]:
    """log E_Q S^a for a = 0 .. most: a power of a power series, in logs.

    E (X_1 + .. + X_t)^a = a! [x^a] (sum_n E X^n x^n / n!)^t, where E X^n is
    exp(n (n - 1) / (2 z^2)).
    """
    n = np.arange(most + 1, dtype=np.float64)
    factorial = np.concatenate(([0.0], np.cumsum(np.log(n[1:]))))
    series = 0.5 * n * (n - 1.0) / noise / noise - factorial
    power = series
    for digit in f"{rounds:b}"[1:]:
        power = _product(power, power)
        if digit == "1":
            power = _product(power, series)
    found = power + factorial - n * math.log(rounds)
    size = np.abs(power) + factorial + n * math.log(rounds)
    found = np.maximum(found, 0.0) + 32.0 * _UNIT * size
    found[:2] = 0.0
    return tuple(found.tolist())


def _product(one: Array, two: Array) -> Array:
    """The product of two power series with positive coefficients, in logs."""
    product = np.empty(one.size)
    for k in range(one.size):
        terms = one[: k + 1] + two[k::-1]
        top = terms.max()
        product[k] = top + math.log(math.fsum(np.exp(terms - top)))
    return product


def _log_add(order: float, rounds: int, noise: float) -> float:
    """log of a bound on E_Q S^(1-a), the direction in which Q is plain noise.

    S is at least the geometric mean of the X_i, which is lognormal; that alone
    gives (a - 1) (a + t - 1) / (2 t z^2).  Used below a threshold only, it
    leaves s^(1-a) above it, which continued along its tangent is a convex
    function, so that the masses of `allocated` bound its mean.
    """
    mu = 1.0 / noise
    power = order - 1.0
    plain = 0.5 * power * mu * mu * (1.0 + power / rounds)
    ratio = allocated(rounds, noise, False)
    kept = ratio.mass > 0.0
    log_mass = np.log(ratio.mass[kept])
    value = ratio.step * ratio.place[kept] - math.log(rounds)
    # what underflowed in the sums is below the least double in every cell
    zero = ratio.zero + 1e-290
    width = mu / math.sqrt(rounds)
    best = plain
    for deviations in (2.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0):
        cut = -0.5 * mu * mu - width * deviations - power * width * width
        if cut < value[0]:
            cut = float(value[0])
        log_below = plain + log_normal_cdf(
            (cut + 0.5 * mu * mu) / width + power * width
        )
        tangent = -power * cut + np.log1p(power * -np.expm1(np.minimum(value - cut, 0)))
        terms = log_mass + np.where(value >= cut, -power * value, tangent)
        log_zero = math.log(zero) - power * cut + math.log(order)
        top = max(float(terms.max()), log_below, log_zero)
        with np.errstate(under="ignore"):
            total = float(np.exp(terms - top).sum())
        total += math.exp(log_below - top) + math.exp(log_zero - top)
        best = min(best, top + math.log(total))
    return min(plain, best + ratio.error + 1e-12)
