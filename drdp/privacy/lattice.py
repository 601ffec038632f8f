"""Privacy losses with finitely many or lattice values, as tables.

A `Table` holds a dominating pair outcome by outcome.  Sampling, turning the
pair round, the profile and the Renyi divergence are sums over its outcomes, so
none of them approximates anything.

For noise on the integers with a log-concave law, the pair of the noise and its
shift by D dominates every shift d <= D: the likelihood ratio is monotone, so
the best tests are thresholds, and a larger shift passes a threshold more often
(Neyman and Pearson).  By reflection it is the same pair in both directions.

References: Zhu, Dong and Wang, arXiv:2106.08567, Theorem 11 (sampling);
Canonne, Kamath and Steinke, arXiv:2004.00010 (discrete Gaussian); Agarwal,
Kairouz and Liu, arXiv:2110.04995 (Skellam); Kairouz, Oh and Viswanath,
arXiv:1407.1338 (randomised response).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np

from drdp.errors import UnsupportedEventError
from drdp.privacy.events import Adjacency, Event, PoissonSampled
from drdp.privacy.law import REACH, Array, Direction, Law, amplified
from drdp.privacy.outside import DominatingPair
from drdp.privacy.releases import DiscreteGaussian, RandomisedResponse, Skellam

__all__ = ["Table", "table_of"]

_MOST = 1 << 20  # outcomes of one table
_DEEPEST = -745.0  # log of the least positive number
_ROUNDING = 4e-16  # of one probability of a sum


@final
@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A pair (P, Q), by the outcomes that both have.

    Args:
        losses: log P/Q of each of them.
        log_mass: log Q of each of them.
        only_p: What P gives to outcomes that Q never has.
        only_q: What Q gives to outcomes that P never has.
        endless: Whether outcomes at both ends, less likely than the smallest
            number, were left out.
    """

    losses: Array
    log_mass: Array
    only_p: float = 0.0
    only_q: float = 0.0
    endless: bool = False

    def reversed(self) -> Table:
        """The pair (Q, P)."""
        return Table(
            -self.losses,
            self.log_mass + self.losses,
            self.only_q,
            self.only_p,
            self.endless,
        )

    def sampled(self, rate: float, direction: Direction) -> Table:
        """The pair after Poisson sampling: the mixture (1 - q) Q + q P against Q.

        In the other direction it is Q against the mixture.  What only Q had is
        left to both, at a loss of log(1 - q).
        """
        losses, log_mass = amplified(self.losses, rate), self.log_mass
        if self.only_q > 0.0:
            losses = np.append(losses, math.log1p(-rate))
            log_mass = np.append(log_mass, math.log(self.only_q))
        found = Table(losses, log_mass, rate * self.only_p, 0.0, self.endless)
        return found if direction is Direction.REMOVE else found.reversed()

    @property
    def law(self) -> Law:
        """The same as a law of the privacy loss under Q."""
        return Law(
            points=np.stack((self.losses, self.log_mass), axis=1), infinite=self.only_p
        )

    def log_delta(self, epsilon: float) -> float:
        """log of the hockey-stick divergence: the sum of (P - e^epsilon Q)_+."""
        above = self.losses > epsilon
        gap, log_mass = self.losses[above] - epsilon, self.log_mass[above]
        with np.errstate(under="ignore", over="ignore"):
            small = np.exp(log_mass + epsilon) * np.expm1(np.minimum(gap, 1.0))
            large = np.exp(log_mass + self.losses[above]) * -np.expm1(-gap)
        total = float(np.where(gap < 1.0, small, large).sum()) + self.only_p
        return math.log(total) if total > 0.0 else -math.inf

    def log_moment(self, order: float) -> float:
        """log E_Q[(P/Q)^order] where nothing is revealed, rounded up.

        P is then given that the outcome is one Q has too.  Infinite where
        outcomes that were left out could matter.
        """
        if self.losses.size == 0:
            return 0.0
        heights = self.log_mass + order * self.losses
        top = float(heights.max())
        ends = max(heights[self.losses.argmin()], heights[self.losses.argmax()])
        if self.endless and ends > top - 60.0:
            return math.inf
        with np.errstate(under="ignore"):
            value = top + math.log(float(np.exp(heights - top).sum()))
        value -= order * math.log1p(-self.only_p)
        return value + 1e-14 + 1e-13 * abs(value)


def table_of(atom: Event, direction: Direction) -> Table | None:
    """The table of a release in one direction; None where it has none."""
    match atom:
        case DiscreteGaussian(dimension=1) | Skellam(dimension=1):
            return _plain(atom)
        case RandomisedResponse():
            return _plain(atom)
        case DominatingPair():
            table = _plain(atom)
            # EITHER is asked under replace-one, where the promise is mutual
            return table.reversed() if direction is Direction.ADD else table
        case PoissonSampled(rate=rate, event=inner) if (
            atom.adjacency is not Adjacency.REPLACE_ONE
            and not isinstance(inner, PoissonSampled)
        ):
            base = table_of(inner, Direction.REMOVE)
            return None if base is None else base.sampled(rate, direction)
    return None


@lru_cache(maxsize=16)
def _plain(atom: Event) -> Table:
    match atom:
        case DiscreteGaussian():
            return _discrete_gaussian(atom)
        case Skellam():
            return _skellam(atom)
        case RandomisedResponse(epsilon=epsilon, categories=categories):
            return _randomised_response(epsilon, categories)
        case DominatingPair():
            return _written(atom)
    raise TypeError(f"no table for {atom!r}")


def _discrete_gaussian(atom: DiscreteGaussian) -> Table:
    """N_Z(D, s^2) against N_Z(0, s^2): L(x) = D (2 x - D) / (2 s^2)."""
    s, shift = atom.scale, atom.sensitivity
    reach = math.ceil(REACH * s) + int(shift)
    _limit(atom, 2 * reach)
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    heights = -0.5 * (x / s) ** 2
    with np.errstate(under="ignore"):
        total = float(np.exp(heights).sum())
    losses = shift / s * ((x - 0.5 * shift) / s)
    return Table(losses, heights - math.log(total), endless=True)


def _skellam(atom: Skellam) -> Table:
    """Skellam noise of variance mu, probabilities e^-mu I_|k|(mu), and its shift.

    Ratios I_(k+1) / I_k come from their recurrence run backwards, where every
    term is positive, so they are right to the last digits.
    """
    mu, shift = atom.variance, int(atom.sensitivity)
    # beyond, the probability underflows: a Gaussian's or a Poisson's tail
    most = math.ceil(40.0 * math.sqrt(mu)) + 360 + 2 * shift
    _limit(atom, 2 * most)
    ratios = np.empty(most)
    ratio = 0.0
    for k in range(most, 0, -1):
        ratio = 1.0 / (2.0 * k / mu + ratio)
        ratios[k - 1] = ratio
    log_ratios = np.log(ratios)
    sums = np.cumsum(log_ratios, dtype=np.longdouble).astype(np.float64)
    half = np.concatenate(([0.0], sums))
    with np.errstate(under="ignore"):
        total = 1.0 + 2.0 * float(np.exp(half[1:]).sum())
    half -= math.log(total)
    x = np.arange(-most + shift, most + 1)
    # log I_|x - D| - log I_|x|, one step at a time so that nothing cancels
    losses = np.zeros(x.size)
    for step in range(shift):
        here = x - step
        losses += np.where(
            here > 0, -log_ratios[here - 1], log_ratios[np.minimum(-here, most - 1)]
        )
    return Table(losses, half[np.abs(x)], endless=True)


def _randomised_response(epsilon: float, categories: int) -> Table:
    """Two inputs: the outputs that are true for one, for the other, for neither."""
    others = float(categories - 1)
    log_normal = epsilon + math.log1p(others * math.exp(-epsilon))
    losses, logs = [-epsilon, epsilon], [epsilon - log_normal, -log_normal]
    if categories > 2:
        losses.append(0.0)
        logs.append(math.log(others - 1.0) - log_normal)
    return Table(np.array(losses), np.array(logs))


def _written(atom: DominatingPair) -> Table:
    p, q = np.array(atom.p), np.array(atom.q)
    both = (p > 0.0) & (q > 0.0)
    near = np.abs(p - q) < 0.5 * q
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        # the difference of close numbers is exact, and so is their loss
        losses = np.where(near, np.log1p((p - q) / q), np.log(p) - np.log(q))
    only_p = math.fsum(p[~both]) + _lack(atom.p)
    only_q = math.fsum(q[~both]) + _lack(atom.q)
    return Table(losses[both], np.log(q[both]), only_p, only_q)


def _lack(values: tuple[float, ...]) -> float:
    lack = 1.0 - math.fsum(values)
    return lack if lack > _ROUNDING * len(values) else 0.0


def _limit(atom: Event, size: int) -> None:
    if size > _MOST:
        raise UnsupportedEventError(
            f"pld_curve has no table of {size} outcomes for {atom!r}; use rdp_curve,"
            " whose bound is near the truth for such wide noise"
        )
