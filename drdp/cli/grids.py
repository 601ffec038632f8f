"""Grids of one or two quantities, and one answer for each of their points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import click

from drdp.cli import options
from drdp.cli.answers import accountant_named, solved_noise
from drdp.cli.plan import Plan
from drdp.errors import CalibrationError
from drdp.privacy.calibration import within
from drdp.privacy.curves import Bound
from drdp.privacy.risk import advantage, remembered, true_positive_rate

__all__ = ["NEEDS", "Found", "Point", "Quantity", "Sweep", "grid", "solve"]

Quantity = Literal["sigma", "epsilon", "delta", "advantage", "tpr"]
Point = Mapping[str, Any]

NEEDS: Mapping[str, tuple[str, ...]] = {
    "sigma": ("epsilon", "steps", "rate"),
    "epsilon": ("sigma", "steps", "rate"),
    "delta": ("sigma", "steps", "rate", "epsilon"),
    "advantage": ("sigma", "steps", "rate"),
    "tpr": ("sigma", "steps", "rate"),
}
"""What each quantity is computed from, besides delta."""

_MANY = 64  # from here on compiled kernels, which start slowly, are worth it


@dataclass(frozen=True, slots=True)
class Found:
    """The answer at one point; None where there is none, and why."""

    value: float | None
    bound: Bound = "upper"
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is computed, from what, over which grids.

    Args:
        quantity: What is computed.
        plan: The run, without what the grids vary.
        axes: The values of each quantity that it is computed from, by name.
        accountant: Who computes it.
        fpr: The false positive rate, where the quantity is a tpr.
    """

    quantity: Quantity
    plan: Plan
    axes: Mapping[str, Sequence[Any]]
    accountant: str
    fpr: float | None = None

    @property
    def varied(self) -> list[str]:
        """The axes with more than one value, the longest first."""
        several = [name for name, values in self.axes.items() if len(values) > 1]
        return sorted(several, key=lambda name: -len(self.axes[name]))

    @property
    def points(self) -> list[Point]:
        """Every point, the last axis fastest."""
        return [
            dict(zip(self.axes, values, strict=True))
            for values in itertools.product(*self.axes.values())
        ]


def grid(check: options.Check, *, whole: bool = False) -> options.Check:
    """Values separated by commas, or ``first:last:count`` with ``:log`` or not."""
    listed = options.listed(check, most=options.LONGEST_LIST)

    def read(text: str) -> list[Any]:
        if ":" not in text:
            return _distinct(listed(text))
        parts = text.split(":")
        if len(parts) not in (3, 4) or parts[3:] not in ([], ["log"]):
            raise click.BadParameter(
                f"must be first:last:count or first:last:count:log, got {text:.60}"
            )
        first, last, count = parts[:3]
        ends, number = (check(first), check(last)), options.whole(count)
        if not 2 <= number <= options.LONGEST_LIST:
            raise click.BadParameter(
                f"takes 2 to {options.LONGEST_LIST} values, got {count:.60}"
            )
        if ends[0] >= ends[1]:
            raise click.BadParameter(f"must rise from first to last, got {text:.60}")
        return _distinct(_spaced(ends, number, len(parts) == 4, whole))

    return read


def _spaced(ends: tuple[Any, Any], number: int, log: bool, whole: bool) -> list[Any]:
    low, high = map(float, ends)
    values: list[Any] = []
    for k in range(number):
        share = k / (number - 1)
        value = (
            math.exp((1.0 - share) * math.log(low) + share * math.log(high))
            if log
            else (1.0 - share) * low + share * high
        )
        shown = float(f"{value:.6g}")  # as it will be printed
        values.append(round(value) if whole else _like(ends[0], shown))
    values[0], values[-1] = ends
    return values


def _like(end: Any, value: float) -> Any:
    """The number in the form that the option's check gives."""
    return Fraction(repr(value)) if isinstance(end, Fraction) else value


def _distinct(values: list[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def solve(sweep: Sweep) -> Iterator[Found]:
    """The answers at `sweep.points`, in that order, as they are found."""
    points = sweep.points
    together = (
        len(points) >= _MANY
        and sweep.quantity in ("sigma", "epsilon", "delta")
        and sweep.accountant == "pld"
        and sweep.plan.sampling == "poisson"
        and sweep.plan.adjacency != "replace-one"
    )
    if not together:
        for point in points:
            yield _alone(sweep, point)
        return
    for start in range(0, len(points), _MANY):
        yield from _many(sweep, points[start : start + _MANY])


def _many(sweep: Sweep, points: Sequence[Point]) -> Iterator[Found]:
    """Some answers at once, by the compiled kernels."""
    from drdp.privacy import batch

    def column(name: str) -> list[float]:
        return [float(point[name]) for point in points]

    rate, steps = column("rate"), column("steps")
    try:
        if sweep.quantity == "sigma":
            found = batch.noise_multipliers(
                column("epsilon"), delta=column("delta"), rate=rate, steps=steps
            )
        elif sweep.quantity == "epsilon":
            found = batch.epsilons(
                column("sigma"), rate=rate, steps=steps, delta=column("delta")
            )
        else:
            found = batch.deltas(
                column("sigma"), rate=rate, steps=steps, epsilon=column("epsilon")
            )
    except CalibrationError:  # of one of them
        for point in points:
            yield _alone(sweep, point)
        return
    for value in found:
        yield Found(float(value))


def _alone(sweep: Sweep, point: Point) -> Found:
    plan = replace(
        sweep.plan,
        noise_multiplier=point.get("sigma"),
        steps=point["steps"],
        rate=point["rate"],
        delta=point.get("delta"),
    )
    accountant = accountant_named(sweep.accountant)
    if sweep.quantity == "sigma":
        target = within(point["epsilon"], point["delta"])
        allow = sweep.accountant != "pld"
        try:
            value, solved = solved_noise(plan, accountant, target, allow)
        except CalibrationError as error:
            return Found(None, problem=str(error))
        return Found(value, accountant(solved.event()).bound)
    curve = remembered(accountant(plan.event()))
    if sweep.quantity == "epsilon":
        return Found(curve.epsilon(point["delta"]), curve.bound)
    if sweep.quantity == "delta":
        return Found(curve.delta(point["epsilon"]), curve.bound)
    if sweep.quantity == "advantage":
        return Found(*advantage(curve))
    return Found(*true_positive_rate(curve, sweep.fpr or 0.0))
