"""Renyi divergences of the releases in `releases` and `outside`.

References: Canonne, Kamath and Steinke, arXiv:2004.00010 (discrete Gaussian);
Agarwal, Kairouz and Liu, arXiv:2110.04995 (Skellam); Bun and Steinke,
arXiv:1605.02065 (zCDP).
"""

from __future__ import annotations

import math

from drdp.privacy.events import Event, PoissonSampled
from drdp.privacy.law import Direction
from drdp.privacy.outside import DensityPair
from drdp.privacy.releases import (
    DiscreteGaussian,
    MixtureOfGaussians,
    Skellam,
    ZeroConcentrated,
)

__all__ = ["log_moment", "revealed"]

_ROUND_UP = 1.0 + 4e-15  # more than these closed forms lose
_BOTH = (Direction.REMOVE, Direction.ADD)


def log_moment(atom: Event, order: float) -> float | None:
    """(order - 1) times the divergence, the larger direction; None if unknown.

    Of what is left where the release may reveal everything (see `revealed`).
    """
    match atom:
        case ZeroConcentrated(rho=rho):
            return order * (order - 1.0) * rho * _ROUND_UP
        case DiscreteGaussian(noise_multiplier=z, sensitivity=far, dimension=size):
            bound = 0.5 * order * (order - 1.0) * (1.0 / z) * (1.0 / z) * _ROUND_UP
            return bound + (_theta(order * far, z * far) if size == 1 else 0.0)
        case Skellam():
            bound = _skellam(atom, order)
            return bound if atom.dimension > 1 else min(bound, _table(atom, order))
        case MixtureOfGaussians():
            from drdp.privacy import mixture

            return mixture.log_moment(atom, order)
        case DensityPair():
            from drdp.privacy import pairs

            return pairs.log_moment(atom, order)
        case PoissonSampled(event=inner):
            found = _table(atom, order)
            # sampling never costs more than none
            if found == math.inf and (plain := log_moment(inner, order)) is not None:
                return plain
            return None if math.isnan(found) else found
    found = _table(atom, order)
    return None if math.isnan(found) else found


def revealed(atom: Event) -> float:
    """The chance that a release reveals everything, in the worse direction."""
    if isinstance(atom, DensityPair):
        from drdp.privacy import pairs

        return pairs.revealed(atom)
    from drdp.privacy.lattice import table_of

    tables = [table_of(atom, way) for way in _BOTH]
    return max((table.only_p for table in tables if table is not None), default=0.0)


def _table(atom: Event, order: float) -> float:
    """By the sum over all outcomes; nan where there is no table."""
    from drdp.privacy.lattice import table_of

    worst = -math.inf
    for way in _BOTH:
        table = table_of(atom, way)
        if table is None:
            return math.nan
        worst = max(worst, table.log_moment(order))
    return worst


def _theta(centre: float, scale: float) -> float:
    """log of a ratio of two sums over the integers, at most 0, rounded up.

    sum_x e^(-(x - c)^2 / (2 s^2)) over that at c = 0: P^a Q^(1-a) is a discrete
    Gaussian about c = a D times the Gaussian's own moment.
    """
    if scale > 3.0:  # 1 - O(e^(-2 pi^2 s^2))
        return 0.0
    off = abs(centre - round(centre))
    if off < 1e-9:
        return 0.0
    reach = math.ceil(40.0 * scale) + 1

    def log_sum(shift: float) -> float:
        heights = [-0.5 * ((x - shift) / scale) ** 2 for x in range(-reach, reach + 1)]
        top = max(heights)
        return top + math.log(math.fsum(math.exp(h - top) for h in heights))

    found = log_sum(off) - log_sum(0.0)
    # centre itself is known to a unit in its last place
    return min(0.0, found + 1e-14 + 4e-16 * abs(centre) / scale**2)


def _skellam(atom: Skellam, order: float) -> float:
    """The bound of Agarwal, Kairouz and Liu at whole orders; chords between them.

    The log moment is convex in the order and 0 at order 1.
    """
    below = math.floor(order)
    share = order - below
    left = _skellam_whole(atom, below)
    if share == 0.0:
        return left
    return (1.0 - share) * left + share * _skellam_whole(atom, below + 1)


def _skellam_whole(atom: Skellam, order: int) -> float:
    if order == 1:
        return 0.0
    mu, square = atom.variance, atom.sensitivity**2
    one = atom.l1_sensitivity or 0.0
    wide = ((2 * order - 1) * square + 6.0 * one) / (4.0 * mu) / mu
    extra = min(wide, 1.5 * one / mu)
    return (order - 1) * (0.5 * order * square / mu + extra) * _ROUND_UP
