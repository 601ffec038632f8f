"""The pair behind a fixed-size sample in which one unit sends nothing.

In units of the clip norm the sum is shifted by 2 where the unit is in the
sample (it takes the place of one that sends the opposite), and by 1 where it is
and sends nothing:

    (1 - q) N(0, z^2) + q N(2, z^2)    against    (1 - q) N(0, z^2) + q N(1, z^2)

Data sets reach this, so it bounds the cost from below; in x = output / z its
loss falls from 0 to a minimum and rises from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["displaced"]

Array = NDArray[np.float64]
Along = Callable[[Array], Array]
Stretch = tuple[float, float, float, Along, Along, Along]

_REACH = 38.0
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def displaced(rate: float, noise: float, *, remove: bool) -> tuple[Stretch, Stretch]:
    """The two stretches on which the loss is monotone, as arguments of `Piece`.

    Args:
        rate: The share of the population that is sampled, q, below 1.
        noise: Noise multiplier per clip norm, z.
        remove: Whether P is the first of the pair.
    """
    mu = 1.0 / noise
    out, share = math.log1p(-rate), math.log(rate)

    def log_mixture(x: Array, shift: float) -> Array:
        return np.asarray(np.logaddexp(out, share + shift * x - 0.5 * shift * shift))

    def loss(x: Array) -> Array:
        return log_mixture(x, 2.0 * mu) - log_mixture(x, mu)

    def log_density(x: Array) -> Array:
        second = log_mixture(x, mu if remove else 2.0 * mu)
        return second - 0.5 * x * x - _LOG_SQRT_2PI

    def root(level: Array, sign: float) -> Array:
        # q c^4 u^2 - a q c u + (1-q)(1-a) = 0, u = e^(mu x), c = e^(-mu^2/2),
        # a = e^level; divided by a, and solved without cancellation
        c = math.exp(-0.5 * mu * mu)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            square = rate * c**4 * np.exp(-level)
            free = (1.0 - rate) * np.expm1(-level)
            linear = 0.5 * rate * c
            large = linear + np.sqrt(linear * linear - square * free)
            u = large / square if sign > 0.0 else free / large
            return np.asarray(np.log(u) / mu)

    bottom = _lowest(loss, mu)
    least = float(loss(np.array(bottom)))

    def right(level: Array) -> Array:
        found = root(level, 1.0)
        return np.where(
            level <= least, bottom, np.where(np.isnan(found), bottom, found)
        )

    def left(level: Array) -> Array:
        # between the minimum and 0, which it reaches at minus infinity
        found = root(np.minimum(level, -1e-300), -1.0)
        found = np.where(np.isnan(found), bottom, found)
        return np.where(level <= least, bottom, np.where(level >= 0.0, -np.inf, found))

    panel = min(1 / 16, 1 / (8 * mu), 1 / (2 * mu + 12))
    end, start = _REACH + 2.0 * mu, -_REACH

    def negative(function: Along) -> Along:
        return lambda x: -function(x)

    def mirrored(function: Along) -> Along:
        return lambda x: function(-x)

    if remove:
        return (
            (bottom, end, panel, log_density, loss, right),
            (
                -bottom,
                -start,
                panel,
                mirrored(log_density),
                mirrored(loss),
                negative(left),
            ),
        )
    return (
        (
            -end,
            -bottom,
            panel,
            mirrored(log_density),
            negative(mirrored(loss)),
            negative(mirrored(right)),
        ),
        (start, bottom, panel, log_density, negative(loss), mirrored(left)),
    )


def _lowest(loss: Along, mu: float) -> float:
    """Where the loss is least: where the second posterior is half the first."""
    low, high = -_REACH, _REACH + 2.0 * mu
    share = 0.5 * (math.sqrt(5.0) - 1.0)
    grid = np.linspace(low, high, 4097)
    at = int(np.argmin(loss(grid)))
    low, high = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, 4096)])
    while high - low > 1e-9:
        a, b = high - share * (high - low), low + share * (high - low)
        at_a, at_b = loss(np.array([a, b]))
        if at_a < at_b:
            high = b
        else:
            low = a
    return 0.5 * (low + high)
