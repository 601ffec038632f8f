"""What an Edgeworth expansion proves: its interval with the remainder bounded.

For a sum of independent, identically distributed losses the first-order
expansion is within an explicit distance of the truth, so delta lies in an
interval around it.  The distance is of order 1/sqrt(T) whatever epsilon is,
while delta is usually far smaller: the interval says nothing at small delta.

References: Derumigny, Girard and Guyonvarch, arXiv:2101.05780 (the distance);
Wang, Gao, Zhang, Shen and Su, arXiv:2206.04236 (the interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from drdp import _check
from drdp.errors import UnsupportedEventError
from drdp.privacy.cumulants import AbsoluteMoments, absolute_moments
from drdp.privacy.curves import Interval
from drdp.privacy.edgeworth import Expansion, Side, expansion_of
from drdp.privacy.events import Adjacency, Event, Gaussian, PoissonSampled, atoms
from drdp.privacy.losses import directions
from drdp.privacy.rdp import rdp_curve

__all__ = ["edgeworth_epsilon_interval", "edgeworth_interval", "expansion_error"]

_FREE = 0.1  # the free parameter of the theorem, in (0, 1/3)
_BERRY_ESSEEN = 0.4690  # Shevtsova, Informatics and Applications 7 (2013) 124-125
_SMOOTHING = 1.0253  # bounds 2 pi |t| |Psi(t)| of Prawitz's smoothing function
_FEWEST, _MOST = 3, 10**15  # summands of the theorem; beyond, powers overflow
_ROUNDING = 1e-10  # of moments, relative, and of normal laws, absolute


def edgeworth_interval(event: Event, epsilon: float) -> Interval:
    """An interval that contains the true delta, by a bounded expansion.

    Args:
        event: One release, a Gaussian or Poisson-sampled one under add/remove
            or zero-out adjacency, repeated: the theorem is for equal rounds.
        epsilon: At least 0.

    Returns:
        (lower, upper, method).

    Guarantees:
        delta lies between lower and upper.  The width is about twice
        D (1 + e^epsilon) with D = `expansion_error`, which is 0.02 after 10^5
        rounds at rate 0.01 and noise 0.8, and above 0.5 after EW-Tune's 3920
        rounds; where delta is below about 10^-3, the lower end is 0 and the
        upper one is that of `rdp_curve`, at every realistic number of rounds.
        Use ``pld.delta_interval`` for a useful one.

    Raises:
        UnsupportedEventError: For any other event.

    >>> run = PoissonSampled(0.001, Gaussian(2.0)) * 1_000_000
    >>> low, high, _ = edgeworth_interval(run, 0.0)
    >>> round(low, 5), round(high, 5)
    (0.20884, 0.21131)
    """
    epsilon = _check.at_least_zero(epsilon=epsilon)
    bounds = _bounds(event)
    by_rdp = rdp_curve(event).delta(epsilon)
    if bounds is None:
        return Interval(0.0, by_rdp, "rdp")
    upper, method = min((bounds.upper(epsilon), _NAME), (by_rdp, f"{_NAME} and rdp"))
    return Interval(min(bounds.lower(epsilon), upper), upper, method)


def edgeworth_epsilon_interval(event: Event, delta: float) -> Interval:
    """An interval that contains the true epsilon, by a bounded expansion.

    Args:
        event: As for `edgeworth_interval`.
        delta: Strictly between 0 and 1.

    Returns:
        (lower, upper, method); at small delta (0, that of `rdp_curve`, ...).

    Guarantees:
        As for `edgeworth_interval`; each end was tested.

    Raises:
        UnsupportedEventError: For any other event.

    >>> run = PoissonSampled(0.001, Gaussian(2.0)) * 1_000_000
    >>> low, high, _ = edgeworth_epsilon_interval(run, 0.12)
    >>> low < 0.2580 < high  # 0.25797 is certified by pld_curve
    True
    """
    delta = _check.probability(delta=delta)
    bounds = _bounds(event)
    by_rdp = rdp_curve(event).epsilon(delta)
    if bounds is None:
        return Interval(0.0, by_rdp, "rdp")
    lower = bounds.last(lambda epsilon: bounds.lower(epsilon) >= delta)
    first = bounds.first(lambda epsilon: bounds.upper(epsilon) <= delta)
    upper, method = min((first, _NAME), (by_rdp, f"{_NAME} and rdp"))
    return Interval(min(lower, upper), upper, method)


def expansion_error(moments: AbsoluteMoments, count: int) -> float:
    """How far the first-order expansion can be from a sum's distribution.

    Args:
        moments: Of one standardised summand.
        count: The number of independent, identically distributed summands.

    Returns:
        A bound on |F - F1|, uniform over the real line: Theorem 2.1 (equal
        summands, no continuity) of Derumigny, Girard and Guyonvarch.  Its
        term of higher order is the larger of the published one and of what its
        derivation gives, which matters at large kurtosis.

    Raises:
        InvalidArgumentError: For fewer than 3 summands.

    >>> third = 9**0.75  # the largest one that a kurtosis of 9 allows
    >>> moments = AbsoluteMoments(1.0, third, 9.0, 0.621 * third)
    >>> round(expansion_error(moments, 1000), 7)
    0.1626857
    """
    n = float(_check.count(least=_FEWEST, count=count))
    # Names as in the paper's appendix: its epsilon is e here, lambda_3 is s,
    # tilde K_3 is t; (1 - 3 e)^2 is `rest`.
    e, root = _FREE, math.sqrt(n)
    k4, s = moments.fourth, abs(moments.skewness)
    t = moments.third + moments.first
    rest = (1.0 - 3.0 * e) ** 2
    e_3 = math.exp(e**2 / 6.0 + e**2 / (2.0 * rest))
    polynomial = (
        48.0 * e * math.sqrt(k4 / n)
        + 4.0 * e**2 * k4 / n
        + 96.0 * math.sqrt(2.0 * e) * s / (k4 * n) ** 0.25
        + 32.0 * e * s**2 / math.sqrt(k4 * n)
        + 16.0 * math.sqrt(2.0) * k4**0.25 * s * e**1.5 / n**0.75
    ) / (576.0 * rest)
    log_e_2 = e**2 * (1.0 / 6.0 + 1.0 / (2.0 * rest) + 2.0 * polynomial)
    e_2 = math.exp(min(log_e_2, 700.0))
    main = 0.1995 * t / root
    main += (0.031 * t**2 + 0.327 * k4 * (1.0 / 12.0 + 1.0 / (4.0 * rest))) / n
    main += (0.054 * s * t + 0.037 * e_3 * s**2) / n
    most = 2.0 * root / t
    least = min(math.sqrt(2.0 * e) * (n / k4) ** 0.25, most)
    small = 81.2376 * t**4 / (16.0 * math.pi**4 * n**2)
    small += 4.3394 * s * t**3 / (8.0 * math.pi**3 * n**2)
    small += _integrated(k4, s, n, rest, polynomial, e_2)
    small += 1.306 * (e_2 - e_3) * s**2 / (36.0 * n)
    small += s * (_gamma(least) - _gamma(most)) / root
    ends = _gamma(least**2 / 8.0) - _gamma(most**2 / 8.0)
    small += _SMOOTHING * 2.0**2.5 * moments.third / (3.0 * math.pi * root) * ends
    return float(main + small)


_NAME = "edgeworth expansion with remainder"


class _Bounds(NamedTuple):
    """Bounds on delta: the expansion, and its error under Q and P per direction."""

    expansion: Expansion
    errors: tuple[tuple[float, float], ...]

    def upper(self, epsilon: float) -> float:
        """delta = P(L > eps) - e^eps Q(L > eps) is at most this; at most 1."""
        return min(
            1.0,
            max(
                p.survival(epsilon)
                + at_p
                - max(0.0, q.tilted_survival(epsilon) - _exp(epsilon) * at_q)
                for (q, p), (at_q, at_p) in self._pairs()
            ),
        )

    def lower(self, epsilon: float) -> float:
        """It is at least this; at least 0."""
        return max(
            0.0,
            *(
                p.survival(epsilon)
                - at_p
                - (q.tilted_survival(epsilon) + _exp(epsilon) * at_q)
                for (q, p), (at_q, at_p) in self._pairs()
            ),
        )

    def _pairs(self) -> list[tuple[tuple[Side, Side], tuple[float, float]]]:
        return list(zip(self.expansion.pairs, self.errors, strict=True))

    def first(self, holds: Callable[[float], bool]) -> float:
        """Nearly the smallest epsilon at which something holds; it was tested."""
        places = self.expansion.places
        if holds(places[0]):
            return places[0]
        for low, high in pairwise(places):
            if holds(high):
                return _narrowed(holds, low, high)[1]
        return math.inf

    def last(self, holds: Callable[[float], bool]) -> float:
        """Nearly the largest epsilon at which something holds, or 0."""
        for low, high in reversed(list(pairwise(self.expansion.places))):
            if holds(low):
                return _narrowed(lambda epsilon: not holds(epsilon), low, high)[0]
        return 0.0


def _narrowed(
    holds: Callable[[float], bool], low: float, high: float
) -> tuple[float, float]:
    """A narrow bracket of where `holds`, false at low, becomes true."""
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if holds(middle):
            high = middle
        else:
            low = middle
    return low, high


def _bounds(event: Event) -> _Bounds | None:
    """The expansion of equal rounds and its errors; None where there is none."""
    parts = list(atoms(event).items())
    if len(parts) != 1 or not _is_covered(parts[0][0]):
        raise UnsupportedEventError(
            "edgeworth_interval needs one Gaussian release, sampled or not, repeated;"
            f" got {' and '.join(repr(atom) for atom, _ in parts) or 'nothing'}; use"
            " pld.epsilon_interval or pld.delta_interval"
        )
    ((atom, times),) = parts
    expansion = expansion_of(event, 1)
    if isinstance(expansion, float):
        return None
    errors = []
    for way, pair in zip(directions(atom, lower=False), expansion.pairs, strict=True):
        found = absolute_moments(atom, way)
        if found is None:
            return None
        at_q, at_p = (
            _error(moments, times) * (1.0 + _ROUNDING)
            + _ROUNDING * (1.0 + abs(side.mean) / side.deviation)
            for moments, side in zip(found, pair, strict=True)
        )
        errors.append((at_q, at_p))
    return _Bounds(expansion, tuple(errors))


def _is_covered(atom: Event) -> bool:
    match atom:
        case Gaussian():
            return True
        case PoissonSampled(event=Gaussian(), adjacency=relation):
            return relation is not Adjacency.REPLACE_ONE
    return False


def _exp(epsilon: float) -> float:
    return math.exp(epsilon) if epsilon < 700.0 else math.inf


def _error(moments: AbsoluteMoments, count: int) -> float:
    """The lesser of `expansion_error` and the Berry-Esseen theorem.

    The latter bounds |F - Phi|; |F1 - Phi| is |skewness| / 6 phi(0) / sqrt(n)
    at most.
    """
    root = math.sqrt(count)
    plain = _BERRY_ESSEEN * moments.third / root
    plain += abs(moments.skewness) / (6.0 * math.sqrt(2.0 * math.pi) * root)
    if not _FEWEST <= count <= _MOST:
        return plain
    return min(plain, expansion_error(moments, count))


def _integrated(
    k4: float, s: float, n: float, rest: float, polynomial: float, e_2: float
) -> float:
    """The integral of what the characteristic function leaves over.

    With f(t / sqrt(n)) = 1 + U, n |U|^2 / (2 rest) is a sum of powers of t from
    4 to 8; the first belongs to the main term.  b t^4 / (2n) bounds the whole
    remainder r of n log(1 + U) = -t^2/2 + w + r, and |e^(w + r) - 1 - w| <=
    |r| + e_2 (|w|^2 + 2 |w r| + |r|^2) / 2.  `derived` integrates these powers
    against the smoothing function; the formula in print has others, with b
    where b^2 is due: it is larger at a kurtosis of 9, smaller at one of 1000.
    """
    b = k4 / 12.0 + 1.0 / (4.0 * rest) + polynomial
    linear = (
        s / (6.0 * n**1.5) / (2.0 * rest),
        k4 / (24.0 * n**2) / (2.0 * rest),
        s**2 / (36.0 * n**2) / (2.0 * rest),
        k4 * s / (72.0 * n**2.5) / (2.0 * rest),
        k4**2 / (576.0 * n**3) / (2.0 * rest),
    )
    mixed = e_2 * s * b / (12.0 * n**1.5)
    square = e_2 * b / (8.0 * n**2)
    derived = _integral((*linear, mixed, square * b), (1.5, 2, 2, 2.5, 3, 2.5, 3))
    printed = _integral((*linear, mixed, square), (0.5, 3, 3, 3.5, 4, 3.5, 4))
    return _SMOOTHING / math.pi * max(derived, printed)


def _integral(terms: tuple[float, ...], halves: tuple[float, ...]) -> float:
    """Each term times half the integral of |t|^(2h + 1) e^(-t^2/2)."""
    return math.fsum(
        term * 2.0**half * math.gamma(half + 1.0)
        for term, half in zip(terms, halves, strict=True)
    )


def _gamma(x: float) -> float:
    """The upper incomplete gamma function of order 3/2."""
    root = math.sqrt(x)
    return root * math.exp(-x) + 0.5 * math.sqrt(math.pi) * math.erfc(root)
