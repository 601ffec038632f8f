"""The cumulants and absolute moments of a release's privacy loss.

Both are integrals over the loss's law, taken under either neighbour by
Gauss-Legendre panels.  Cumulants add under composition, which is all that the
Edgeworth accountant knows about a run.

The mean is the one cumulant that is a small difference of large terms: with
E_Q[e^L] = 1 it is -E_Q[e^L - 1 - L], whose integrand has one sign.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drdp.privacy.events import Event, Gaussian
from drdp.privacy.losses import Direction, Law, law_of

__all__ = ["AbsoluteMoments", "Cumulants", "absolute_moments", "loss_cumulants"]

Array = NDArray[np.float64]

_MOST_PANELS = 50_000
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_SMALL = 0.05


class Cumulants(NamedTuple):
    """The first five cumulants of one random variable."""

    mean: float
    variance: float
    third: float
    fourth: float
    fifth: float


class AbsoluteMoments(NamedTuple):
    """Moments of a variable that is standardised to mean 0 and variance 1."""

    first: float  # E|X|
    third: float  # E|X|^3
    fourth: float  # E X^4
    skewness: float  # E X^3


@lru_cache(maxsize=1024)
def loss_cumulants(
    atom: Event, direction: Direction
) -> tuple[Cumulants, Cumulants] | None:
    """The cumulants of the loss under Q and under P.

    Args:
        atom: One release, as `atoms` gives it.
        direction: Which neighbour is P.

    Returns:
        Cumulants under Q, then under P, to about twelve digits; None where the
        loss is infinite with some probability, or so large that its moments
        are beyond quadrature (noise below about 1/80 of the sensitivity).

    Raises:
        UnsupportedEventError: For an atom without a known dominating pair.

    References:
        Wang, Gao, Zhang, Shen and Su, arXiv:2206.04236, Section 3.

    >>> from drdp.privacy.events import PoissonSampled
    >>> atom = PoissonSampled(0.01, Gaussian(1.0))
    >>> under_q, under_p = loss_cumulants(atom, Direction.REMOVE)
    >>> f"{under_q.mean:.7e} {under_p.variance:.7e}"
    '-8.1889769e-05 1.7163051e-04'
    """
    if isinstance(atom, Gaussian):
        half = 0.5 / atom.noise_multiplier / atom.noise_multiplier
        if half == math.inf:
            return None
        return (
            Cumulants(-half, 2.0 * half, 0.0, 0.0, 0.0),
            Cumulants(half, 2.0 * half, 0.0, 0.0, 0.0),
        )
    law = law_of(atom, direction)
    if law.infinite > 0.0 or _panels(law) > _MOST_PANELS:
        return None
    loss, log_q = _nodes(law)
    q, p = np.exp(log_q), np.exp(log_q + loss)
    return _cumulants(loss, q, _mean_under_q(loss, q, p)), _cumulants(
        loss, p, -_mean_under_q(-loss, p, q)
    )


def absolute_moments(
    atom: Event, direction: Direction
) -> tuple[AbsoluteMoments, AbsoluteMoments] | None:
    """Standardised moments of the loss under Q and under P.

    The panels are split at the mean, where |L - mean| has its kink.

    Returns:
        Moments under Q, then under P; None where `loss_cumulants` has none or
        where the loss is constant.
    """
    found = loss_cumulants(atom, direction)
    if found is None or min(one.variance for one in found) <= 0.0:
        return None
    law = law_of(atom, direction)
    if _panels(law) > _MOST_PANELS:
        return None
    answers = []
    for one, under_p in zip(found, (False, True), strict=True):
        loss, log_mass = _nodes(law, one.mean)
        mass = np.exp(log_mass + loss) if under_p else np.exp(log_mass)
        x = (loss - one.mean) / math.sqrt(one.variance)
        size = np.abs(x)
        answers.append(
            AbsoluteMoments(
                float(mass @ size),
                float(mass @ size**3),
                float(mass @ size**4),
                float(mass @ x**3),
            )
        )
    return answers[0], answers[1]


def _panels(law: Law) -> float:
    return sum((piece.stop - piece.start) / piece.panel for piece in law.pieces)


def _nodes(law: Law, cut: float | None = None) -> tuple[Array, Array]:
    """Losses and the logs of Q's masses there, panels ending at the loss `cut`."""
    losses, log_masses = [], []
    for piece in law.pieces:
        ends = [piece.start, piece.stop]
        if cut is not None:
            kink = float(piece.position(np.array([cut]))[0])
            if piece.start < kink < piece.stop:
                ends.insert(1, kink)
        for start, stop in pairwise(ends):
            count = max(1, math.ceil((stop - start) / piece.panel))
            edges = np.linspace(start, stop, count + 1)
            half = 0.5 * np.diff(edges)[:, None]
            x = (edges[:-1, None] + half * (1.0 + _NODES)).ravel()
            losses.append(piece.loss(x))
            log_masses.append(np.log(half * _WEIGHTS).ravel() + piece.log_density(x))
    for loss, log_mass in law.points:
        losses.append(np.array([loss]))
        log_masses.append(np.array([log_mass]))
    return np.concatenate(losses), np.concatenate(log_masses)


def _mean_under_q(loss: Array, q: Array, p: Array) -> float:
    """E_Q[L] = -E_Q[e^L - 1 - L]; with -L and p, q swapped, -E_P[L]."""
    near = np.minimum(loss, 1.0)
    series = np.zeros_like(near)
    for k in range(9, 1, -1):
        series = (series * near + 1.0) / k  # (1 + x/3 (1 + x/4 (...))) / 2
    excess = np.where(
        np.abs(near) < _SMALL, near * near * series, np.expm1(near) - near
    )
    return -float(np.sum(np.where(loss < 1.0, q * excess, p - q - q * loss)))


def _cumulants(loss: Array, mass: Array, mean: float) -> Cumulants:
    gap = loss - mean
    square = gap * gap
    second = float(mass @ square)
    third = float(mass @ (square * gap))
    fourth = float(mass @ (square * square))
    fifth = float(mass @ (square * square * gap))
    return Cumulants(
        mean,
        second,
        third,
        fourth - 3.0 * second * second,
        fifth - 10.0 * third * second,
    )
