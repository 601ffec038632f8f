"""What an attacker can achieve against a release, read off its privacy curve.

Every figure is a `Risk`: a value and the side on which it bounds the truth.
From an upper curve the success of an attack is bounded from above and its
error from below; from a lower curve the other way round; from an estimate
nothing is bounded.

>>> from drdp.privacy.gdp import gdp_curve
>>> from drdp.privacy.events import Gaussian
>>> curve = remembered(gdp_curve(Gaussian(1.0)))
>>> round(advantage(curve).value, 6)
0.382925
>>> risk = true_positive_rate(curve, 0.01)
>>> round(risk.value, 7), risk.bound
(0.0923622, 'upper')
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.curves import Bound, PrivacyCurve
from drdp.privacy.events import Event
from drdp.privacy.rdp import rdp
from drdp.privacy.tradeoff import least_error, most_power, sure_power_of_either

__all__ = [
    "AdvantageBelow",
    "AttackBelow",
    "Risk",
    "TradeOff",
    "advantage",
    "advantage_below",
    "attack_below",
    "bayes_error",
    "bayes_success",
    "positive_predictive_value",
    "reconstruction",
    "reconstruction_by_renyi",
    "remembered",
    "trade_off",
    "true_positive_rate",
]

_OTHER: dict[Bound, Bound] = {
    "upper": "lower",
    "lower": "upper",
    "estimate": "estimate",
}
_ROUNDING = 1e-15


class Risk(NamedTuple):
    """A figure, and whether the truth lies at most or at least there."""

    value: float
    bound: Bound


class TradeOff(NamedTuple):
    """One point of the trade-off between the two errors of an attack."""

    fpr: float
    fnr: float


def remembered(curve: PrivacyCurve) -> PrivacyCurve:
    """The same curve, which computes no delta twice.

    The figures of one curve ask for delta at many of the same places.
    """
    known: dict[float, float] = {}

    def profile(epsilon: float) -> float:
        if epsilon not in known:
            known[epsilon] = curve.profile(epsilon)
        return known[epsilon]

    return replace(curve, profile=profile)


def advantage(curve: PrivacyCurve) -> Risk:
    """The largest membership advantage, TPR - FPR, of any attack.

    It is the total variation, delta(0): Yeom et al. (arXiv:1709.01604) define
    it, Dong, Roth and Su (arXiv:1905.02383, Section 2) give the equality.
    """
    return Risk(curve.delta(0.0), curve.bound)


def true_positive_rate(curve: PrivacyCurve, fpr: float) -> Risk:
    """The largest true positive rate of any attack at a false positive rate.

    It is ``1 - f(fpr)`` with f the trade-off curve (Dong, Roth and Su,
    arXiv:1905.02383); what an attacker achieves at a small false positive rate
    is what Carlini et al. (arXiv:2112.03570) ask to be reported.

    A curve speaks of the worse of two neighbours' orders at each epsilon, so a
    lower curve says less about single attacks than an upper one: its value can
    be half of what is reached.  `drdp.privacy.attained` does better.

    Args:
        curve: From any accountant.
        fpr: In [0, 1].
    """
    fpr = _check.rate(fpr=fpr)
    if curve.bound == "lower":
        return Risk(sure_power_of_either(curve.delta, fpr), "lower")
    return Risk(most_power(curve.delta, fpr), curve.bound)


def trade_off(curve: PrivacyCurve, fprs: Iterable[float]) -> list[TradeOff]:
    """The smallest false negative rate at each of some false positive rates.

    The bound is the other side of the curve's: an upper curve gives rates that
    no attack undercuts.

    >>> pure = PrivacyCurve(lambda epsilon: 0.0, "upper")
    >>> [(point.fpr, round(point.fnr, 9)) for point in trade_off(pure, [0.25])]
    [(0.25, 0.75)]
    """
    checked = [_check.rate(fpr=fpr) for fpr in fprs]
    if curve.bound == "lower":
        return [TradeOff(a, 1.0 - true_positive_rate(curve, a).value) for a in checked]
    return [TradeOff(a, least_error(curve.delta, a, every=False)) for a in checked]


def bayes_error(curve: PrivacyCurve, prior: float) -> Risk:
    """The smallest error of any attacker who knows the odds beforehand.

    With ``prior`` the probability that the unit took part (or, if that is worse,
    that it did not), the least expected
    error is ``prior (1 - delta(log((1 - prior) / prior)))``, where delta is
    continued to negative epsilon by symmetry: the largest of ``TPR - x FPR`` is
    delta(log x).  No search is needed, so the bound is as good as the curve's.

    Args:
        curve: From any accountant.
        prior: In [0, 1].

    Returns:
        The error, bounded on the other side than the curve.

    >>> from drdp.privacy.events import Gaussian
    >>> from drdp.privacy.gdp import gdp_curve
    >>> risk = bayes_error(gdp_curve(Gaussian(1.0)), 0.5)
    >>> round(risk.value, 6), risk.bound
    (0.308538, 'lower')
    """
    prior = _check.rate(prior=prior)
    if prior in (0.0, 1.0):
        return Risk(0.0, _OTHER[curve.bound])
    # the curve covers both directions, so the rarer case may be taken as the
    # one that is detected
    rare = min(prior, 1.0 - prior)
    value = rare * (1.0 - curve.delta(math.log1p(-rare) - math.log(rare)))
    return Risk(min(rare, _outward(value, _OTHER[curve.bound])), _OTHER[curve.bound])


def bayes_success(curve: PrivacyCurve, prior: float) -> Risk:
    """The largest share of right answers of an attacker who knows the odds."""
    value = 1.0 - bayes_error(curve, prior).value
    return Risk(_outward(value, curve.bound), curve.bound)


def positive_predictive_value(curve: PrivacyCurve, fpr: float, prior: float) -> Risk:
    """How sure an attacker at a false positive rate can be of a "member".

    The probability that a unit called a member is one: ``prior TPR / (prior TPR
    + (1 - prior) FPR)`` (Jayaraman et al., arXiv:2005.10881).

    Args:
        curve: From any accountant.
        fpr: In (0, 1].
        prior: The share of members among the units in question, in [0, 1].
    """
    prior = _check.rate(prior=prior)
    fpr = _check.positive(fpr=_check.rate(fpr=fpr))
    hits = prior * true_positive_rate(curve, fpr).value
    misses = (1.0 - prior) * fpr
    if hits == 0.0:
        return Risk(0.0, curve.bound)
    return Risk(_outward(hits / (hits + misses), curve.bound), curve.bound)


def reconstruction(curve: PrivacyCurve, prior: float) -> Risk:
    """The largest probability that any attacker reconstructs a unit's data.

    Reconstruction robustness: `prior` is the best chance of guessing the data
    (closely enough) without the release.  No attacker does better than the true
    positive rate at a false positive rate of `prior` (Balle, Cherubin and Hayes,
    arXiv:2201.04845; Hayes, Mahloujifar and Balle, arXiv:2302.07225, on
    blow-up functions).  A lower curve says no more than that guessing reaches the
    prior.  For a pure epsilon-DP curve this is ``prior e^epsilon``.

    Args:
        curve: From any accountant.
        prior: In [0, 1]; 1/256 for one of 256 equally likely candidates.

    >>> from drdp.privacy.events import Gaussian
    >>> from drdp.privacy.gdp import gdp_curve
    >>> round(reconstruction(gdp_curve(Gaussian(1.0)), 1 / 256).value, 7)
    0.0484504
    """
    prior = _check.rate(prior=prior)
    if curve.bound == "lower":
        return Risk(prior, "lower")
    return true_positive_rate(curve, prior)


def reconstruction_by_renyi(
    event: Event,
    prior: float,
    *,
    orders: Iterable[float] | None = None,
    divergence: Callable[[Event, float], float] = rdp,
) -> Risk:
    """Reconstruction robustness from Renyi divergences alone.

    ``(prior e^r(a))^((a - 1) / a)`` for the best order a, with r(a) the Renyi
    divergence (Balle, Cherubin and Hayes, arXiv:2201.04845).  Looser
    than `reconstruction` from a certified curve; for comparison with published
    figures.

    Args:
        event: What was released.
        prior: In [0, 1].
        orders: The orders to try; by default the best real one is looked for.
        divergence: The Renyi divergence of an event at an order.

    >>> from drdp.privacy.events import Gaussian
    >>> round(reconstruction_by_renyi(Gaussian(1.0), 1 / 256).value, 7)
    0.0662077
    """
    prior = _check.rate(prior=prior)
    if prior in (0.0, 1.0):
        return Risk(prior, "upper")

    def log_success(order: float) -> float:
        spent = divergence(event, order)
        return (math.log(prior) + spent) * (order - 1.0) / order

    if orders is not None:
        tried = [log_success(order) for order in orders]
        if not tried:
            raise InvalidArgumentError("orders must not be empty")
    else:
        # in the logarithm of (order - 1), every order gives a bound
        places = [2.0 ** (0.5 * k) for k in range(-12, 17)]
        tried = [log_success(1.0 + place) for place in places]
        best = places[tried.index(min(tried))]
        low, high = math.log(best) - 0.5, math.log(best) + 0.5
        for _ in range(48):
            third = (high - low) * 0.381966011250105
            left = log_success(1.0 + math.exp(low + third))
            right = log_success(1.0 + math.exp(high - third))
            tried += [left, right]
            low, high = (low, high - third) if left < right else (low + third, high)
    log = min(tried)
    if log == math.inf:
        return Risk(1.0, "upper")
    return Risk(min(1.0, math.exp(log) * (1.0 + 8.0 * _ROUNDING)), "upper")


def _outward(value: float, bound: Bound) -> float:
    """A computed probability, moved by its rounding to the side of its bound."""
    slack = {"upper": _ROUNDING, "lower": -_ROUNDING, "estimate": 0.0}[bound]
    return min(1.0, max(0.0, value * (1.0 + 4.0 * slack)))


# Targets ---------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class AdvantageBelow:
    """Whether no attack has a larger advantage: delta(0) <= most."""

    most: float

    def __call__(self, curve: PrivacyCurve, /) -> bool:
        """True where the curve meets the target."""
        return curve.delta(0.0) <= self.most

    def excess(self, curve: PrivacyCurve) -> float:
        """The log odds above those of the target; at most 0 where it is met."""
        return _log_odds(curve.delta(0.0), self.most)


@final
@dataclass(frozen=True, slots=True)
class AttackBelow:
    """Whether no attack reaches a true positive rate at a false positive rate."""

    tpr: float
    fpr: float

    def __call__(self, curve: PrivacyCurve, /) -> bool:
        """True where the curve meets the target."""
        return true_positive_rate(curve, self.fpr).value <= self.tpr

    def excess(self, curve: PrivacyCurve) -> float:
        """The log odds above those of the target; at most 0 where it is met."""
        return _log_odds(true_positive_rate(curve, self.fpr).value, self.tpr)


def advantage_below(most: float) -> AdvantageBelow:
    """The target that no membership attack has an advantage above `most`.

    Args:
        most: Strictly between 0 and 1.

    >>> from drdp.privacy.calibration import calibrate
    >>> from drdp.privacy.events import Gaussian
    >>> from drdp.privacy.gdp import gdp_curve
    >>> round(calibrate(Gaussian, gdp_curve, advantage_below(0.3829249)), 5)
    1.0
    """
    return AdvantageBelow(_check.probability(most=most))


def attack_below(tpr: float, fpr: float) -> AttackBelow:
    """The target that no attack exceeds `tpr` at a false positive rate `fpr`.

    Args:
        tpr: Strictly between `fpr` and 1: guessing alone reaches `fpr`.
        fpr: Strictly between 0 and 1.

    >>> attack_below(0.01, 0.05)
    Traceback (most recent call last):
    drdp.errors.InvalidArgumentError: tpr must be above fpr=0.05, ... got 0.01
    """
    tpr, fpr = _check.probability(tpr=tpr), _check.probability(fpr=fpr)
    if tpr <= fpr:
        raise InvalidArgumentError(
            f"tpr must be above fpr={fpr!r}, which guessing alone reaches; got {tpr!r}"
        )
    return AttackBelow(tpr, fpr)


def _log_odds(value: float, target: float) -> float:
    """Exactly 0 or less where `value` is at most `target`."""
    if value <= 0.0:
        return -math.inf
    if value >= 1.0:
        return math.inf
    if value == target:
        return 0.0
    found = math.log(value / target) + math.log1p(-target) - math.log1p(-value)
    return max(found, 1e-300) if value > target else min(found, -1e-300)
