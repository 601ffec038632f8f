"""The usual figures of risk of one event, each bounded from both sides.

The upper end of a figure is what no attack exceeds, the lower end what the
best attack reaches on the worst pair of neighbouring data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, final

from drdp.errors import EstimateRefusedError
from drdp.privacy import risk
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import Adjacency, Event, FixedSizeSampled, atoms
from drdp.privacy.pld import pld_curve

__all__ = ["FPRS", "PRIORS", "Figure", "certified_curve", "figures"]

Name = Literal[
    "advantage",
    "true_positive_rate",
    "bayes_success",
    "positive_predictive_value",
    "reconstruction",
]

FPRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false positive rates of a report, unless others are asked for."""

PRIORS = (0.5, 0.1, 1 / 256, 1e-6)
"""The chances of guessing right without the release, likewise."""

_EVEN = 0.5
_PREDICTED_AT = 1e-3


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of risk.

    Args:
        name: What it is; each name is a function of `drdp.privacy.risk`.
        upper: No attack achieves more.
        lower: The best attack achieves at least this; None where not asked.
        fpr: The false positive rate that it is about, if any.
        prior: The probability beforehand that it is about, if any.
    """

    name: Name
    upper: float
    lower: float | None = None
    fpr: float | None = None
    prior: float | None = None


def figures(
    above: PrivacyCurve,
    below: PrivacyCurve | None = None,
    *,
    fprs: Iterable[float] = FPRS,
    priors: Iterable[float] = PRIORS,
    reached: Callable[[float], float] | None = None,
) -> list[Figure]:
    """The figures of a report.

    Args:
        above: An upper curve of what was released.
        below: A lower curve of it, where there is one.
        fprs: The false positive rates at which to give the true positive rate.
        priors: The chances beforehand of guessing a unit's data.
        reached: The true positive rate that some attack reaches, by false
            positive rate, e.g. from `drdp.privacy.attained`.

    Raises:
        EstimateRefusedError: If `above` is no upper curve: a figure that no
            attack exceeds cannot be read off an estimate.

    >>> from drdp.privacy.events import Gaussian
    >>> event = Gaussian(1.0)
    >>> curves = [certified_curve(event, side) for side in ("upper", "lower")]
    >>> [first, *_] = figures(*curves)
    >>> first.name, round(first.upper, 6), round(first.lower or 0, 6)
    ('advantage', 0.382925, 0.382925)
    """
    if above.bound != "upper" or (below is not None and below.bound != "lower"):
        raise EstimateRefusedError(
            "figures need an upper curve and, if any, a lower one; use pld_curve"
        )

    def single(
        name: Name,
        ask: Callable[[PrivacyCurve], risk.Risk],
        prior: float | None = None,
    ) -> Figure:
        upper = ask(above).value
        lower = None if below is None else min(ask(below).value, upper)
        return Figure(name, upper, lower, prior=prior)

    def rate_at(fpr: float) -> Figure:
        upper = risk.true_positive_rate(above, fpr).value
        lower = None if reached is None else min(reached(fpr), upper)
        return Figure("true_positive_rate", upper, lower, fpr)

    def claims_at(rate: Figure) -> Figure:
        fpr = rate.fpr or 0.0
        upper = risk.positive_predictive_value(above, fpr, _EVEN).value
        lower = None if rate.lower is None else rate.lower / (rate.lower + fpr)
        lower = None if lower is None else lower * (1.0 - 1e-14)
        return Figure("positive_predictive_value", upper, lower, fpr, _EVEN)

    def rebuilt_from(prior: float) -> Figure:
        upper = risk.reconstruction(above, prior).value
        return Figure("reconstruction", upper, prior=prior)

    return [
        single("advantage", risk.advantage),
        *map(rate_at, fprs),
        claims_at(rate_at(_PREDICTED_AT)),
        single("bayes_success", lambda c: risk.bayes_success(c, _EVEN), _EVEN),
        *map(rebuilt_from, priors),
    ]


def certified_curve(event: Event, bound: Literal["upper", "lower"]) -> PrivacyCurve:
    """The certified curve of an event, fit for many questions in a row.

    Where every question takes a grid of its own, the grid is coarser.
    """
    gridded = any(
        isinstance(atom, FixedSizeSampled)
        or getattr(atom, "adjacency", None) is Adjacency.REPLACE_ONE
        for atom in atoms(event)
    )
    tolerance = 1e-4 if gridded else 1e-6
    return risk.remembered(pld_curve(event, bound=bound, tolerance=tolerance))
