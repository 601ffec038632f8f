"""The privacy curve: delta as a function of epsilon, and all that follows.

An accountant answers with a `PrivacyCurve`.  Its `bound` is part of the
answer: only an ``"upper"`` curve is a guarantee, an ``"estimate"`` is not, and
a ``"lower"`` curve says how much better any proof could possibly be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, final

from drdp import _check
from drdp.privacy.events import Event
from drdp.privacy.tradeoff import least_error

__all__ = ["Accountant", "Bound", "Interval", "PrivacyCurve", "in_both", "invert"]

Bound = Literal["upper", "estimate", "lower"]

_LARGEST_EPSILON = 1e8


class Accountant(Protocol):
    """Anything that turns an event into a privacy curve."""

    def __call__(self, event: Event, /) -> PrivacyCurve:
        """The privacy curve of the event."""
        ...


class Interval(NamedTuple):
    """A certified answer: the truth lies in [lower, upper].

    `method` says how it was found, for instance ``"closed form"`` or
    ``"pld grid 2.5e-05"``.
    """

    lower: float
    upper: float
    method: str


def in_both(one: Interval | None, two: Interval | None) -> Interval | None:
    """What two certified answers to one question leave, either may be missing.

    Both contain the truth, so that their intersection does.  Should they
    contradict each other, which no input is known to bring about, the wider
    of all ends are kept.
    """
    if one is None or two is None:
        return one or two
    low, high = max(one.lower, two.lower), min(one.upper, two.upper)
    if low > high:
        low, high = min(one.lower, two.lower), max(one.upper, two.upper)
    narrow = one.upper - one.lower <= two.upper - two.lower
    return Interval(low, high, one.method if narrow else two.method)


@final
@dataclass(frozen=True, slots=True)
class PrivacyCurve:
    """delta(epsilon) of one event, and what follows from it.

    Args:
        profile: The curve itself, for epsilon >= 0.
        bound: Whether the curve lies above the truth, below it, or only near.
        inverse: epsilon(delta) where the accountant has a direct way to it;
            otherwise the profile is searched.

    >>> curve = PrivacyCurve(lambda epsilon: 0.25 * math.exp(-epsilon), "upper")
    >>> curve.delta(0.0), curve.bound
    (0.25, 'upper')
    """

    profile: Callable[[float], float]
    bound: Bound
    inverse: Callable[[float], float] | None = None

    def delta(self, epsilon: float) -> float:
        """The delta that goes with `epsilon` (at least 0); a value in [0, 1]."""
        if epsilon == math.inf:
            return 0.0
        value = self.profile(_check.at_least_zero(epsilon=epsilon))
        if math.isnan(value):
            raise ArithmeticError(f"the accountant answered nan at epsilon={epsilon}")
        return min(1.0, max(0.0, value))

    def epsilon(self, delta: float) -> float:
        """The smallest epsilon known to go with `delta`; may be infinite.

        For an upper curve the returned point was tested: its delta is at most
        the one asked for.
        """
        delta = _check.probability(delta=delta)
        if self.inverse is not None:
            value = self.inverse(delta)
            if math.isnan(value):
                raise ArithmeticError(f"the accountant answered nan at delta={delta}")
            return max(0.0, value)
        return invert(self.delta, delta, upper=self.bound != "lower")

    def beta(self, alpha: float) -> float:
        """The smallest type II error of any attack with type I error `alpha`.

        This is the trade-off curve f(alpha) of f-DP (Dong, Roth and Su,
        arXiv:1905.02383, Proposition 6): the highest of the lines that the
        profile supports.  For an upper curve the value is never above the
        true one, for a lower curve never below it.  The profile is that of the
        worse of two orders at each epsilon: an attack on a single pair may fall
        short of its trade-off.
        """
        alpha = _check.rate(alpha=alpha)
        return least_error(self.delta, alpha, every=self.bound == "lower")

    @property
    def advantage(self) -> float:
        """The largest membership advantage, TPR - FPR, of any attack."""
        return self.delta(0.0)


def invert(
    profile: Callable[[float], float], delta: float, *, upper: bool, rtol: float = 1e-12
) -> float:
    """Where a non-increasing profile crosses `delta`, from the asked-for side.

    With ``upper`` the answer was tested to satisfy ``profile(epsilon) <=
    delta``; without it, ``profile(epsilon) >= delta`` (or is 0).  Infinite
    where even an epsilon of 1e8 does not get there.
    """
    low, high = 0.0, 1.0
    if profile(low) <= delta:
        return low
    while profile(high) > delta:
        low, high = high, high * 2
        if high > _LARGEST_EPSILON:
            return math.inf
    while high - low > rtol * high:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if profile(middle) <= delta:
            high = middle
        else:
            low = middle
    return high if upper else low
