"""Laws of privacy loss that are tables of point masses, and one release's answer.

Each table comes in two versions: no lower than the true law in the order that
composition keeps, and no higher.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drdp.privacy.adjacency import Adjacency
from drdp.privacy.allocation import allocation_points
from drdp.privacy.curves import Interval
from drdp.privacy.events import Event, Gaussian
from drdp.privacy.sampling import RandomlyAllocated, Shuffled
from drdp.privacy.statistic import maximum_points

__all__ = ["Points", "points_of", "table_interval"]

Array = NDArray[np.float64]
Points = tuple[Array, Array, float]

_ROUNDING = 1e-11  # relative, of a sum of positive terms


def points_of(atom: Event, *, remove: bool, lower: bool) -> Points | None:
    """Losses, logs of Q's masses, and P's mass at infinity; None without a table."""
    match atom:
        case RandomlyAllocated(
            rounds=rounds, event=Gaussian(noise_multiplier=z), participations=1
        ):
            return allocation_points(rounds, z, remove=remove, lower=lower)
        case Shuffled(
            rounds=rounds, event=Gaussian(noise_multiplier=z), adjacency=relation
        ) if lower:
            replaced = relation is Adjacency.REPLACE_ONE
            return maximum_points(rounds, z, replaced=replaced, remove=remove)
    return None


def table_interval(
    atom: Event, question: Literal["epsilon", "delta"], given: float, *, upper: bool
) -> Interval | None:
    """The answer about a single release straight from its tables.

    Args:
        atom: The only release.
        question: What is asked; the other of the two is `given`.
        given: delta for ``"epsilon"``, epsilon for ``"delta"``.
        upper: Whether the upper end is wanted; without, only the lower one.
    """
    lows = [points_of(atom, remove=remove, lower=True) for remove in (True, False)]
    highs = lows
    if upper:
        highs = [points_of(atom, remove=way, lower=False) for way in (True, False)]
    below = [points for points in lows if points is not None]
    above = [points for points in highs if points is not None]
    if len(below) < 2 or len(above) < 2:
        return None
    method = f"a table of {above[0][0].size} losses"
    worst = math.inf if question == "epsilon" else 1.0
    if question == "delta":
        low = max(_delta(points, given) for points in below) * (1.0 - _ROUNDING)
        high = max(_delta(points, given) for points in above) * (1.0 + _ROUNDING)
        return Interval(low, min(1.0, high) if upper else worst, method)
    low = max(_epsilon(points, given * (1.0 + _ROUNDING))[0] for points in below)
    high = max(_epsilon(points, given * (1.0 - _ROUNDING))[1] for points in above)
    return Interval(min(low, high), high if upper else worst, method)


def _delta(points: Points, epsilon: float) -> float:
    loss, log_mass, infinite = points
    beyond = loss > epsilon
    height = log_mass[beyond] + loss[beyond]
    gain = -np.expm1(epsilon - loss[beyond])
    return infinite + float(np.exp(height) @ gain)


def _epsilon(points: Points, delta: float) -> tuple[float, float]:
    """Two epsilons a hair apart, the larger of which is known to suffice."""
    if points[2] >= delta:
        return math.inf, math.inf
    if _delta(points, 0.0) <= delta:
        return 0.0, 0.0
    low, high = 0.0, float(points[0].max())
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if _delta(points, middle) <= delta:
            high = middle
        else:
            low = middle
    return low, high
