"""The points of a curve: epsilon against rounds, or delta against epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drdp.cli.answers import accountant_named
from drdp.cli.plan import Plan
from drdp.errors import InvalidArgumentError
from drdp.privacy.curves import Bound, PrivacyCurve

__all__ = ["Against", "Curves", "Series", "trace"]

Against = Literal["rounds", "epsilon"]
Progress = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Series:
    """The values for one noise multiplier, one for each place."""

    noise_multiplier: float
    values: Sequence[float]
    bound: Bound


@dataclass(frozen=True, slots=True)
class Curves:
    """Several series over the same places, and what they assume."""

    against: Against
    plan: Plan
    accountant: str
    places: Sequence[float]
    series: Sequence[Series]

    @property
    def quantity(self) -> str:
        """What is read off: epsilon or delta."""
        return "epsilon" if self.against == "rounds" else "delta"

    @property
    def bound(self) -> Bound:
        """The bound that every series keeps: estimate where one is."""
        return _common(series.bound for series in self.series)


def trace(
    plan: Plan,
    noise_multipliers: Sequence[float],
    *,
    against: Against,
    accountant: str,
    points: int,
    progress: Progress,
) -> Curves:
    """Ask one accountant for every point of every curve.

    Against epsilon the places reach from 0 to the largest epsilon that any of
    the runs has at the plan's delta.
    """
    curve_of = accountant_named(accountant)
    runs = [plan.with_noise(sigma) for sigma in noise_multipliers]
    if against == "epsilon":
        curves = [curve_of(run.event()) for run in runs]
        places: Sequence[float] = _epsilons(curves, plan.delta or 0.0, points)
        jobs = [(curve, place) for curve in curves for place in places]
        found = [(curve.delta(at), curve.bound) for curve, at in progress(jobs)]
    else:
        places = _rounds(plan.steps or 1, points)
        found = []
        for run, count in progress([(run, count) for run in runs for count in places]):
            curve = curve_of(run.with_steps(count).event())
            found.append((curve.epsilon(plan.delta or 0.0), curve.bound))
    series = []
    for sigma in noise_multipliers:
        values, bounds = zip(*found[: len(places)], strict=True)
        del found[: len(places)]
        series.append(Series(sigma, values, _common(bounds)))
    return Curves(against, plan, accountant, places, series)


def _common(bounds: Iterable[Bound]) -> Bound:
    found = set(bounds)
    return found.pop() if len(found) == 1 else "estimate"


def _epsilons(curves: Iterable[PrivacyCurve], delta: float, points: int) -> list[float]:
    """Evenly spaced from 0 to the largest epsilon at `delta`."""
    most = max(curve.epsilon(delta) for curve in curves)
    if not 0.0 < most < math.inf:
        raise InvalidArgumentError(
            f"--sigma gives an epsilon of {most:g} at --delta {delta:g}: there is no"
            " curve to draw; change --sigma or --delta"
        )
    return [most * k / (points - 1) for k in range(points)]


def _rounds(steps: int, points: int) -> list[int]:
    """Evenly spaced whole numbers from 1 to `steps`, both included."""
    if steps <= points:
        return list(range(1, steps + 1))
    return [1 + (steps - 1) * k // (points - 1) for k in range(points)]
