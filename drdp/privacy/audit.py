"""What attacks on a running system prove: lower bounds on its epsilon.

An audit plays a game whose outcome a guarantee limits, and says with a stated
confidence how large epsilon must be for what was seen.  It never proves that
something is private.

>>> found = two_sample(500, 1000, 0, 1000, delta=1e-5)
>>> round(found.epsilon, 4), round(found.mu, 4)
(4.8461, 2.601)
>>> round(one_run(1000, 100, 95, delta=1e-5), 4)
2.1652
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy._special import solve_gaussian_epsilon
from drdp.privacy.curves import PrivacyCurve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CONFIDENCE",
    "TwoSample",
    "clopper_pearson",
    "gaussian_epsilon",
    "one_run",
    "one_run_mu",
    "one_run_p_value",
    "refutes",
    "two_sample",
]

CONFIDENCE = 0.95
"""With what probability, at least, a bound given here is right."""

_HALVINGS = 60
_MOST_EPSILON = 1e3
_FAR = 40.0  # standard deviations beyond which a binomial adds nothing


@final
@dataclass(frozen=True, slots=True)
class TwoSample:
    """What a test with two kinds of error proves.

    Args:
        epsilon: The guarantee at this delta has at least this epsilon.
        mu: A Gaussian guarantee has at least this mu.
        tpr: Lower confidence limit of the true positive rate.
        fpr: Upper confidence limit of the false positive rate.
    """

    epsilon: float
    mu: float
    tpr: float
    fpr: float


def clopper_pearson(
    successes: int, trials: int, level: float = 0.025
) -> tuple[float, float]:
    """Confidence limits of a probability, each wrong with probability `level`.

    >>> low, high = clopper_pearson(500, 1000)
    >>> round(low, 7), round(high, 7)
    (0.4685492, 0.5314508)
    """
    from scipy.special import betaincinv

    trials = _check.count(least=1, trials=trials)
    successes = _check.count(successes=successes)
    level = _check.probability(level=level)
    if successes > trials:
        raise InvalidArgumentError(
            f"successes must be at most trials={trials}, got {successes}"
        )
    failures = trials - successes
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(betaincinv(successes, failures + 1, level))
    if failures > 0:
        high = float(betaincinv(successes + 1, failures, 1.0 - level))
    return low, high


def two_sample(
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
) -> TwoSample:
    """A lower bound from an attack on many independent runs.

    Half of the runs had the unit in, half had it out; the attack said for each
    which it takes it to be, by a rule that was fixed beforehand.

    Args:
        true_positives: Of the runs with the unit, how many it called "in".
        positives: How many runs had the unit.
        false_positives: Of the runs without it, how many it called "in".
        negatives: How many runs did not have it.
        delta: Of the guarantee that is tested, at least 0.
        confidence: With what probability the bound is right.

    Returns:
        Bounds of 0 where the attack shows nothing.

    References: Jagielski, Ullman and Oprea, arXiv:2006.07709; Nasr et al.,
    arXiv:2302.07956 (the Gaussian form).
    """
    delta = _check.rate(delta=delta)
    level = (1.0 - _check.probability(confidence=confidence)) / 2.0
    low, _ = clopper_pearson(true_positives, positives, level)
    _, high = clopper_pearson(false_positives, negatives, level)
    # Each limit alone is wrong with probability `level`; both uses below look at
    # the same two, and at the two that say the same about calling "out".
    epsilon = max(
        0.0, _log_ratio(low - delta, high), _log_ratio(1.0 - high - delta, 1.0 - low)
    )
    mu = max(0.0, _normal_quantile(low) - _normal_quantile(high))
    return TwoSample(epsilon, mu, low, high)


def one_run_p_value(
    canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float
) -> float:
    """How likely so many right guesses are, at most, under (epsilon, delta)-DP.

    Args:
        canaries: m, each in the run with probability 1/2, independently.
        guesses: r, on how many of them the attack committed itself.  It must be
            fixed beforehand, or the p-value corrected for the choice.
        correct: v, how many of the guesses were right.
        epsilon: At least 0.
        delta: At least 0.

    References: Steinke, Nasr and Jagielski, arXiv:2305.08846, Theorem 5.2 and
    Appendix D.
    """
    canaries, guesses, correct = _counts(canaries, guesses, correct)
    epsilon = _check.at_least_zero(epsilon=epsilon)
    delta = _check.rate(delta=delta)
    return _p_value(canaries, guesses, correct, epsilon, delta)


def one_run(
    canaries: int,
    guesses: int,
    correct: int,
    *,
    delta: float,
    confidence: float = CONFIDENCE,
) -> float:
    """A lower bound on epsilon from one run with many canaries.

    Holds under add/remove and zero-out adjacency with independent inclusion.
    Arguments as for `one_run_p_value`.

    >>> round(one_run(100, 100, 100, delta=0.0), 6)
    3.492965
    """
    canaries, guesses, correct = _counts(canaries, guesses, correct)
    delta = _check.rate(delta=delta)
    level = 1.0 - _check.probability(confidence=confidence)
    return _largest(
        lambda epsilon: _p_value(canaries, guesses, correct, epsilon, delta) < level
    )


def one_run_mu(
    canaries: int, guesses: int, correct: int, *, confidence: float = CONFIDENCE
) -> float:
    """A lower bound on mu of Gaussian DP from one run; tighter than `one_run`.

    A bound on epsilon at some delta follows by `gaussian_epsilon`-like
    conversion of mu only if the mechanism is known to be Gaussian; otherwise
    use `refutes` on the curve that is claimed.

    References: Mahloujifar, Melis and Chaudhuri, arXiv:2410.22235.
    """
    canaries, guesses, correct = _counts(canaries, guesses, correct)
    level = 1.0 - _check.probability(confidence=confidence)
    from scipy.special import ndtr, ndtri

    def refuted(mu: float) -> bool:
        return _refuted(
            canaries,
            guesses,
            correct,
            level,
            lambda share: float(ndtr(ndtri(share) - mu)),
        )

    return _largest(refuted)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of mu-GDP at a delta.

    >>> round(gaussian_epsilon(1.0, 1e-5), 5)
    4.37718
    """
    mu = _check.at_least_zero(mu=mu)
    return solve_gaussian_epsilon(_check.probability(delta=delta), mu) if mu else 0.0


def refutes(
    canaries: int,
    guesses: int,
    correct: int,
    claimed: PrivacyCurve,
    *,
    confidence: float = CONFIDENCE,
) -> bool:
    """Whether one run contradicts a claimed curve, of whatever mechanism.

    Args:
        canaries: As for `one_run_p_value`.
        guesses: Likewise.
        correct: Likewise.
        claimed: An upper curve; its trade-off function is what is tested.
        confidence: With what probability a true claim is left standing.

    References: Mahloujifar, Melis and Chaudhuri, arXiv:2410.22235.
    """
    canaries, guesses, correct = _counts(canaries, guesses, correct)
    level = 1.0 - _check.probability(confidence=confidence)
    return _refuted(
        canaries,
        guesses,
        correct,
        level,
        lambda share: claimed.beta(min(1.0, max(0.0, 1.0 - share))),
    )


def _counts(canaries: int, guesses: int, correct: int) -> tuple[int, int, int]:
    canaries = _check.count(least=1, canaries=canaries)
    guesses = _check.count(least=1, guesses=guesses)
    correct = _check.count(correct=correct)
    if guesses > canaries or correct > guesses:
        raise InvalidArgumentError(
            f"correct <= guesses <= canaries must hold, got {correct}, {guesses} and"
            f" {canaries}"
        )
    return canaries, guesses, correct


def _p_value(
    canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> float:
    from scipy.special import bdtrc

    if correct == 0:
        return 1.0
    right = 1.0 / (1.0 + math.exp(-epsilon))
    beyond = float(bdtrc(correct - 1, guesses, right))
    if delta == 0.0:
        return min(1.0, beyond)
    shares = _before(guesses, correct, right)
    return min(1.0, beyond + 2.0 * canaries * delta * shares)


def _before(guesses: int, correct: int, right: float) -> float:
    """max over i of P[correct - i <= Bin < correct] / i, for 1 <= i <= correct."""
    import numpy as np
    from scipy.stats import binom

    spread = math.sqrt(guesses * right * (1.0 - right))
    least = max(0, math.floor(min(correct - 1, guesses * right - _FAR * spread) - 60))
    counts = np.arange(correct - 1, least - 1, -1)
    masses: NDArray[np.float64] = np.asarray(binom.pmf(counts, guesses, right))
    return float(np.max(np.cumsum(masses) / np.arange(1, len(masses) + 1)))


def _refuted(
    canaries: int,
    guesses: int,
    correct: int,
    level: float,
    inverse: Callable[[float], float],
) -> bool:
    """The recursion of Mahloujifar et al., for two answers per canary.

    `inverse` is y -> f(1 - y): the smallest share that the trade-off function
    can blow up to y.
    """
    r = level * correct / canaries
    h = level * (guesses - correct) / canaries
    for i in range(correct - 1, -1, -1):
        larger = max(h, inverse(r))
        if larger == h:
            break
        r = min(1.0, r + i / (guesses - i) * (larger - h))
        h = larger
    return r + h > guesses / canaries


def _largest(refuted: Callable[[float], bool]) -> float:
    """The largest value that is refuted, by halving; 0 if none is."""
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2.0 * high
        if high > _MOST_EPSILON:
            return low
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _log_ratio(top: float, bottom: float) -> float:
    if top <= 0.0:
        return -math.inf
    return math.inf if bottom <= 0.0 else math.log(top / bottom)


def _normal_quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))
