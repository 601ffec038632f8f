"""The noise at which no attack achieves more than it may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from drdp.cli.answers import Answer, Verdict, accountant_named, or_problem
from drdp.cli.plan import Plan
from drdp.errors import CalibrationError
from drdp.privacy.attained import attained
from drdp.privacy.calibration import calibrate
from drdp.privacy.curves import Bound, Interval, PrivacyCurve
from drdp.privacy.events import Event
from drdp.privacy.figures import certified_curve
from drdp.privacy.gdp import clt_noise_multiplier
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.risk import (
    AdvantageBelow,
    AttackBelow,
    advantage,
    advantage_below,
    attack_below,
    true_positive_rate,
)

__all__ = ["Aim", "Protection", "protect"]

_COMPARED = ("pld", "gdp", "rdp")
_LEAST, _MOST = 1e-12, 1.0 - 1e-12


@dataclass(frozen=True, slots=True)
class Aim:
    """What no attack may exceed: an advantage, or a true positive rate."""

    figure: Literal["advantage", "true_positive_rate"]
    limit: float
    fpr: float | None = None

    @property
    def target(self) -> AdvantageBelow | AttackBelow:
        """The same as a target of `calibrate`."""
        if self.fpr is None:
            return advantage_below(self.limit)
        return attack_below(self.limit, self.fpr)

    @property
    def equivalent_advantage(self) -> float:
        """The advantage of the Gaussian release that just meets the aim."""
        if self.fpr is None:
            return self.limit
        normal = NormalDist()
        mu = normal.inv_cdf(self.limit) - normal.inv_cdf(self.fpr)
        return min(max(2.0 * normal.cdf(0.5 * mu) - 1.0, _LEAST), _MOST)

    def reached(self, event: Event) -> Interval:
        """What the best attack on an event really achieves."""
        above = certified_curve(event, "upper")
        if self.fpr is None:
            upper = advantage(above).value
            lower = advantage(certified_curve(event, "lower")).value
        else:
            upper = true_positive_rate(above, self.fpr).value
            lower = attained(event)(self.fpr)
        return Interval(min(lower, upper), upper, "certified curve")


@dataclass(frozen=True, slots=True)
class Protection:
    """The noise that an aim needs, by several accountants.

    In an answer `certified` is what the best attack really achieves; `epsilon`
    is what the first answer's noise costs at the plan's delta.
    """

    aim: Aim
    answer: Answer
    epsilon: Interval
    others: tuple[Answer, ...]

    def verdict(self, answer: Answer) -> Verdict:
        """Whether the answer keeps to the aim, as far as can be proved."""
        if answer.certified is None or answer.certified.upper <= self.aim.limit:
            return "within"
        if answer.certified.lower > self.aim.limit:
            return "under-reports"
        return "not-certified"


def protect(
    plan: Plan, aim: Aim, *, accountant: str, compare: Iterable[str] | None
) -> Protection:
    """Solve a plan for its noise, by one accountant and by others.

    Raises:
        DrdpError: If the first accountant has no answer; an other one that has
            none says why in its own row.
    """
    others = _COMPARED if compare is None else compare
    answer = _solve(plan, aim, accountant)
    solved = answer.plan or plan
    return Protection(
        aim,
        answer,
        epsilon_interval(solved.event(), plan.delta or 0.0),
        tuple(
            or_problem(name, lambda name: _solve(plan, aim, name))
            for name in others
            if name != accountant
        ),
    )


def _solve(plan: Plan, aim: Aim, name: str) -> Answer:
    curve_of, bounds = accountant_named(name), list[Bound]()

    def accountant(event: Event) -> PrivacyCurve:
        curve = curve_of(event)
        bounds.append(curve.bound)
        return curve

    rate, steps = float(plan.rate or 1), plan.steps or 1
    try:
        value = calibrate(
            lambda sigma: plan.with_noise(sigma).event(),
            accountant,
            aim.target,
            guess=clt_noise_multiplier(0.0, aim.equivalent_advantage, rate, steps),
            allow_estimate=name != "pld",
        )
    except CalibrationError as error:
        option = "--advantage" if aim.fpr is None else "--tpr"
        raise CalibrationError(
            f"{option} {aim.limit:g} cannot be met exactly by --accountant {name}:"
            f" {error}"
        ) from None
    solved = plan.with_noise(value)
    return Answer(name, value, bounds[-1], solved, aim.reached(solved.event()))
