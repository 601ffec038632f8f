"""What an adversary surely learns from shuffled batches: a law from below.

A statistic of what was released, cut into bins, is a post-processing, and so
its privacy loss bounds the true one from below; composed, it still does.  The
statistic is the largest sum of a batch (Chua et al., arXiv:2403.17673), and the
data sets are those whose other members all send -C x against the one that is
protected, which sends C x: with it a batch is 2C away from the others, and C
away where it sends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["maximum_points"]

Array = NDArray[np.float64]
Points = tuple[Array, Array, float]
LogDensity = Callable[[Array], Array]

_BINS = 1 << 14
_REACH = 37.0
_SLACK = 1e-11  # relative, of masses and losses: what quadrature and exp lose
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


def maximum_points(
    rounds: int, noise: float, *, replaced: bool, remove: bool
) -> Points:
    """A lower law for shuffled batches: the largest of their sums.

    In units of C every sum is N(0, z^2) but that of the unit's batch, which is
    N(2, z^2), and N(1, z^2) where it sends nothing.  Where it is replaced by
    one that sends -C x as well, all of them are N(0, z^2).

    Args:
        rounds: Batches in the epoch.
        noise: Noise multiplier per clip norm, z.
        replaced: Whether the unit is replaced rather than zeroed out.
        remove: Whether P is the one with the larger sum.
    """
    from scipy.special import log_ndtr

    mu = 1.0 / noise

    def maximum(shift: float) -> LogDensity:
        def log_density(x: Array) -> Array:
            others, own = log_ndtr(x), log_ndtr(x - shift)
            is_own = _log_normal(x - shift) + (rounds - 1) * others
            rest = math.log(rounds - 1) + (rounds - 2) * others
            return np.asarray(np.logaddexp(is_own, rest + _log_normal(x) + own))

        return log_density

    one, two = maximum(2.0 * mu), maximum(0.0 if replaced else mu)
    return _binned(*((one, two) if remove else (two, one)), -_REACH, _REACH + 2.0 * mu)


def _log_normal(x: Array) -> Array:
    return -0.5 * x * x - _LOG_SQRT_2PI


def _binned(log_p: LogDensity, log_q: LogDensity, start: float, stop: float) -> Points:
    """Losses and log masses of bins between two ends, rounded down."""
    edges = np.linspace(start, stop, _BINS + 1)
    half = 0.5 * (edges[1] - edges[0])
    x = edges[:-1, None] + half * (1.0 + _NODES)
    with np.errstate(under="ignore"):
        p = (half * np.exp(log_p(x))) @ _WEIGHTS
        q = (half * np.exp(log_q(x))) @ _WEIGHTS
    kept = (p > 1e-280) & (q > 1e-280)
    log_p_mass, log_q_mass = np.log(p[kept]), np.log(q[kept])
    return log_p_mass - log_q_mass - _SLACK, log_q_mass - _SLACK, 0.0
