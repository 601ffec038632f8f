"""Renyi differential privacy, at any real order: an upper bound.

Renyi divergences add under composition; the curve converts their sum to delta
at the best order there is.  The order is searched continuously: log delta is
convex in it, so nothing is lost to a list of orders.

References: Mironov, arXiv:1702.07476; Mironov, Talwar and Zhang,
arXiv:1908.10530 (Poisson sampling); Wang, Balle and Kasiviswanathan,
arXiv:1808.00087 (fixed size); Canonne, Kamath and Steinke, arXiv:2004.00010
(conversion).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy.conversion import two_point
from drdp.privacy.curves import PrivacyCurve, invert
from drdp.privacy.events import (
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    atoms,
)
from drdp.privacy.kernel import gear
from drdp.privacy.releases import advice
from drdp.privacy.sampling import RandomlyAllocated
from drdp.privacy.standins import above

__all__ = ["Conversion", "rdp", "rdp_curve"]

Conversion = Literal["improved", "optimal", "classic"]
Atoms = tuple[tuple[Event, int], ...]

_EFFORT = 38.0
_SLACK = 1e-13  # relative, above what the moments lose to rounding
_LARGEST_FIXED_SIZE_ORDER = 256
_CHORDS = (FixedSizeSampled, RandomlyAllocated)  # known at whole orders
_NEAR_ONE = 1.001
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)


def rdp(event: Event, order: float) -> float:
    """The Renyi divergence of an event at one order, in nats.

    The larger of both directions, exact for the plain releases and Poisson
    sampling; infinite where there is a chance of revealing everything.

    Args:
        event: What was released.
        order: A real number above 1.

    >>> round(rdp(PoissonSampled(0.01, Gaussian(2.5)) * 50, 5), 9)
    0.002180757
    """
    order = _order(order)
    parts = above(tuple(atoms(event).items()))
    if any(_revealed(atom) > 0.0 for atom, _ in parts):
        return math.inf
    return _log_moments(parts, order) / (order - 1.0)


def rdp_curve(
    event: Event,
    *,
    conversion: Conversion = "improved",
    orders: Iterable[float] | None = None,
) -> PrivacyCurve:
    """The privacy curve by Renyi differential privacy.

    Args:
        event: What was released.
        conversion: ``"improved"`` (Canonne, Kamath and Steinke, Proposition
            12), ``"classic"`` (Mironov, Proposition 3) or ``"optimal"``
            (Asoodeh et al., the best that one order allows; slower).
        orders: The orders to try; by default the best real one.

    Returns:
        A curve with ``bound == "upper"``.

    Guarantees:
        Never below the truth under the event's adjacency and sampling.

    Raises:
        UnsupportedEventError: For a release without a formula here.

    >>> run = PoissonSampled(0.01, Gaussian(4.0)) * 10_000
    >>> round(rdp_curve(run).epsilon(1e-5), 4)
    1.0354
    """
    if conversion not in ("improved", "optimal", "classic"):
        raise InvalidArgumentError(
            f"conversion must be improved, optimal or classic, got {conversion!r}"
        )
    listed = None if orders is None else tuple(_order(order) for order in orders)
    if listed == ():
        raise InvalidArgumentError("orders must not be empty")
    parts = above(tuple(atoms(event).items()))
    if not parts:
        return PrivacyCurve(lambda _: 0.0, "upper", lambda _: 0.0)
    if any(isinstance(atom, NonPrivate) for atom, _ in parts):
        return PrivacyCurve(lambda _: 1.0, "upper", lambda _: math.inf)
    for atom, _ in parts:
        _log_moment(atom, 2.0)
    revealed = -math.expm1(
        math.fsum(
            times * math.log1p(-min(_revealed(atom), 1.0 - 1e-16))
            for atom, times in parts
        )
    )
    if listed is None and any(isinstance(atom, _CHORDS) for atom, _ in parts):
        listed = _FIXED_SIZE_ORDERS
    # delta is at most the total variation, which any order bounds
    total_variation = 0.0
    if conversion != "classic":
        nearly_kl = _log_moments(parts, _NEAR_ONE) / (_NEAR_ONE - 1.0)
        total_variation = 0.5 * math.log(-math.expm1(-max(nearly_kl, 1e-300)))

    def profile(epsilon: float) -> float:
        def log_delta(order: float) -> float:
            return _log_delta(parts, order, epsilon, conversion)

        start = 1.0 + 10.0 / (1.0 + epsilon)
        if conversion == "optimal":
            found = _least_optimal(parts, listed, start, epsilon)
        else:
            found = _least(log_delta, listed, start)
        rest = math.exp(min(0.0, found, total_variation))
        return revealed + (1.0 - revealed) * rest

    def inverse(delta: float) -> float:
        left = (delta - revealed) / (1.0 - revealed)
        if left <= 0.0:
            return math.inf
        if total_variation <= math.log(left):
            return 0.0
        if conversion == "optimal":
            return invert(profile, delta, upper=True, rtol=1e-9)

        def epsilon(order: float) -> float:
            return _epsilon(parts, order, math.log(left), conversion)

        return max(0.0, _least(epsilon, listed, 10.0))

    return PrivacyCurve(profile, "upper", inverse)


_FIXED_SIZE_ORDERS = (
    *(1.0 + k / 8 for k in range(1, 33)),
    *map(float, range(6, 65)),
    *(80.0, 96.0, 128.0, 192.0, 256.0),
)


def _order(value: float) -> float:
    order = _check.positive(order=value)
    if order <= 1.0:
        raise InvalidArgumentError(f"order must be above 1, got {value!r}")
    return order


def _least(
    function: Callable[[float], float], orders: tuple[float, ...] | None, start: float
) -> float:
    """The least value over the listed orders, or over all real ones."""
    if orders is not None:
        return min(function(order) for order in orders)

    def at(position: float) -> float:
        return function(1.0 + math.exp(position))

    # Quasi-convex in the order: walk downhill, then golden section.
    left, middle = math.log(start - 1.0) - 0.7, math.log(start - 1.0)
    f_left, f_middle = at(left), at(middle)
    step = 0.7
    if f_left < f_middle:
        left, middle, f_left, f_middle = middle, left, f_middle, f_left
        step = -0.7
    while True:
        step *= 1.5
        right = middle + step
        if not -16.0 < right < 16.0:
            return f_middle
        f_right = at(right)
        if f_right >= f_middle:
            break
        left, middle, f_middle = middle, right, f_right
    low, high = min(left, right), max(left, right)
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    f_a, f_b = at(a), at(b)
    best = min(f_middle, f_a, f_b)
    while high - low > 2e-5:
        if f_a < f_b:
            high, b, f_b = b, a, f_a
            a = high - _GOLDEN * (high - low)
            f_a = at(a)
        else:
            low, a, f_a = a, b, f_b
            b = low + _GOLDEN * (high - low)
            f_b = at(b)
        best = min(best, f_a, f_b)
    # where chords meet, the best order is a whole one
    return min(best, function(float(max(2, round(1.0 + math.exp(low))))))


def _least_optimal(
    parts: Atoms, orders: tuple[float, ...] | None, start: float, epsilon: float
) -> float:
    """The least log delta by the optimal conversion, which is not convex.

    It is tried around the order that is best for the improved conversion.
    """
    tried: dict[float, float] = {}

    def improved(order: float) -> float:
        tried[order] = _log_delta(parts, order, epsilon, "improved")
        return tried[order]

    least = _least(improved, orders, start)
    best = min(tried, key=lambda order: tried[order])
    near = orders or [1.0 + (best - 1.0) * 1.25**k for k in range(-12, 7)]
    return min(least, *(_log_delta(parts, order, epsilon, "optimal") for order in near))


def _epsilon(
    parts: Atoms, order: float, log_delta: float, conversion: Conversion
) -> float:
    moment = _log_moments(parts, order)
    if moment == math.inf:
        return math.inf
    if conversion == "classic":
        return (moment - log_delta) / (order - 1.0)
    gain = math.log1p(-1.0 / order)
    return (moment - log_delta - math.log(order)) / (order - 1.0) + gain


def _log_delta(
    parts: Atoms, order: float, epsilon: float, conversion: Conversion
) -> float:
    moment = _log_moments(parts, order)
    if moment == math.inf:
        return 0.0
    classic = moment - (order - 1.0) * epsilon
    if conversion == "classic":
        return classic
    improved = classic + (order - 1.0) * math.log1p(-1.0 / order) - math.log(order)
    if conversion == "optimal":
        return min(improved, two_point(order, moment, epsilon))
    return improved


def _log_moments(parts: Atoms, order: float) -> float:
    return math.fsum(times * _log_moment(atom, order) for atom, times in parts)


@lru_cache(maxsize=4096)
def _log_moment(atom: Event, order: float) -> float:
    """(order - 1) times the divergence of one atom, the larger direction."""
    match atom:
        case Gaussian(noise_multiplier=z):
            return 0.5 * order * (order - 1.0) * (1.0 / z) * (1.0 / z)
        case Laplace(noise_multiplier=z):
            return _laplace(order, 1.0 / z)
        case ApproxDP(epsilon=epsilon):
            return _randomised_response(order, epsilon)
        case PoissonSampled(
            rate=rate, event=Gaussian(noise_multiplier=z), adjacency=relation
        ) if relation is not Adjacency.REPLACE_ONE:
            work = (order + 20.0 * z) / min(z, z * z)
            if z < 0.01 or z > 1e6 or work > 1e7:  # forgo the sampling: a bound
                return _log_moment(Gaussian(z), order)
            moment = gear("drdp.privacy.moments", work).log_moment
            value: float = moment(order, rate, z, math.inf, _EFFORT)[0]
            return value * (1.0 + _SLACK)
        case FixedSizeSampled(event=Gaussian(noise_multiplier=z)):
            return _fixed_size(order, atom.rate, z)
        case RandomlyAllocated(rounds=rounds, event=Gaussian(noise_multiplier=z)):
            from drdp.privacy.allocation_renyi import log_allocation_moment as bound

            return bound(order, rounds, z)
    if not isinstance(atom, _PLAIN):
        from drdp.privacy import divergence

        found = divergence.log_moment(atom, order)
        if found is not None:
            return found
    raise UnsupportedEventError(
        f"rdp_curve has no formula for {atom!r}; {advice(atom)}"
    )


_PLAIN = (ApproxDP, Gaussian, Laplace, FixedSizeSampled, RandomlyAllocated)


def _revealed(atom: Event) -> float:
    """The chance that a release reveals everything, which no moment sees."""
    if isinstance(atom, ApproxDP):
        return atom.delta
    inner = atom.event if isinstance(atom, PoissonSampled) else atom
    if isinstance(inner, _PLAIN):
        return 0.0
    from drdp.privacy import divergence

    return divergence.revealed(atom)


def _laplace(order: float, ratio: float) -> float:
    """Mironov, arXiv:1702.07476, Proposition 6; ratio = 1 / scale."""
    one = math.log(order / (2.0 * order - 1.0)) + (order - 1.0) * ratio
    two = math.log((order - 1.0) / (2.0 * order - 1.0)) - order * ratio
    return one + math.log1p(math.exp(two - one))


def _randomised_response(order: float, epsilon: float) -> float:
    """The pair that dominates every epsilon-DP mechanism."""
    normal = epsilon + math.log1p(math.exp(-epsilon))
    one, two = order * epsilon, (1.0 - order) * epsilon
    return one + math.log1p(math.exp(two - one)) - normal


def _fixed_size(order: float, rate: float, z: float) -> float:
    """Wang, Balle and Kasiviswanathan, Theorem 27; chords between whole orders."""
    below = math.floor(order)
    if order > _LARGEST_FIXED_SIZE_ORDER:
        return math.inf
    share = order - below
    left = 0.0 if below == 1 else _fixed_size_whole(below, rate, z)
    if share == 0.0:
        return left
    return (1.0 - share) * left + share * _fixed_size_whole(below + 1, rate, z)


@lru_cache(maxsize=4096)
def _fixed_size_whole(order: int, rate: float, z: float) -> float:
    half = 0.5 / (z * z)
    log_rate = math.log(rate)
    second = 2.0 * half
    pair = math.log(4.0) + math.log(math.expm1(second)) if second < 700.0 else math.inf
    terms = [0.0]
    for j in range(2, order + 1):
        choose = (
            math.lgamma(order + 1) - math.lgamma(j + 1) - math.lgamma(order - j + 1)
        )
        plain = math.log(2.0) + j * (j - 1) * half
        if j == 2:
            central = pair
        else:
            lower, upper = 2 * (j // 2), 2 * ((j + 1) // 2)
            central = math.log(4.0) + 0.5 * (
                _central_moment(lower, z) + _central_moment(upper, z)
            )
        terms.append(choose + j * log_rate + min(plain, central))
    top = max(terms)
    if top == math.inf:
        return math.inf
    return top + math.log(math.fsum(math.exp(term - top) for term in terms))


@lru_cache(maxsize=4096)
def _central_moment(order: int, z: float) -> float:
    """log E_Q[(R - 1)^l] for even l, R the likelihood ratio of a Gaussian.

    The integrand is positive and analytic, so a trapezoidal sum converges
    geometrically; no alternating sum is involved.
    """
    mu = 1.0 / z
    step = min(0.05, 0.05 / mu)
    high = order * mu + 12.0
    count = int((high + 12.0) / step) + 1
    heights = []
    for k in range(count):
        x = -12.0 + k * step
        loss = mu * x - 0.5 * mu * mu
        if loss > 30.0:
            log_gap = loss
        else:
            size = abs(math.expm1(loss))
            log_gap = math.log(size) if size > 0.0 else -math.inf
        heights.append(order * log_gap - 0.5 * x * x)
    top = max(heights)
    total = math.fsum(math.exp(height - top) for height in heights)
    return top + math.log(total * step / math.sqrt(2.0 * math.pi)) + 1e-9
