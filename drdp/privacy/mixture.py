"""The privacy loss of a mixture of Gaussians against one Gaussian.

In units of the noise's standard deviation the pair is sum_k w_k N(m_k, 1)
against N(0, 1), so L(x) = log sum_k w_k e^(m_k x - m_k^2 / 2): increasing and
convex in x, which gives the law and its inverse.

References: Charles et al., arXiv:2407.07737; Choquette-Choo et al.,
arXiv:2310.15526, Corollary 4.7 (vectors); Trefethen and Weideman, SIAM Review
56 (2014), Theorem 5.1 (the trapezoidal rule's error).
"""

from __future__ import annotations

import math

import numpy as np

from drdp.privacy.law import (
    REACH,
    Array,
    Direction,
    Law,
    Piece,
    panel_of,
    reversed_piece,
)
from drdp.privacy.releases import MixtureOfGaussians

__all__ = ["log_moment", "mixture_law", "most"]

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_NEWTON = 60
_EFFORT = 42.0  # e^-42 of relative error
_MOST_TERMS = 1 << 21


def most(atom: MixtureOfGaussians) -> float:
    """The largest shift in standard deviations."""
    return atom.sensitivities[-1] / atom.noise_multiplier


def mixture_law(atom: MixtureOfGaussians, direction: Direction) -> Law:
    """The law with the unit against without it, or the other way round."""
    shifts, weights = _columns(atom)
    top = float(shifts[-1])
    piece = Piece(
        -REACH,
        REACH + top,
        panel_of(top),
        lambda x: -0.5 * x * x - _LOG_SQRT_2PI,
        lambda x: _loss(x, shifts, weights),
        lambda loss: _position(loss, shifts, weights),
    )
    return Law((reversed_piece(piece) if direction is Direction.ADD else piece,))


def _columns(atom: MixtureOfGaussians) -> tuple[Array, Array]:
    shifts = np.array(atom.sensitivities) / atom.noise_multiplier
    return shifts, np.array(atom.probabilities)


def _loss(x: Array, shifts: Array, weights: Array) -> Array:
    """L(x), to full relative accuracy where it is small."""
    flat = np.ravel(x)
    loss = np.empty(flat.size)
    log_weights = np.log(weights)
    for part in _chunks(flat.size):
        exponents = np.multiply.outer(flat[part], shifts) - 0.5 * shifts * shifts
        with np.errstate(under="ignore"):
            surplus = np.expm1(np.minimum(exponents, 30.0)) @ weights
        total, _ = _log_sum(exponents + log_weights, shifts)
        close = (np.abs(surplus) < 0.5) & (exponents[:, -1] < 30.0)
        loss[part] = np.where(close, np.log1p(np.maximum(surplus, -0.9)), total)
    return loss.reshape(np.shape(x))


def _chunks(size: int) -> list[slice]:
    return [slice(at, at + (1 << 14)) for at in range(0, size, 1 << 14)]


def _log_sum(heights: Array, shifts: Array) -> tuple[Array, Array]:
    """log of the sum of e^heights, row by row, and its slope in x."""
    top = heights.max(axis=1)
    with np.errstate(under="ignore"):
        shares = np.exp(heights - top[:, None])
    total = shares.sum(axis=1)
    return top + np.log(total), (shares @ shifts) / total


def _position(loss: Array, shifts: Array, weights: Array) -> Array:
    """x(L), by Newton's method on the components that move, in log space.

    What they must sum to is e^L - w_0.  The log of their sum is convex and
    increasing, and each of them alone is no larger, so Newton's method starts
    above the root and falls onto it.
    """
    moving = shifts > 0.0
    still = float(weights[~moving].sum())
    m, log_w = shifts[moving], np.log(weights[moving])
    rest = math.fsum(weights[moving])
    flat = np.ravel(np.asarray(loss, dtype=np.float64))
    with np.errstate(over="ignore", divide="ignore", under="ignore"):
        small = np.log(np.maximum(np.expm1(np.minimum(flat, 30.0)) + rest, 0.0))
        large = flat + np.log1p(-still * np.exp(-np.maximum(flat, 0.0)))
    goal = np.where(flat < 30.0, small, large)
    found = np.full(flat.size, -np.inf)
    todo = np.flatnonzero(np.isfinite(goal))
    found[goal == np.inf] = np.inf
    for part in _chunks(todo.size):
        wanted = goal[todo[part]]
        x = ((wanted[:, None] - log_w) / m + 0.5 * m).min(axis=1)
        for _ in range(_NEWTON):
            heights = np.multiply.outer(x, m) - 0.5 * m * m + log_w
            value, slope = _log_sum(heights, m)
            step = (value - wanted) / slope
            x = x - step
            if np.all(np.abs(step) <= 3e-9 * (1.0 + np.abs(x))):
                break
        found[todo[part]] = x
    return found.reshape(np.shape(loss))


def log_moment(atom: MixtureOfGaussians, order: float) -> float:
    """The larger direction's log moment at an order above 1, rounded up.

    Each is a trapezoidal sum of f = phi e^(a L), analytic in a strip about the
    line.  For |Im x| <= d, |e^(aL)| is at most its value on the line for a > 0;
    for a < 0 and d = pi / (2 m), where no two terms' phases are further than
    pi/2 apart, at most 2^(-a/2) times that.  The relative error is thus below
    2 e^(d^2/2) 2^(max(-a, 0)/2) / (e^(2 pi d / h) - 1).
    """
    top = most(atom)
    bound = (
        0.5 * order * (order - 1.0) * top * top * (1.0 + 4e-15)
    )  # all shifts at their largest
    depth = min(0.5 * math.pi / top, 6.0)
    needed = _EFFORT + 0.5 * depth * depth + 0.35 * order
    step = 2.0 * math.pi * depth / needed
    if (order * top + 24.0) / step * len(atom.sensitivities) > _MOST_TERMS:
        return bound
    shifts, weights = _columns(atom)
    right = np.arange(-11.0, order * top + 11.0 + step, step)
    left = np.arange(-(order - 1.0) * top - 11.0, 11.0 + step, step)
    worst = 0.0
    for x, power in ((right, order), (left, 1.0 - order)):
        heights = power * _loss(x, shifts, weights) - 0.5 * x * x - _LOG_SQRT_2PI
        peak = float(heights.max())
        with np.errstate(under="ignore"):
            total = float(np.exp(heights - peak).sum())
        worst = max(worst, peak + math.log(total * step))
    return min(bound, worst + 1e-14 + 1e-13 * worst)
