"""The trade-off between the two errors of an attack, from a profile.

A profile says delta(epsilon) for epsilon >= 0; read from both sides it gives
delta for every real epsilon, ``delta(-e) = 1 - e^-e (1 - delta(e))``, which is
non-increasing, and convex in e^epsilon.  Each epsilon is one line over the
(false positive, true positive) plane, ``tpr <= delta(epsilon) + e^epsilon
fpr``, and the true trade-off is the lowest of all lines (Dong, Roth and Su,
arXiv:1905.02383, Proposition 6).

From an upper profile any choice of lines keeps the promise, so a search for
the lowest one may stop where it likes.  From a lower profile the promise is
about *all* lines, so there whole intervals of epsilon are bounded from below.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

__all__ = ["least_error", "most_power", "sure_power", "sure_power_of_either"]

Profile = Callable[[float], float]

_STEEPEST = 700.0  # e^700 is still a float
_ROUNDING = 1e-15
_HOPELESS = 800.0  # above -log of any positive float
_AGREES = 1e-7  # in the logarithm of a rate: near enough to the lowest line
_NARROW = 1e-11
_GOLDEN = 0.5 * (3.0 - math.sqrt(5.0))
_MOST_PROBES = 80
_WIDTH = 1e-3  # relative, of a bound over all lines
_MOST_PIECES = 400


def most_power(profile: Profile, fpr: float) -> float:
    """The largest true positive rate that some line allows: an upper bound.

    Args:
        profile: delta(epsilon) for epsilon >= 0, infinity included; in [0, 1].
        fpr: In [0, 1].

    >>> round(most_power(lambda e: 0.25 * math.exp(-e), 0.01), 6)
    0.1
    """

    def cost(epsilon: float) -> float:
        return _log(_line(profile, profile, fpr, epsilon))

    found = _lowest(cost, profile(0.0), fpr)
    return min(1.0, max(fpr, math.exp(found) * (1.0 + 4.0 * _ROUNDING)))


def sure_power(profile: Profile, reverse: Profile, fpr: float) -> float:
    """A true positive rate that the best attack on one ordered pair reaches.

    Args:
        profile: A lower bound of the pair's delta(epsilon), epsilon >= 0.
        reverse: The same for the pair in the other order.
        fpr: In [0, 1].

    >>> half = lambda e: 0.25 * math.exp(-e)
    >>> 0.0999 < sure_power(half, half, 0.01) <= 0.1
    True
    """

    def below(left: float, right: float) -> float:
        """No line between `left` and `right` is lower than this."""
        if left >= 0.0:
            return profile(right) + _times_exp(fpr, left)
        return 1.0 - math.exp(right) * (1.0 - fpr - reverse(-left))

    found = _under_all(
        lambda epsilon: _line(profile, reverse, fpr, epsilon), below, fpr
    )
    return min(1.0, max(fpr, found * (1.0 - _ROUNDING)))


def sure_power_of_either(profile: Profile, fpr: float) -> float:
    """A true positive rate that an attack on one of both orders reaches.

    A lower bound of the worse order's delta says, at each epsilon, that one of
    the two trade-offs touches a line, not which one nor where.  A trade-off is
    concave and joins (0, 0) to (1, 1); from that and a single epsilon follows
    ``min(delta + (1 - delta) fpr, e^epsilon fpr / (1 - delta))``.

    Args:
        profile: A lower bound of the worse order's delta(epsilon).
        fpr: In [0, 1].

    >>> round(sure_power_of_either(lambda e: 0.25 * math.exp(-e), 0.01), 3)
    0.056
    """

    def reached(epsilon: float) -> float:
        delta = profile(epsilon)
        through = delta + (1.0 - delta) * fpr
        steep = _times_exp(fpr, epsilon)
        return min(through, steep / (1.0 - delta)) if steep + delta < 1.0 else through

    low, high, best = 0.0, _STEEPEST, reached(0.0)
    for _ in range(40):  # the first falls with epsilon, the second rises
        middle = math.sqrt((low + 1e-3) * (high + 1e-3)) - 1e-3
        delta = profile(middle)
        best = max(best, reached(middle))
        rising = _times_exp(fpr, middle) < (1.0 - delta) * (delta + (1.0 - delta) * fpr)
        low, high = (middle, high) if rising else (low, middle)
    return min(1.0, max(fpr, best * (1.0 - 4.0 * _ROUNDING)))


def least_error(profile: Profile, fpr: float, *, every: bool) -> float:
    """The smallest false negative rate at a false positive rate.

    To full relative precision where it is small.

    Args:
        profile: delta(epsilon) for epsilon >= 0, infinity included; in [0, 1].
        fpr: In [0, 1].
        every: Whether the answer has to lie above all lines (for a profile that
            is a lower bound) rather than on some line.

    >>> round(least_error(lambda e: 0.25 * math.exp(-e), 0.01, every=False), 6)
    0.9
    """

    def line(epsilon: float) -> float:
        """The false negative rate on the line, rounded down."""
        if epsilon >= 0.0:
            steep = _times_exp(fpr, epsilon)
            return 1.0 - profile(epsilon) - steep - _ROUNDING * (1.0 + steep)
        rest = (1.0 - fpr) - profile(-epsilon)
        lost = _ROUNDING * abs(rest) + (_ROUNDING if fpr < 0.5 else 0.0)
        return math.exp(epsilon) * (rest - lost)

    def above(left: float, right: float) -> float:
        if left >= 0.0:
            return 1.0 - profile(right) - _times_exp(fpr, left)
        return math.exp(right) * (1.0 - fpr - profile(-left))

    if every:
        found = -_under_all(
            lambda epsilon: -line(epsilon), lambda a, b: -above(a, b), fpr
        )
        return min(1.0 - fpr, max(0.0, found) * (1.0 + _ROUNDING) + _ROUNDING)

    def cost(epsilon: float) -> float:
        rate = line(epsilon)
        return -math.log(rate) if rate > 0.0 else _HOPELESS - rate

    found = _lowest(cost, profile(0.0), fpr)
    return min(1.0 - fpr, max(0.0, math.exp(-found) * (1.0 - 4.0 * _ROUNDING)))


def _line(forth: Profile, back: Profile, fpr: float, epsilon: float) -> float:
    """The true positive rate that the line of one epsilon allows."""
    if epsilon >= 0.0:
        return forth(epsilon) + _times_exp(fpr, epsilon)
    return -math.expm1(epsilon) + math.exp(epsilon) * (back(-epsilon) + fpr)


def _times_exp(value: float, epsilon: float) -> float:
    return value * math.exp(min(epsilon, _STEEPEST)) if value > 0.0 else 0.0


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -math.inf


def _quantile(tail: float) -> float:
    """Where the normal law has about this mass to the right of.

    Abramowitz and Stegun, 26.2.22: three digits, enough to start a search.
    """
    if tail > 0.5:
        return -_quantile(1.0 - tail)
    t = math.sqrt(-2.0 * math.log(max(tail, 1e-300)))
    return t - (2.30753 + 0.27061 * t) / (1.0 + 0.99229 * t + 0.04481 * t * t)


def _lowest(cost: Callable[[float], float], advantage: float, fpr: float) -> float:
    """The least cost of a line that a search for a single valley meets.

    It starts where the valley of a Gaussian release with the same advantage
    is, and takes parabolic steps, or golden ones where the cost has a kink.
    """
    if fpr == 0.0:
        return min(cost(0.0), cost(_STEEPEST))
    mu = max(2.0 * _quantile(0.5 * (1.0 - advantage)), 1e-12)
    start = mu * _quantile(fpr) - 0.5 * mu * mu
    start = min(max(start, -_STEEPEST), _STEEPEST)
    places = _valley(cost, start, 0.5 * mu)
    if places[1][0] == 0.0:  # the worse of two directions often has a kink there
        for side in (-0.1 * _AGREES, 0.1 * _AGREES):
            if places[0][0] < side < places[2][0]:
                places = _shrunk(places, (side, cost(side)))
    for _ in range(_MOST_PROBES):
        (left, _), (here, lowest), (right, _) = places
        if right - left <= _NARROW * (mu + abs(here)) or _gap(places) <= _AGREES:
            break
        probe, told, bend = _vertex(places)
        if not left < probe < right or probe == here:
            probe, told = _golden(places), math.inf
        place = (probe, cost(probe))
        places = _shrunk(places, place)
        if abs(place[1] - told) <= _AGREES and lowest - place[1] <= _AGREES:
            # at the bottom of a parabola: close in from both sides to see that
            here, near = places[1][0], math.sqrt(0.5 * _AGREES / bend)
            sides = [x for x in (here - near, here + near) if left < x < right]
        else:
            # a parabola that hardly narrows the bracket is helped along
            slow = places[2][0] - places[0][0] > 0.5 * (right - left)
            sides = [_golden(places)] if slow else []
        for side in sides:
            if places[0][0] < side < places[2][0] and side != places[1][0]:
                places = _shrunk(places, (side, cost(side)))
    return min(cost(0.0), places[1][1])  # pure guessing has its kink at 0


Place = tuple[float, float]


def _valley(
    cost: Callable[[float], float], start: float, scale: float
) -> tuple[Place, Place, Place]:
    """Three places of which the middle one is lowest, or the end of the range.

    They lie on a lattice, even near 0 and geometric far from it, so that a
    profile that remembers its answers has them ready for the next rate.
    """

    def place(k: int) -> Place:
        epsilon = scale * math.sinh(0.5 * k)
        epsilon = min(max(epsilon, -_STEEPEST), _STEEPEST)
        return epsilon, cost(epsilon)

    k = round(2.0 * math.asinh(start / scale))
    left, here, right = place(k - 1), place(k), place(k + 1)
    while left[1] < here[1] and left[0] > -_STEEPEST:
        k -= 1
        left, here, right = place(k - 1), left, here
    while right[1] < here[1] and right[0] < _STEEPEST:
        k += 1
        left, here, right = here, right, place(k + 1)
    return left, here, right


def _golden(places: tuple[Place, Place, Place]) -> float:
    """The golden section of the wider half."""
    (left, _), (here, _), (right, _) = places
    far = right if right - here > here - left else left
    return here + _GOLDEN * (far - here)


def _shrunk(
    places: tuple[Place, Place, Place], new: Place
) -> tuple[Place, Place, Place]:
    """The narrower bracket that a new place inside it allows."""
    left, here, right = places
    if new[1] <= here[1]:
        return (left, new, here) if new[0] < here[0] else (here, new, right)
    return (new, here, right) if new[0] < here[0] else (left, here, new)


def _gap(places: tuple[Place, Place, Place]) -> float:
    """How much lower a convex cost with these three values can be."""
    (a, f_a), (b, f_b), (c, f_c) = places
    if not all(map(math.isfinite, (f_a, f_b, f_c))):
        return math.inf
    return max((f_c - f_b) / (c - b) * (b - a), (f_a - f_b) / (b - a) * (c - b))


def _vertex(places: tuple[Place, Place, Place]) -> tuple[float, float, float]:
    """Where the parabola through three places is lowest, how low, and its bend."""
    (a, f_a), (b, f_b), (c, f_c) = places
    if not all(map(math.isfinite, (f_a, f_b, f_c))):
        return math.nan, math.inf, 0.0
    rise, fall = (f_c - f_b) / (c - b), (f_b - f_a) / (b - a)
    bend = (rise - fall) / (c - a)
    if bend <= 0.0:
        return math.nan, math.inf, 0.0
    slope = fall + bend * (b - a)  # at b
    move = -0.5 * slope / bend
    return b + move, f_b + move * (slope + bend * move), bend


def _under_all(
    cost: Callable[[float], float],
    below: Callable[[float, float], float],
    fpr: float,
) -> float:
    """A value under the cost of every line, close to the lowest one.

    Branch and bound: the interval of epsilon with the lowest bound is halved
    until no bound lies far under the best line seen.
    """
    top = -math.log(fpr) if fpr > 0.0 else _STEEPEST
    top = min(max(top, 1.0), _STEEPEST)
    ends = [-_STEEPEST, -40.0, -8.0, -1.0, 0.0]
    ends += [0.25 * k * top for k in (1, 2, 3, 4)]
    best = min(cost(end) for end in ends[1:])
    pieces = [(below(a, b), a, b) for a, b in itertools.pairwise(ends)]
    pieces.append((below(top, math.inf), top, math.inf))
    heapq.heapify(pieces)
    for _ in range(_MOST_PIECES):
        low, a, b = pieces[0]
        if best - low <= _WIDTH * abs(best):
            break
        middle = 0.5 * (a + b)
        if not a < middle < b:
            break
        heapq.heapreplace(pieces, (below(a, middle), a, middle))
        heapq.heappush(pieces, (below(middle, b), middle, b))
        best = min(best, cost(middle))
    return pieces[0][0]
