"""The boundary of a monotone question: how much noise, how many rounds.

`calibrate` searches one real parameter, `calibrate_count` a whole number.
Both return only a point that was itself tested private; neither trusts an
approximation unless told to.

>>> from drdp.privacy.events import Gaussian
>>> from drdp.privacy.gdp import gdp_curve
>>> sigma = calibrate(Gaussian, gdp_curve, within(1.0, 1e-5))
>>> round(sigma, 5)
3.73063
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, final, runtime_checkable

from drdp import _check
from drdp.errors import CalibrationError, EstimateRefusedError, InvalidArgumentError
from drdp.privacy.curves import Accountant, PrivacyCurve
from drdp.privacy.events import Event

__all__ = [
    "Graded",
    "Target",
    "Within",
    "calibrate",
    "calibrate_count",
    "within",
]


class Target(Protocol):
    """A yes-or-no question about a curve, monotone in privacy."""

    def __call__(self, curve: PrivacyCurve, /) -> bool:
        """Whether the curve meets the target."""
        ...


@runtime_checkable
class Graded(Protocol):
    """A target that also says how far from it a curve is."""

    def excess(self, curve: PrivacyCurve) -> float:
        """At most 0 exactly where the target is met, and smooth in between."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Within:
    """Whether a curve is (epsilon, delta)-DP: delta(epsilon) <= delta."""

    epsilon: float
    delta: float

    def __call__(self, curve: PrivacyCurve, /) -> bool:
        """True where the curve meets the budget."""
        return curve.delta(self.epsilon) <= self.delta

    def excess(self, curve: PrivacyCurve) -> float:
        """log delta(epsilon) - log delta: negative where the budget is met."""
        value = curve.delta(self.epsilon)
        return math.log(value / self.delta) if value > 0.0 else -math.inf


def within(epsilon: float, delta: float) -> Within:
    """The target of being (epsilon, delta)-DP.

    Args:
        epsilon: At least 0.
        delta: Strictly between 0 and 1.
    """
    return Within(
        _check.at_least_zero(epsilon=epsilon), _check.probability(delta=delta)
    )


def calibrate(
    event_of: Callable[[float], Event],
    accountant: Accountant,
    target: Target,
    *,
    guess: float = 1.0,
    lowest: float = 1e-4,
    highest: float = 1e8,
    private_side: Literal["high", "low"] = "high",
    rtol: float = 1e-6,
    allow_estimate: bool = False,
) -> float:
    """The value of one parameter at which an event just meets a target.

    Args:
        event_of: The event for a value of the parameter.
        accountant: `Event -> PrivacyCurve`.
        target: For instance ``within(2.0, 1e-5)``.
        guess: Where to start.
        lowest: Smallest value to consider; positive.
        highest: Largest value to consider.
        private_side: ``"high"`` where more is more private (noise), ``"low"``
            where less is (a sampling rate).
        rtol: How close to the boundary the answer must be, relatively.
        allow_estimate: Accept an accountant whose curve is no guarantee.

    Returns:
        A value that was tested to meet the target, while the value a relative
        `rtol` less private does not (unless it lies outside the domain).

    Raises:
        CalibrationError: If no value in [lowest, highest] meets the target, or
            every one does.
        EstimateRefusedError: If the accountant only estimates.

    >>> from drdp.privacy.events import PoissonSampled, Gaussian
    >>> from drdp.privacy.pld import pld_curve
    >>> run = lambda sigma: PoissonSampled(0.05, Gaussian(sigma)) * 20
    >>> round(calibrate(run, pld_curve, within(2.0, 1e-5)), 4)
    0.9968
    """
    lowest = _check.positive(lowest=lowest)
    highest = _check.positive(highest=highest)
    rtol = _check.positive(rtol=rtol)
    guess = min(max(_check.positive(guess=guess), lowest), highest)
    if private_side not in ("high", "low"):
        raise InvalidArgumentError(
            f"private_side must be 'high' or 'low', got {private_side!r}"
        )
    sign = 1.0 if private_side == "high" else -1.0

    if lowest > highest:
        raise InvalidArgumentError(
            f"lowest must be at most highest={highest!r}, got {lowest!r}"
        )
    start = sign * math.log(guess)
    floor, ceiling = sorted((sign * math.log(lowest), sign * math.log(highest)))

    def value_at(position: float) -> float:
        if position in (floor, ceiling):
            return highest if (position == ceiling) == (sign > 0.0) else lowest
        return min(max(math.exp(sign * position), lowest), highest)

    def excess(position: float) -> float:
        event = event_of(value_at(position))
        return _excess(event, accountant, target, allow_estimate)

    unsafe, safe = _bracket(excess, start, floor, ceiling)
    return value_at(_narrow(excess, unsafe, safe, rtol))


def calibrate_count(
    event_of: Callable[[int], Event],
    accountant: Accountant,
    target: Target,
    *,
    most: int = 10**9,
    allow_estimate: bool = False,
) -> int:
    """The largest count, at most `most`, for which an event meets a target.

    Args:
        event_of: The event for a count, costing more the larger the count.
        accountant: `Event -> PrivacyCurve`.
        target: For instance ``within(2.0, 1e-5)``.
        most: Where to stop looking.
        allow_estimate: Accept an accountant whose curve is no guarantee.

    Returns:
        The largest count that was tested to meet the target; 0 where not even
        one fits; `most` where all do.

    >>> from drdp.privacy.events import Gaussian
    >>> from drdp.privacy.gdp import gdp_curve
    >>> calibrate_count(lambda n: Gaussian(50.0) * n, gdp_curve, within(1, 1e-5))
    179
    """
    most = _check.count(least=1, most=most)

    def meets(count: int) -> bool:
        return _excess(event_of(count), accountant, target, allow_estimate) <= 0.0

    fits, high = 0, 1
    while meets(high):
        if high == most:
            return most
        fits, high = high, min(2 * high, most)
    while high - fits > 1:
        middle = (fits + high) // 2
        if meets(middle):
            fits = middle
        else:
            high = middle
    return fits


def _excess(
    event: Event, accountant: Accountant, target: Target, allow_estimate: bool
) -> float:
    """At most 0 exactly where the target is met; graded where it can be."""
    curve = accountant(event)
    if curve.bound == "lower" or (curve.bound == "estimate" and not allow_estimate):
        raise EstimateRefusedError(
            f"the accountant answers with an {curve.bound!r} curve for this event,"
            " which is no guarantee; use pld_curve, or pass allow_estimate=True"
        )
    if not isinstance(target, Graded):
        return -1.0 if target(curve) else 1.0
    return target.excess(curve)


def _bracket(
    excess: Callable[[float], float], start: float, floor: float, ceiling: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """A private and a non-private position, each with its excess."""
    here, step = (start, excess(start)), 0.25
    while here[1] > 0.0:
        if here[0] >= ceiling:
            raise CalibrationError(
                "no value of the parameter in the allowed range meets the target;"
                " allow a larger epsilon or delta, or spend less elsewhere"
            )
        there = min(here[0] + step, ceiling)
        previous, here, step = here, (there, excess(there)), step * 2
        if here[1] <= 0.0:
            return previous, here
    while True:
        if here[0] <= floor:
            raise CalibrationError(
                "every value of the parameter in the allowed range meets the"
                " target, even the least private one: the target asks for nothing"
                " here; check epsilon, delta and the number of steps"
            )
        there = max(here[0] - step, floor)
        previous, here, step = here, (there, excess(there)), step * 2
        if here[1] > 0.0:
            return here, previous


def _narrow(
    excess: Callable[[float], float],
    unsafe: tuple[float, float],
    safe: tuple[float, float],
    rtol: float,
) -> float:
    """Shrink a bracket to a relative `rtol`: secant steps, bisection as a guard.

    Each probe aims a little beside the secant's root, on the side where the
    bracket is still wide, so that both of its ends close in.
    """
    width = math.log1p(rtol)
    older, newer = (unsafe, safe) if safe[1] > -unsafe[1] else (safe, unsafe)
    probes, target = 0, 0.5 * (safe[0] - unsafe[0])
    while safe[0] - unsafe[0] > width:
        middle = 0.5 * (unsafe[0] + safe[0])
        if not unsafe[0] < middle < safe[0]:
            break
        slope = (newer[1] - older[1]) / (newer[0] - older[0])
        probe = middle
        if math.isfinite(slope) and slope < 0.0 and probes < 4:
            root = newer[0] - newer[1] / slope
            if unsafe[0] < root < safe[0]:
                wide = safe[0] - root > 0.6 * width
                probe = root + 0.4 * width if wide else root - 0.4 * width
                if not unsafe[0] < probe < safe[0]:
                    probe = middle
        older, newer = newer, (probe, excess(probe))
        if newer[1] > 0.0:
            unsafe = newer
        else:
            safe = newer
        probes += 1
        if safe[0] - unsafe[0] <= target:
            probes, target = 0, 0.5 * (safe[0] - unsafe[0])
    return safe[0]
