"""The Edgeworth accountant: the central limit theorem with corrections.

The privacy loss of a run is a sum of independent losses, so its cumulants add;
an Edgeworth expansion turns their sums into an approximate distribution, and
that into delta = P(L > eps) - e^eps Q(L > eps).  It is an estimate, not a
bound: for few steps or small delta it errs by a lot, in either direction, and
it need not even be monotone.

References: Wang, Gao, Zhang, Shen and Su, arXiv:2206.04236 (the accountant);
Behnia, Ebrahimi, Pacheco and Padmanabhan, arXiv:2210.15042 (EW-Tune).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple, final

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy._special import mills_ratio, normal_cdf
from drdp.privacy.cumulants import Cumulants, loss_cumulants
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import Event, NonPrivate, atoms
from drdp.privacy.losses import Direction, directions, law_of
from drdp.privacy.releases import advice

__all__ = [
    "EdgeworthEstimate",
    "Expansion",
    "Side",
    "Way",
    "edgeworth_curve",
    "edgeworth_estimate",
    "expansion_of",
]

Way = Literal["worse", "remove", "add"]

_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)
_LEAST_EXPONENT, _LARGEST_EXPONENT = -745.0, 700.0
# Where features are looked for, in standard deviations around a centre: finely
# where the polynomials change sign, coarsely where only a tail is left.
_NEAR, _FAR = 8.0, 64
_FINELY = tuple(k / 8 for k in range(-64, 64))
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_HIGHEST = 3
_LEAST_DEVIATION = 1e-50  # a loss that varies less than this is no loss
_NOISE = 1e-12  # relative, of differences that rounding could have made


class EdgeworthEstimate(NamedTuple):
    """An estimated epsilon, and every solution that the expansion offers.

    Args:
        epsilon: The largest root; 0 where the expansion stays below delta.
        roots: All solutions of delta(epsilon) = delta, in increasing order.
    """

    epsilon: float
    roots: tuple[float, ...]

    @property
    def multiple_roots(self) -> bool:
        """Whether the expansion is so far off that its answer is ambiguous."""
        return len(self.roots) > 1


def edgeworth_curve(
    event: Event, *, order: int = 2, direction: Way = "worse"
) -> PrivacyCurve:
    """The privacy curve as an Edgeworth expansion has it.

    The expansion itself can rise with epsilon, or be negative.  The curve is
    its least non-increasing majorant within [0, 1], so that its epsilon(delta)
    is the largest root; `edgeworth_estimate` shows whether there are others.

    Args:
        event: Any composition of releases whose privacy loss has moments:
            Gaussian, Laplace, Poisson-sampled ones, ApproxDP with delta 0.
        order: 1, 2 or 3: how many correction terms, in powers of 1/sqrt(T).
        direction: Whether the extra unit is in the data of P (``"remove"``), in
            that of Q (``"add"``), or whichever is worse.  The published
            accountant and EW-Tune look at ``"remove"`` alone.

    Returns:
        A curve with ``bound == "estimate"``; infinite where the moments are
        out of reach, which is where a sampled release has noise below 1/80.

    Guarantees:
        None, except that every order is exact up to rounding for unsampled
        Gaussians.

    Raises:
        InvalidArgumentError: If the order is not 1, 2 or 3.
        UnsupportedEventError: For a release without such moments.

    >>> from drdp.privacy.events import Gaussian, PoissonSampled
    >>> run = PoissonSampled(0.01, Gaussian(4.0)) * 10_000
    >>> curve = edgeworth_curve(run, order=3)
    >>> curve.bound, f"{curve.delta(1.0):.6e}"
    ('estimate', '4.243493e-06')
    """
    found = expansion_of(event, order, direction)
    if isinstance(found, float):
        infinite = found == math.inf
        return PrivacyCurve(
            lambda _: 1.0 if infinite else 0.0,
            "estimate",
            lambda _: math.inf if infinite else 0.0,
        )
    return PrivacyCurve(
        found.majorant, "estimate", lambda delta: found.estimate(delta).epsilon
    )


def edgeworth_estimate(
    event: Event, delta: float, *, order: int = 2, direction: Way = "worse"
) -> EdgeworthEstimate:
    """The epsilon that an Edgeworth expansion gives for `delta`, and its rivals.

    Args:
        event: As for `edgeworth_curve`.
        delta: Strictly between 0 and 1.
        order: 1, 2 or 3.
        direction: As for `edgeworth_curve`.

    Returns:
        (epsilon, roots), with `multiple_roots`.

    >>> from drdp.privacy.events import Gaussian, PoissonSampled
    >>> run = PoissonSampled(0.05, Gaussian(0.517)) * 20
    >>> found = edgeworth_estimate(run, 1 / 149, order=3, direction="remove")
    >>> found.multiple_roots, [round(root, 2) for root in found.roots]
    (True, [1.58, 1.98, 2.94, 3.39, 5.07])
    """
    delta = _check.probability(delta=delta)
    found = expansion_of(event, order, direction)
    if isinstance(found, float):
        return EdgeworthEstimate(found, ())
    return found.estimate(delta)


@final
@dataclass(frozen=True, slots=True)
class Side:
    """The loss of a whole run under one neighbour, as its expansion has it.

    Args:
        mean: Its mean.
        variance: Its variance.
        deviation: The root of the variance; positive.
        skews: Third, fourth and fifth cumulants, standardised.
        order: How many correction terms are used.
    """

    mean: float
    variance: float
    deviation: float
    skews: tuple[float, float, float]
    order: int

    def correction(self, x: float) -> float:
        """(F - Phi) / phi at x standard deviations above the mean, turned round.

        The survival function is Phi(-x) + phi(x) times this.  Petrov, Sums of
        Independent Random Variables (1975), VI.1, with Hermite polynomials.
        """
        three, four, five = self.skews
        if three == four == five == 0.0:
            return 0.0
        square = x * x
        total = three / 6.0 * (square - 1.0)
        if self.order == 1:
            return total
        total += four / 24.0 * x * (square - 3.0)
        total += three * three / 72.0 * x * (square * (square - 10.0) + 15.0)
        if self.order == 2:
            return total
        he_4 = square * (square - 6.0) + 3.0
        he_6 = square * (square * (square - 15.0) + 45.0) - 15.0
        he_8 = square * (square * (square * (square - 28.0) + 210.0) - 420.0) + 105.0
        total += five / 120.0 * he_4 + three * four / 144.0 * he_6
        return total + three * three * three / 1296.0 * he_8

    def survival(self, epsilon: float) -> float:
        """The probability that the loss is above epsilon."""
        x = (epsilon - self.mean) / self.deviation
        log_density = -0.5 * x * x - _LOG_ROOT_2PI
        if log_density < _LEAST_EXPONENT:
            return 1.0 if x < 0.0 else 0.0
        return normal_cdf(-x) + math.exp(log_density) * self.correction(x)

    def tilted_survival(self, epsilon: float) -> float:
        """e^epsilon times the survival function, for epsilon above the mean.

        e^eps phi((eps - m)/s) = e^(m + s^2/2) phi((eps - m - s^2)/s), whose
        exponents are small where those on the left cancel.
        """
        x = (epsilon - self.mean) / self.deviation
        y = (epsilon - (self.mean + self.variance)) / self.deviation
        exponent = self.mean + 0.5 * self.variance - 0.5 * y * y - _LOG_ROOT_2PI
        if exponent < _LEAST_EXPONENT:
            return 0.0
        size = mills_ratio(x) + self.correction(x)
        return math.exp(min(exponent, _LARGEST_EXPONENT)) * size


@final
@dataclass(frozen=True)
class Expansion:
    """The expansion of a run's delta, in every direction that has to be looked at.

    Args:
        pairs: For each direction the loss under Q and under P.
    """

    pairs: tuple[tuple[Side, Side], ...]

    def delta(self, epsilon: float) -> float:
        """The worse direction's delta as the expansion has it; any real number."""
        return max(
            p.survival(epsilon) - q.tilted_survival(epsilon) for q, p in self.pairs
        )

    def majorant(self, epsilon: float) -> float:
        """The largest delta at or above `epsilon`."""
        places, _, above = self._profile
        here = bisect_left(places, epsilon)
        return max(self.delta(epsilon), above[here] if here < len(above) else 0.0)

    def estimate(self, delta: float) -> EdgeworthEstimate:
        """Every epsilon at which the expansion crosses `delta`."""
        places, values, _ = self._profile
        if values[-1] > delta:
            return EdgeworthEstimate(math.inf, ())
        roots = []
        for (low, left), (high, right) in pairwise(zip(places, values, strict=True)):
            if (left > delta) != (right > delta):
                roots.append(_root(self.delta, low, high, delta))
        return EdgeworthEstimate(max(roots, default=0.0), tuple(roots))

    @cached_property
    def places(self) -> list[float]:
        """Where the expansion can bend, as seen from the centres of its parts."""
        centres = set()
        for q, p in self.pairs:
            shift = max(0.0, q.mean + 0.5 * q.variance)
            reach = math.sqrt(2.0 * (shift - _LEAST_EXPONENT))
            centres.add((p.mean, p.deviation, reach))
            centres.add((q.mean, q.deviation, reach))
            centres.add((q.mean + q.variance, q.deviation, reach))
        found = {
            centre + scale * u
            for centre, scale, reach in centres
            for u in (
                *_FINELY,
                *(_NEAR + (reach - _NEAR) * k / _FAR for k in range(_FAR + 1)),
            )
        }
        return sorted({0.0, *(place for place in found if place > 0.0)})

    @cached_property
    def _profile(self) -> tuple[list[float], list[float], list[float]]:
        """Places with every peak and trough among them, values, and suprema.

        The last list holds the largest value at or to the right of each place.
        """
        places = self.places
        values = [self.delta(place) for place in places]
        known = dict(zip(places, values, strict=True))
        for k in range(1, len(places) - 1):
            left, here, right = values[k - 1 : k + 2]
            noise = _NOISE * max(abs(left), abs(here), abs(right))
            for sign in (1.0, -1.0):
                if sign * (here - left) > noise and sign * (here - right) > noise:
                    ends = places[k - 1], places[k + 1]
                    place = _extremum(self.delta, *ends, sign)
                    known[place] = self.delta(place)
        places = sorted(known)
        suprema, best = [], 0.0
        for place in reversed(places):
            best = max(best, known[place])
            suprema.append(best)
        suprema.reverse()
        return places, [known[place] for place in places], suprema


def expansion_of(
    event: Event, order: int, direction: Way = "worse"
) -> Expansion | float:
    """The expansion of a run; 0 or infinity where its epsilon is clear without.

    Raises:
        InvalidArgumentError: If the order is not 1, 2 or 3.
        UnsupportedEventError: For a release that has no expansion.
    """
    order = _check.count(least=1, order=order)
    if order > _HIGHEST:
        raise InvalidArgumentError(f"order must be 1, 2 or 3, got {order}")
    if direction not in ("worse", "remove", "add"):
        raise InvalidArgumentError(
            f"direction must be worse, remove or add, got {direction!r}"
        )
    parts = atoms(event)
    hidden = {atom: n for atom, n in parts.items() if not isinstance(atom, NonPrivate)}
    ways = {atom: _directions(atom) for atom in hidden}
    pairs = []
    every = dict.fromkeys(way for known in ways.values() for way in known)
    for way in every if direction == "worse" else (Direction(direction),):
        sums = [[0.0] * 5, [0.0] * 5]
        for atom, times in hidden.items():
            known = ways[atom]
            found = loss_cumulants(atom, way if way in known else known[0])
            if found is None:
                return math.inf
            for total, one in zip(sums, found, strict=True):
                for k, value in enumerate(one):
                    total[k] += times * value
        q, p = (_side(Cumulants(*total), order) for total in sums)
        pairs.append((q, p))
    if len(hidden) < len(parts):
        return math.inf
    if all(p.deviation <= _LEAST_DEVIATION for _, p in pairs):
        return 0.0
    finite = all(
        math.isfinite(v) for q, p in pairs for v in (*q.skews, q.variance, p.variance)
    )
    return Expansion(tuple(pairs)) if finite else math.inf


def _directions(atom: Event) -> tuple[Direction, ...]:
    """The directions of one release, each checked to have moments."""
    known = directions(atom, lower=False)
    try:
        fits = law_of(atom, known[0]).infinite == 0.0
    except UnsupportedEventError:
        fits = False
    # a law that dominates both directions at once is not the law of a loss
    if not fits or Direction.EITHER in known:
        raise UnsupportedEventError(
            f"edgeworth_curve has no moments for {atom!r}; {advice(atom)}"
        )
    return known


def _side(total: Cumulants, order: int) -> Side:
    s = max(math.sqrt(total.variance), _LEAST_DEVIATION)
    skews = (
        total.third / s / s / s,
        total.fourth / s / s / s / s,
        total.fifth / s / s / s / s / s,
    )
    return Side(total.mean, total.variance, s, skews, order)


def _root(
    function: Callable[[float], float], low: float, high: float, value: float
) -> float:
    """Where a function passes `value`, which it does between low and high."""
    falls = function(low) > value
    while high - low > 1e-14 * high:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if (function(middle) > value) == falls:
            low = middle
        else:
            high = middle
    return high


def _extremum(
    function: Callable[[float], float], low: float, high: float, sign: float
) -> float:
    """Where sign * function is largest, by golden section."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = sign * function(a), sign * function(b)
    for _ in range(40):
        if at_a > at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = sign * function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = sign * function(b)
    return a if at_a > at_b else b
