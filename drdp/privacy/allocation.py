"""The likelihood ratio of random allocation, from above and from below.

A unit takes part in one of t rounds, drawn uniformly.  An adaptive run of
Gaussian releases is then a post-processing of one draw from P against Q,

    P = (1/t) sum_i N(e_i, z^2 I),    Q = N(0, z^2 I)    in t dimensions

(Feldman and Shenfeld, arXiv:2502.08202; Chua et al., arXiv:2412.16802): a round
whose contribution v has norm |v| <= 1 answers |v| x_i plus fresh noise of
variance z^2 (1 - |v|^2) along v, and plain noise across it.  Under Q the ratio
is S = (X_1 + ... + X_t) / t with X_i = exp(g_i / z - 1 / (2 z^2)) and g_i
standard normal, so that

    delta_remove(epsilon) = E (S - e^epsilon)_+
    delta_add(epsilon)    = E (1 - e^epsilon S)_+

are expectations of convex functions of a one-dimensional sum.  Masses are kept
on a geometric grid.  Spreading the mass of a sum onto the two points around it
with the same mean makes S larger in the convex order, and putting masses
together at their common mean makes it smaller; both orders survive sums, and a
pair whose ratio is larger in the convex order dominates (Blackwell), so that
both survive composition.  Only positive numbers are added: the deepest tails
are as precise as the bulk.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ratio", "allocated", "allocation_points"]

Array = NDArray[np.float64]

_BELOW, _ABOVE = 9.0, 13.0  # the grid's reach in standard deviations
_TRIVIAL = 1e-50  # masses this small are moved to the ends of the grid
_FINEST = 5e-3  # a step that costs nothing visible where the noise is small
_EFFORT = 6e7  # multiplications of one sum
_LARGEST_GRID = 1 << 16
_UNIT = 2.0**-53
_LOSS_ERROR = 1e-13
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


@final
class Ratio(NamedTuple):
    """A sum of likelihood ratios under Q, as masses near a geometric grid.

    Cell k belongs to the value exp((first + k) step); `moment` is its mass
    times its exact mean.  `zero` is the mass at 0, `infinite` the part of the
    mean that has moved to infinity, `error` the relative error of a mass.
    """

    step: float
    first: int
    mass: Array
    moment: Array
    zero: float
    infinite: float
    error: float

    @property
    def place(self) -> Array:
        """The cells' places on the grid."""
        return self.first + np.arange(self.mass.size, dtype=np.float64)


def allocation_points(
    rounds: int, noise: float, *, remove: bool, lower: bool
) -> tuple[Array, Array, float]:
    """The law of the privacy loss of one allocation, as point masses.

    Args:
        rounds: Number of rounds t, at least 2.
        noise: Noise multiplier z, per largest norm of a contribution.
        remove: The direction: whether P is the mixture, or the plain noise.
        lower: Which way every rounding goes.

    Returns:
        Losses, logs of their masses under the second distribution, and the
        first one's mass where the loss is infinite.

    Guarantees:
        The profile of these points is never below that of random allocation,
        or with `lower` never above; the same holds after composition.

    >>> loss, log_mass, _ = allocation_points(20, 1.0, remove=True, lower=False)
    >>> gains = np.maximum(np.exp(log_mass) * (np.exp(loss) - np.exp(0.5)), 0.0)
    >>> round(float(gains.sum()), 4)
    0.0079
    """
    ratio = allocated(rounds, noise, lower)
    kept = ratio.mass > 1e-300
    log_mass = np.log(ratio.mass[kept])
    if lower:
        value = np.log(ratio.moment[kept]) - log_mass
    else:
        value = ratio.step * ratio.place[kept]
    value -= math.log(rounds)
    # a grid point is exact, a mean is as good as its two sums
    error = _LOSS_ERROR * (1.0 + np.abs(value)) + (2.0 * ratio.error if lower else 0.0)
    sign = -1.0 if lower else 1.0
    loss = (value if remove else -value) + sign * error
    log_mass += sign * (ratio.error + error)
    if remove:
        infinite = ratio.infinite / rounds
    else:
        log_mass += value
        infinite = ratio.zero
    return loss, log_mass, 0.0 if lower else infinite * (1.0 + 1e-9)


@lru_cache(maxsize=16)
def allocated(rounds: int, noise: float, lower: bool) -> Ratio:
    """X_1 + ... + X_t by doubling, from above, or with `lower` from below."""
    double = _single(noise, _step(rounds, noise), lower)
    while rounds % 2 == 0:
        double, rounds = _sum(double, double, lower), rounds // 2
    total = double
    while rounds > 1:
        double, rounds = _sum(double, double, lower), rounds // 2
        if rounds % 2 == 1:
            total = _sum(total, double, lower)
    return total


def _step(rounds: int, noise: float) -> float:
    """A step that is fine against the spread of log S, and affordable."""
    mu = 1.0 / noise
    reach = mu * (_BELOW + _ABOVE + mu)
    spread = math.sqrt(math.expm1(min(mu * mu, 50.0)) / rounds)
    step = max(min(_FINEST, 0.03 * min(spread, mu)), reach / _LARGEST_GRID)
    while (reach / step) * min(-math.log(step) / step, reach / step) > _EFFORT:
        step *= 1.1
    return step


def _single(noise: float, step: float, lower: bool) -> Ratio:
    """One X: every cell's mass and mean by quadrature, then one side of it."""
    mu = 1.0 / noise
    low, high = -_BELOW * mu - 0.5 * mu * mu, (_ABOVE + 0.5 * mu) * mu
    first, last = math.floor(low / step), math.ceil(high / step)
    left = step * np.arange(first, last, dtype=np.float64)
    half = 0.5 * step
    loss = left[:, None] + half * (1.0 + _NODES)
    g = loss * noise + 0.5 * mu
    density = np.exp(-0.5 * g * g) * (half * noise / math.sqrt(2.0 * math.pi))
    mass = density @ _WEIGHTS
    surplus = (density * np.expm1(loss - left[:, None])) @ _WEIGHTS
    g_low, g_high = first * step * noise + 0.5 * mu, last * step * noise + 0.5 * mu
    mass_below, mean_below = _normal(g_low), _normal(g_low - mu)
    mass_above, mean_above = _normal(-g_high), _normal(mu - g_high)
    if lower:
        moment = np.exp(left) * (mass + surplus)
        return Ratio(
            step,
            first - 1,
            np.concatenate(([mass_below], mass, [mass_above])),
            np.concatenate(([mean_below], moment, [mean_above])),
            0.0,
            0.0,
            1e-12,
        )
    right = np.minimum(surplus / math.expm1(step), mass)
    masses = np.zeros(mass.size + 1)
    masses[:-1] = mass - right
    masses[1:] += right
    share = min(mean_below * math.exp(-first * step), mass_below)
    masses[0] += share
    masses[-1] += mass_above
    points = np.exp(step * np.arange(first, last + 1, dtype=np.float64))
    zero = mass_below - share
    return Ratio(step, first, masses, masses * points, zero, mean_above, 1e-12)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _sum(one: Ratio, two: Ratio, lower: bool) -> Ratio:
    """The sum of two independent ratios, without trivial masses at its ends.

    Where the larger one is d cells above the smaller one, the sum lies a known
    number of cells above the larger one, whichever cell that is.
    """
    step = one.step
    first = min(one.first, two.first)
    last = max(one.first + one.mass.size, two.first + two.mass.size)
    size = last - first + math.ceil(math.log(2.0) / step) + 2
    mass, moment = np.zeros(size), np.zeros(size)
    # from here on the smaller one adds less than half a cell
    far = math.ceil(-math.log(math.expm1(0.5 * step)) / step)
    pairs = ((one, two, 2.0),) if one is two else ((one, two, 1.0), (two, one, 1.0))
    near = 0
    for number, (large, small, weight) in enumerate(pairs):
        # large[i] with small[i + gap - d] for all d; d = 0 in one order only
        gap = large.first - small.first
        shift = large.first - first
        most = gap + large.mass.size - 1
        least = max(1 if number == 1 else 0, gap - small.mass.size + 1)
        near = max(near, min(far, most + 1) - least)
        for d in range(least, min(far, most + 1)):
            start = max(0, d - gap)
            stop = min(large.mass.size, small.mass.size + d - gap)
            if stop <= start:
                continue
            here, there = slice(start, stop), slice(start + gap - d, stop + gap - d)
            times = 1.0 if d == 0 else weight
            lift = math.log1p(math.exp(-d * step))
            product = large.mass[here] * small.mass[there]
            product *= times
            if lower:
                at = shift + math.floor(lift / step + 0.5)
                mass[at + start : at + stop] += product
                mean = large.moment[here] * small.mass[there]
                mean += large.mass[here] * small.moment[there]
                mean *= times
                moment[at + start : at + stop] += mean
                continue
            up = math.floor(lift / step)
            share = math.expm1(lift - up * step) / math.expm1(step)
            share = min(max(share, 0.0), 1.0)
            at = shift + up
            right = share * product
            mass[at + start + 1 : at + stop + 1] += right
            mass[at + start : at + stop] += product - right
        _add_far(mass, moment, large, small, weight, gap, shift, max(far, least), lower)
    for ratio, other in ((one, two), (two, one)):
        at = ratio.first - first
        mass[at : at + ratio.mass.size] += other.zero * ratio.mass
    error = (2 * near + 2 * size + 40) * _UNIT + one.error + two.error
    if not lower:
        with np.errstate(over="ignore"):
            index = first + np.arange(size, dtype=np.float64)
            moment = mass * np.exp(np.minimum(step * index, 700.0))
    zero, infinite = one.zero * two.zero, one.infinite + two.infinite
    return _trim(Ratio(step, first, mass, moment, zero, infinite, error), lower)


def _add_far(
    mass: Array,
    moment: Array,
    large: Ratio,
    small: Ratio,
    weight: float,
    gap: int,
    shift: int,
    far: int,
    lower: bool,
) -> None:
    """All smaller values at least `far` cells below: together, by running sums."""
    below = np.arange(large.mass.size) + gap - far
    reached = below >= 0
    if not reached.any():
        return
    below = np.minimum(below[reached], small.mass.size - 1)
    count = np.cumsum(small.mass)[below]
    sums = np.cumsum(small.moment)[below]
    cells = np.flatnonzero(reached)
    height = weight * large.mass[reached]
    at = shift + cells
    if lower:
        mass[at] += height * count
        moment[at] += weight * large.moment[reached] * count + height * sums
        return
    scale = np.exp(-large.step * (large.first + cells)) / math.expm1(large.step)
    share = np.minimum(sums * scale, count)
    mass[at] += height * (count - share)
    mass[at + 1] += height * share


def _trim(ratio: Ratio, lower: bool) -> Ratio:
    """The same without the trivial masses at both ends of the grid."""
    low = int(np.searchsorted(np.cumsum(ratio.mass), _TRIVIAL))
    tail = np.cumsum(ratio.moment[::-1])
    high = ratio.mass.size - int(np.searchsorted(tail, _TRIVIAL))
    low, high = min(low, high - 1), max(high, low + 1)
    mass, moment = ratio.mass[low:high].copy(), ratio.moment[low:high].copy()
    below, above = ratio.mass[:low].sum(), ratio.mass[high:].sum()
    mean_below, mean_above = ratio.moment[:low].sum(), ratio.moment[high:].sum()
    zero, infinite = ratio.zero, ratio.infinite
    step, first = ratio.step, ratio.first + low
    if lower:
        # together with the outermost cell that is kept, at the common mean
        mass[0] += below
        moment[0] += mean_below
        mass[-1] += above
        moment[-1] += mean_above
    else:
        # to 0 and the first point; to the last point and infinity
        share = min(float(mean_below) * math.exp(-step * first), float(below))
        mass[0] += share
        zero += float(below) - share
        mass[-1] += above
        infinite += float(mean_above)
        moment[0] = mass[0] * math.exp(step * first)
        moment[-1] = mass[-1] * math.exp(step * (first + mass.size - 1))
    return Ratio(step, first, mass, moment, zero, infinite, ratio.error)
