"""The law of the privacy loss of each release: the one place to add one.

A release is represented by a dominating pair (P, Q); its privacy loss is
L = log dP/dQ.  `law_of` gives the law of an atom in one direction; what a law
is made of is in `law`, the laws of whole families in modules of their own.

References: Zhu, Dong and Wang, arXiv:2106.08567 (dominating pairs); Balle,
Barthe and Gaboardi, arXiv:1807.01647 (sampling without replacement).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from drdp.errors import UnsupportedEventError
from drdp.privacy._special import gaussian_log_delta
from drdp.privacy.events import (
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    PoissonSampled,
)
from drdp.privacy.lattice import table_of
from drdp.privacy.law import (
    REACH,
    Array,
    Direction,
    Law,
    Piece,
    amplified,
    panel_of,
    sampled,
)
from drdp.privacy.outside import DensityPair, DominatingPair
from drdp.privacy.releases import MixtureOfGaussians, advice, has_only_renyi
from drdp.privacy.sampling import FixedSizeZeroOut, RandomlyAllocated, Shuffled

__all__ = ["Direction", "Law", "Piece", "directions", "law_of", "log_profile"]

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_LOG_2 = math.log(2.0)


def directions(atom: Event, *, lower: bool) -> tuple[Direction, ...]:
    """The directions whose laws must be composed for this kind of atom."""
    match atom:
        case FixedSizeSampled():
            return (Direction.REMOVE, Direction.ADD) if lower else (Direction.EITHER,)
        case RandomlyAllocated() | FixedSizeZeroOut() | Shuffled():
            return (Direction.REMOVE, Direction.ADD)
        case PoissonSampled(adjacency=Adjacency.REPLACE_ONE):
            return (Direction.REMOVE,)
        case PoissonSampled() | MixtureOfGaussians() | DominatingPair() | DensityPair():
            return (Direction.REMOVE, Direction.ADD)
    return (Direction.REMOVE,)


def law_of(atom: Event, direction: Direction, *, lower: bool = False) -> Law:
    """The law of an atom's privacy loss in one direction.

    Exact for most atoms; for some there is a bound from above and another one
    from below, which `lower` asks for.

    Raises:
        UnsupportedEventError: For an atom without a known dominating pair.
    """
    match atom:
        case ApproxDP(epsilon=epsilon, delta=delta):
            return _approx_dp(epsilon, delta)
        case Gaussian() | Laplace():
            return _unsampled(atom)
        case PoissonSampled(
            rate=rate, event=Gaussian(noise_multiplier=z), adjacency=relation
        ) if relation is Adjacency.REPLACE_ONE:
            return Law((_replace_one(rate, 1.0 / z),))
        case PoissonSampled(rate=rate, event=Gaussian() | Laplace() as inner) if (
            atom.adjacency is not Adjacency.REPLACE_ONE
        ):
            return sampled(_unsampled(inner), rate, direction)
        case FixedSizeSampled(event=Gaussian() | Laplace() as inner):
            base = _unsampled(inner)
            if direction is not Direction.EITHER:
                return sampled(base, atom.rate, direction)
            return _either(base, atom.rate)
        case MixtureOfGaussians():
            from drdp.privacy.mixture import mixture_law

            return mixture_law(atom, direction)
        case DensityPair():
            from drdp.privacy.pairs import density_law

            return density_law(atom, direction)
        case RandomlyAllocated() | FixedSizeZeroOut() | Shuffled():
            return _tabulated(atom, direction, lower)
    if (table := table_of(atom, direction)) is not None:
        return table.law
    raise _unknown(atom)


def _unknown(atom: Event) -> UnsupportedEventError:
    hint = "describe it as ApproxDP(epsilon, delta), or add its law to"
    hint += " drdp/privacy/losses.py"
    if has_only_renyi(getattr(atom, "event", atom)):
        hint = advice(atom)
    return UnsupportedEventError(f"pld_curve has no privacy loss for {atom!r}; {hint}")


def _tabulated(atom: Event, direction: Direction, lower: bool) -> Law:
    """Laws that are computed as tables, or from below only."""
    from drdp.privacy.displaced import displaced
    from drdp.privacy.tabulated import points_of

    remove = direction is Direction.REMOVE
    match atom:
        case FixedSizeZeroOut(event=Gaussian(noise_multiplier=z)) if lower:
            return Law(tuple(Piece(*p) for p in displaced(atom.rate, z, remove=remove)))
    found = points_of(atom, remove=remove, lower=lower)
    if found is None:
        raise _unknown(atom)
    return Law((), np.stack(found[:2], axis=1), found[2])


def log_profile(atom: Event, direction: Direction) -> Callable[[float], float] | None:
    """log delta(epsilon) of one release in closed form, where there is one.

    For epsilon >= 0.  References: Balle and Wang, arXiv:1805.06530; Balle,
    Barthe and Gaboardi, arXiv:1807.01647, Theorem 2.
    """
    match atom:
        case Gaussian(noise_multiplier=z):
            return lambda epsilon: gaussian_log_delta(epsilon, 1.0 / z)
        case Laplace(noise_multiplier=z):
            return lambda epsilon: _laplace_log_delta(epsilon, z)
        case PoissonSampled(
            rate=rate, event=Gaussian() | Laplace() as inner, adjacency=relation
        ) if relation is not Adjacency.REPLACE_ONE:
            base = log_profile(inner, Direction.REMOVE)
            if base is None:
                return None
            if direction is Direction.REMOVE:
                return lambda epsilon: _remove_profile(base, rate, epsilon)
            return lambda epsilon: _add_profile(base, rate, epsilon)
    table = table_of(atom, direction)
    return None if table is None else table.log_delta


def _remove_profile(
    base: Callable[[float], float], rate: float, epsilon: float
) -> float:
    if epsilon > 36.0:
        shifted = epsilon - math.log(rate)
    else:
        shifted = math.log1p(math.expm1(epsilon) / rate)
    return math.log(rate) + base(shifted)


def _add_profile(base: Callable[[float], float], rate: float, epsilon: float) -> float:
    # 1 - (1 - q) e^eps, positive only inside the support of the loss
    inside = rate - (1.0 - rate) * math.expm1(epsilon) if epsilon < 700.0 else -1.0
    if inside <= 0.0:
        return -math.inf
    return math.log(inside) + base(math.log(rate) + epsilon - math.log(inside))


def _laplace_log_delta(epsilon: float, scale: float) -> float:
    gap = 0.5 * (1.0 / scale - epsilon)
    return math.log(-math.expm1(-gap)) if gap > 0.0 else -math.inf


def _unsampled(atom: Event) -> Law:
    match atom:
        case Gaussian(noise_multiplier=z):
            mu = 1.0 / z
            return Law(
                (
                    Piece(
                        -REACH,
                        REACH + mu,
                        panel_of(mu),
                        lambda x: -0.5 * x * x - _LOG_SQRT_2PI,
                        lambda x: mu * x - 0.5 * mu * mu,
                        lambda loss: loss / mu + 0.5 * mu,
                    ),
                )
            )
        case Laplace(noise_multiplier=z):
            most = 1.0 / z
            return Law(
                (
                    Piece(
                        -most,
                        most,
                        min(0.25, most / 8),
                        lambda x: -0.5 * (x + most) - math.log(4.0),
                        lambda x: x,
                        lambda loss: loss,
                    ),
                ),
                ((-most, -math.log(2.0)), (most, -most - math.log(2.0))),
            )
    raise AssertionError(atom)


def _approx_dp(epsilon: float, delta: float) -> Law:
    """The pair that dominates every (epsilon, delta)-DP mechanism.

    Kairouz, Oh and Viswanath, arXiv:1311.0776: randomised response plus a
    chance of delta that everything is revealed.
    """
    if delta == 1.0:
        return Law(infinite=1.0)
    rest = math.log1p(-delta)
    low = rest - math.log1p(math.exp(epsilon)) if epsilon < 700 else rest - epsilon
    high = rest - math.log1p(math.exp(-epsilon))
    return Law(points=((-epsilon, high), (epsilon, low)), infinite=delta)


def _either(base: Law, rate: float) -> Law:
    """One law above both directions of fixed-size sampling.

    Its profile is that of "remove" for epsilon >= 0 and that of "add" below;
    joint convexity makes it a bound, and being the profile of a pair it
    composes.  The kink at 0 is a point mass.
    """
    remove = sampled(base, rate, Direction.REMOVE)
    add = sampled(base, rate, Direction.ADD)
    upper = tuple(_cut(piece, above=True) for piece in remove.pieces)
    lower = tuple(_cut(piece, above=False) for piece in add.pieces)
    points = tuple(p for p in remove.points if p[0] > 0.0)
    points += tuple(p for p in add.points if p[0] < 0.0)
    # Q's mass at 0 is what makes the total 1: P and Q swap roles at 0, so the
    # masses above and below are mirror images and balance.
    above = _q_mass(upper) + sum(math.exp(m) for e, m in points if e > 0.0)
    below = _q_mass(lower) + sum(math.exp(m) for e, m in points if e < 0.0)
    at_zero = max(0.0, 1.0 - above - below)
    return Law(upper + lower, (*points, (0.0, math.log(max(at_zero, 1e-300)))))


def _cut(piece: Piece, *, above: bool) -> Piece:
    zero = float(piece.position(np.zeros(1))[0])
    start = max(piece.start, zero) if above else piece.start
    stop = piece.stop if above else min(piece.stop, zero)
    return Piece(
        start, stop, piece.panel, piece.log_density, piece.loss, piece.position
    )


def _q_mass(pieces: tuple[Piece, ...]) -> float:
    total = 0.0
    nodes, weights = np.polynomial.legendre.leggauss(8)
    for piece in pieces:
        count = max(1, math.ceil((piece.stop - piece.start) / piece.panel))
        edges = np.linspace(piece.start, piece.stop, count + 1)
        half = 0.5 * np.diff(edges)[:, None]
        x = edges[:-1, None] + half * (1.0 + nodes)
        total += float(np.sum(half * weights * np.exp(piece.log_density(x))))
    return total


def _replace_one(rate: float, mu: float) -> Piece:
    """(1-q) N(0, 1) + q N(mu, 1) against (1-q) N(0, 1) + q N(-mu, 1)."""
    half = 0.5 * mu * mu
    lift = math.log1p(-rate) - math.log(rate) - _LOG_2 + half

    def log_density(x: Array) -> Array:
        return -0.5 * x * x - _LOG_SQRT_2PI + amplified(-mu * x - half, rate)

    def loss(x: Array) -> Array:
        return amplified(mu * x - half, rate) - amplified(-mu * x - half, rate)

    def position(loss: Array) -> Array:
        # q c u^2 + (1-q)(1-a) u - a q c = 0 with u = e^(mu x), a = e^loss and
        # c = e^(-mu^2/2): x mu = loss/2 + asinh((1-q)(a-1) / (2 q c sqrt(a)))
        size = np.abs(loss)
        with np.errstate(divide="ignore", under="ignore"):
            high = np.log(-np.expm1(-size)) + 0.5 * size + lift
            bent = np.arcsinh(np.exp(np.minimum(high, 300.0)))
        x: Array = (0.5 * size + np.where(high < 300.0, bent, high + _LOG_2)) / mu
        return np.copysign(x, loss)

    reach = REACH + mu
    return Piece(-reach, reach, panel_of(mu), log_density, loss, position)
