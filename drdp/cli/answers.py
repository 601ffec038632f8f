"""What each accountant says about a plan, and what that really costs.

The certified interval stands beside every answer, so that an estimate which
promises too much is seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import drdp
from drdp.cli.plan import Plan
from drdp.errors import CalibrationError, DrdpError
from drdp.privacy.calibration import (
    Within,
    calibrate,
    calibrate_count,
    within,
)
from drdp.privacy.curves import Accountant, Bound, Interval, PrivacyCurve
from drdp.privacy.events import Event
from drdp.privacy.gdp import clt_noise_multiplier
from drdp.privacy.inversion import noise_multiplier_for
from drdp.privacy.pld import delta_interval, epsilon_interval

__all__ = [
    "MOST_STEPS",
    "Answer",
    "Inversion",
    "Spending",
    "Unknown",
    "Verdict",
    "accountant_named",
    "invert",
    "or_problem",
    "solved_noise",
    "spend",
]

Unknown = Literal["noise_multiplier", "steps", "rate"]
Verdict = Literal["within", "under-reports", "not-certified"]

MOST_STEPS = 10**9
_LOWEST_RATE = 1e-12
_COMPARED = ("pld", "gdp", "rdp")
_COARSE = 1e-4  # how precisely the cost of a compared answer needs to be known


@dataclass(frozen=True, slots=True)
class Answer:
    """One accountant's answer.

    `certified` is what the answer really costs; `problem` says why there is no
    answer, and then the other fields are None.
    """

    accountant: str
    value: float | None = None
    bound: Bound | None = None
    plan: Plan | None = None
    certified: Interval | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Inversion:
    """The value of one unknown that a budget allows, by several accountants."""

    unknown: Unknown
    epsilon: float
    answer: Answer
    others: tuple[Answer, ...]

    def verdict(self, answer: Answer) -> Verdict:
        """Whether the answer keeps to the budget, as far as can be proved."""
        if answer.certified is None or answer.certified.upper <= self.epsilon:
            return "within"
        if answer.certified.lower > self.epsilon:
            return "under-reports"
        return "not-certified"


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run costs: the certified interval and what others report."""

    quantity: Literal["epsilon", "delta"]
    plan: Plan
    epsilon: float | None
    certified: Interval
    others: tuple[Answer, ...]

    def verdict(self, answer: Answer) -> Verdict:
        """Whether the reported value is at least what can be proved."""
        if answer.value is None or answer.value >= self.certified.upper:
            return "within"
        return "under-reports" if answer.value < self.certified.lower else "within"


def accountant_named(name: str) -> Accountant:
    """The accountant of that name, imported on first use."""
    found: Accountant = getattr(drdp, f"{name}_curve")
    return found


def invert(
    unknown: Unknown,
    plan: Plan,
    epsilon: float,
    *,
    accountant: str,
    compare: Iterable[str] | None,
) -> Inversion:
    """Solve a plan for its unknown, by one accountant and by others.

    Raises:
        DrdpError: If the first accountant has no answer; an other one that has
            none says why in its own row.
    """
    others = _COMPARED if compare is None else compare
    return Inversion(
        unknown,
        epsilon,
        _solve(unknown, plan, epsilon, accountant),
        tuple(
            or_problem(
                name, lambda name: _solve(unknown, plan, epsilon, name, coarse=True)
            )
            for name in others
            if name != accountant
        ),
    )


def spend(
    plan: Plan, epsilon: float | None, *, compare: Iterable[str] | None
) -> Spending:
    """The epsilon of a plan at its delta, or its delta at a given epsilon."""
    event, delta = plan.event(), plan.delta

    def report(name: str) -> Answer:
        curve = accountant_named(name)(event)
        if epsilon is not None:
            return Answer(name, curve.delta(epsilon), curve.bound)
        return Answer(name, curve.epsilon(_known(delta)), curve.bound)

    names = _COMPARED if compare is None else compare
    others = tuple(or_problem(name, report) for name in names if name != "pld")
    if epsilon is not None:
        certified = delta_interval(event, epsilon)
        return Spending("delta", plan, epsilon, certified, others)
    certified = epsilon_interval(event, _known(delta))
    return Spending("epsilon", plan, None, certified, others)


def or_problem(name: str, ask: Callable[[str], Answer]) -> Answer:
    """An accountant's answer, or why it has none."""
    try:
        return ask(name)
    except DrdpError as error:
        return Answer(name, problem=str(error))


def _cost(plan: Plan, target: Within, coarse: bool) -> Interval:
    """What a solved plan really spends, at least so fine that a verdict is clear."""
    if 0 in (plan.steps, plan.rate):
        return Interval(0.0, 0.0, "nothing released")
    event = plan.event()
    if coarse:
        found = epsilon_interval(event, target.delta, tolerance=_COARSE)
        if not found.lower <= target.epsilon < found.upper:
            return found
    return epsilon_interval(event, target.delta)


def _solve(
    unknown: Unknown, plan: Plan, epsilon: float, name: str, *, coarse: bool = False
) -> Answer:
    target = within(epsilon, _known(plan.delta))
    bounds: list[Bound] = []
    curve_of = accountant_named(name)

    def accountant(event: Event) -> PrivacyCurve:
        curve = curve_of(event)
        bounds.append(curve.bound)
        return curve

    # An estimate is shown for what it is: never as the certified answer.
    allow = name != "pld"
    solver = {"noise_multiplier": solved_noise, "steps": _steps, "rate": _rate}[unknown]
    try:
        value, solved = solver(plan, accountant, target, allow)
    except CalibrationError as error:
        raise CalibrationError(
            f"--epsilon {epsilon:g} cannot be met exactly by --accountant {name}:"
            f" {error}"
        ) from None
    return Answer(name, value, bounds[-1], solved, _cost(solved, target, coarse))


def solved_noise(
    plan: Plan, accountant: Accountant, target: Within, allow: bool
) -> tuple[float, Plan]:
    """The noise multiplier that meets a target, and the plan with it."""
    rate, steps = float(plan.rate or 1), plan.steps or 1
    plain = plan.sampling == "poisson" and plan.stage_one_noise is None
    if not allow and plain and plan.adjacency != "replace-one":
        # Only the certified accountant never takes estimates.
        value = noise_multiplier_for(target.epsilon, target.delta, rate, steps)
        accountant(plan.with_noise(value).event())
        return value, plan.with_noise(value)
    value = calibrate(
        lambda sigma: plan.with_noise(sigma).event(),
        accountant,
        target,
        guess=clt_noise_multiplier(
            target.epsilon, target.delta, max(rate, _LOWEST_RATE), steps
        ),
        allow_estimate=allow,
    )
    return value, plan.with_noise(value)


def _steps(
    plan: Plan, accountant: Accountant, target: Within, allow: bool
) -> tuple[int, Plan]:
    value = calibrate_count(
        lambda steps: plan.with_steps(steps).event(),
        accountant,
        target,
        most=MOST_STEPS,
        allow_estimate=allow,
    )
    return value, plan.with_steps(value)


def _rate(
    plan: Plan, accountant: Accountant, target: Within, allow: bool
) -> tuple[float, Plan]:
    if target(accountant(plan.with_rate(1.0).event())):
        return 1.0, plan.with_rate(1.0)
    if plan.sampling == "fixed" and plan.population is not None:
        drawn = calibrate_count(
            lambda drawn: plan.with_drawn(drawn).event(),
            accountant,
            target,
            most=plan.population,
            allow_estimate=allow,
        )
        return drawn / plan.population, plan.with_drawn(drawn)
    value = calibrate(
        lambda rate: plan.with_rate(rate).event(),
        accountant,
        target,
        guess=0.01,
        lowest=_LOWEST_RATE,
        highest=1.0,
        private_side="low",
        allow_estimate=allow,
    )
    return value, plan.with_rate(value)


def _known(delta: float | None) -> float:
    if delta is None:
        raise TypeError("the plan has no delta")
    return delta
