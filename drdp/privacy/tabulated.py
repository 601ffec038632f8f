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
    atom: Event,
    question: Literal["epsilon", "delta"],
    given: float,
    side: Literal["upper", "lower", "both"],
) -> Interval | None:
    """The answer about a single release straight from its tables.

    Args:
        atom: The only release.
        question: What is asked; the other of the two is `given`.
        given: delta for ``"epsilon"``, epsilon for ``"delta"``.
        side: Which ends are wanted; one that is not is left trivial.
    """
    low, high, size = 0.0, math.inf if question == "epsilon" else 1.0, 0
    for lower in (True, False):
        if side == ("upper" if lower else "lower"):
            continue
        found = [points_of(atom, remove=way, lower=lower) for way in (True, False)]
        tables = [points for points in found if points is not None]
        if len(tables) < 2:
            return None
        size = tables[0][0].size
        slack = -_ROUNDING if lower else _ROUNDING
        if question == "delta":
            answer = max(_delta(table, given) for table in tables) * (1.0 + slack)
        else:
            ends = [_epsilon(table, given * (1.0 - slack)) for table in tables]
            answer = max(end[0] if lower else end[1] for end in ends)
        if lower:
            low = answer
        else:
            high = min(answer, high)
    return Interval(min(low, high), high, f"a table of {size} losses")


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
