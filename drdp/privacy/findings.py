"""What an audit found, beside what was claimed: bounds, a verdict, a picture's points.

A claim is a wall in the plane of false and true positive rates.  An audit that
finds, at its confidence, an attack beyond the wall refutes the claim; one that
does not proves nothing in its favour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.audit import (
    CONFIDENCE,
    TwoSample,
    clopper_pearson,
    one_run,
    one_run_mu,
    refutes,
)
from drdp.privacy.curves import Interval, PrivacyCurve
from drdp.privacy.events import Event
from drdp.privacy.pld import epsilon_interval, pld_curve
from drdp.privacy.risk import remembered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Beyond",
    "Claim",
    "Finding",
    "Jointly",
    "Verdict",
    "judged_canaries",
    "points",
    "shared_out",
    "verdict_on",
]

Verdict = Literal["consistent", "violated", "vacuous"]

_TOLERANCE = 1e-3  # of the wall, in epsilon; trials are never so sharp
_MOST_POINTS = 200
_FEWEST_CANARIES = 10


@final
@dataclass(frozen=True, slots=True)
class Claim:
    """What is said to have been released, ready to be tested.

    Args:
        event: The claim.
        certified: Its epsilon at the audit's delta.
        curve: Its upper curve.
    """

    event: Event
    certified: Interval
    curve: PrivacyCurve

    @classmethod
    def of(cls, event: Event, delta: float) -> Claim:
        """The claim of an event, accounted for at a delta; the last ones are kept."""
        return _claim(event, _check.probability(delta=delta))

    def beyond(self, sure: Iterable[TwoSample]) -> Beyond | None:
        """The first of some confidence limits that no attack may have, if any.

        Calling "out" is an attack as good as calling "in": both are looked at.
        """
        for one in sure:
            for tpr, fpr in ((one.tpr, one.fpr), (1.0 - one.fpr, 1.0 - one.tpr)):
                allowed = 1.0 - self.curve.beta(fpr)
                if tpr > allowed:
                    return Beyond(tpr, fpr, allowed)
        return None


@final
@dataclass(frozen=True, slots=True)
class Beyond:
    """A point beyond the wall.

    Args:
        tpr: The true positive rate is at least this,
        fpr: the false positive rate at most this,
        allowed: and with that the claim allows only this true positive rate.
    """

    tpr: float
    fpr: float
    allowed: float


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of an audit.

    Args:
        epsilon: With the stated confidence, the truth at `delta` is no less.
        mu: Likewise of a Gaussian guarantee's mu.
        delta: Of the guarantee.
        confidence: With what probability a true claim is not called violated.
        trials: How many outcomes were tested, those in and those out together.
        verdict: ``"violated"``: the claim is false; ``"consistent"``: the attack
            proved something, and no more than is claimed; ``"vacuous"``: it
            proved nothing, or the claim forbids nothing.  None without a claim.
        certified: The claim's epsilon at `delta`; None without a claim.
        attack: What told in from out.
        rates: Points (FPR, TPR) of that attack as measured, without confidence.
        beyond: Where a wall was crossed by independent runs.
    """

    epsilon: float
    mu: float
    delta: float
    confidence: float
    trials: int
    verdict: Verdict | None
    certified: Interval | None
    attack: str
    rates: tuple[tuple[float, float], ...] = ()
    beyond: Beyond | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an infinite number is ``"inf"``."""
        found = self.certified
        return {
            "verdict": self.verdict,
            "confidence": self.confidence,
            "delta": self.delta,
            "epsilon_at_least": _finite(self.epsilon),
            "mu_at_least": _finite(self.mu),
            "certified": None
            if found is None
            else {"lower": _finite(found.lower), "upper": _finite(found.upper)},
            "trials": self.trials,
            "attack": self.attack,
            "beyond": None if self.beyond is None else asdict(self.beyond),
            "rates": [list(pair) for pair in self.rates],
        }

    def sentence(self) -> str:
        """The verdict in words."""
        share = f"{100.0 * self.confidence:g} %"
        shown = f"epsilon is at least {self.epsilon:.4g} at delta {self.delta:g}"
        if self.verdict is None:
            return f"With {share} confidence {shown}."
        if self.verdict == "violated":
            told = ""
            if self.beyond is not None:
                one = self.beyond
                told = (
                    f": at an FPR of at most {one.fpr:.4g} its TPR is at least"
                    f" {one.tpr:.4g}, where {one.allowed:.4g} is allowed"
                )
            return (
                f"VIOLATED: with {share} confidence the claim is false. The attack"
                f" ({self.attack}) does what it forbids{told}."
            )
        if self.verdict == "vacuous":
            return (
                "Vacuous: the attack proved nothing, or the claim forbids nothing;"
                " this neither supports nor refutes it."
            )
        return (
            f"Consistent: with {share} confidence {shown}, which the claim allows."
            " An audit never proves that something is private."
        )


@final
@dataclass(frozen=True, slots=True)
class Jointly:
    """Several audits of one claim, with one confidence for all of them together.

    Args:
        confidence: With what probability a true claim survives all of them, and
            all their bounds hold.
        parts: Audits by name, each at the confidence of `shared_out`.
    """

    confidence: float
    parts: tuple[tuple[str, Finding], ...]

    @property
    def verdict(self) -> Verdict | None:
        """Violated if the claim fell in one of them."""
        found = {part.verdict for _, part in self.parts}
        order: tuple[Verdict, ...] = ("violated", "consistent", "vacuous")
        return next((word for word in order if word in found), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "verdict": self.verdict,
            "confidence": self.confidence,
            "seen": {name: part.to_dict() for name, part in self.parts},
        }


def shared_out(confidence: float, tests: int) -> float:
    """The confidence that each of several tests needs for all to have this one.

    By Bonferroni's inequality, so that tests may depend on each other, for
    instance look at the same runs.

    >>> shared_out(0.95, 1), round(shared_out(0.95, 5), 12)
    (0.95, 0.99)
    """
    tests = _check.count(least=1, tests=tests)
    confidence = _check.probability(confidence=confidence)
    return confidence if tests == 1 else 1.0 - (1.0 - confidence) / tests


@lru_cache(maxsize=32)
def _claim(event: Event, delta: float) -> Claim:
    curve = remembered(pld_curve(event, tolerance=_TOLERANCE))
    return Claim(event, epsilon_interval(event, delta), curve)


def verdict_on(
    claim: Claim | None, *, refuted: bool, epsilon: float, mu: float
) -> Verdict | None:
    """The word for what was found."""
    if claim is None:
        return None
    if refuted:
        return "violated"
    if math.isinf(claim.certified.upper) or max(epsilon, mu) == 0.0:
        return "vacuous"
    return "consistent"


def points(
    inside: NDArray[np.float64], outside: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """Points (FPR, TPR) of calling the largest scores "in", at most 200.

    >>> import numpy as np
    >>> points(np.array([2.0, 3.0]), np.array([1.0, 2.5]))
    ((0.0, 0.5), (0.5, 1.0), (1.0, 1.0))
    """
    import numpy as np

    ups, downs = np.sort(inside), np.sort(outside)
    most = len(downs)
    ranks = np.unique(np.geomspace(1, most + 1, _MOST_POINTS).round().astype(int)) - 1
    found = {}
    for rank in ranks.tolist():
        # The rule that calls `rank` of those outside "in", ties against it.
        cut = -math.inf if rank == most else float(downs[most - 1 - rank])
        fpr = float(np.mean(downs > cut)) if rank < most else 1.0
        found[fpr] = float(np.mean(ups > cut)) if rank < most else 1.0
    return tuple(sorted(found.items()))


def judged_canaries(
    scores: NDArray[np.float64],
    inside: NDArray[np.bool_],
    rehearsal: tuple[NDArray[np.float64], NDArray[np.bool_]],
    *,
    delta: float,
    event: Event | None = None,
    confidence: float = CONFIDENCE,
    attack: str = "likelihood ratio of each canary",
) -> Finding:
    """What many canaries prove that shared one run, or a few.

    Args:
        scores: Of each canary, larger for "in".
        inside: Which ones were in, each by a fair coin of its own.
        rehearsal: Scores and truths of other runs, where it is decided on how
            many of the highest and lowest scores to commit.
        delta: Of the guarantee.
        event: What is claimed for a change of one canary; None for no claim.
        confidence: Of bounds and verdict together: each is wrong only where the
            number of right guesses exceeds some number, so that whatever is wrong
            comes with what goes wrong most easily.
        attack: Its name.

    Guarantees:
        A true claim is called violated with probability at most 1 - confidence,
        however canaries influence each other.

    References: Steinke, Nasr and Jagielski, arXiv:2305.08846; Mahloujifar, Melis
    and Chaudhuri, arXiv:2410.22235.
    """
    import numpy as np

    if len(scores) < _FEWEST_CANARIES or len(scores) != len(inside):
        raise InvalidArgumentError(
            f"scores must be at least {_FEWEST_CANARIES} and as many as inside, got"
            f" {len(scores)} and {len(inside)}"
        )
    count = len(scores)
    high, low = _committed(*rehearsal)
    high, low = (int(share * count) for share in (high, low))
    order = np.argsort(-scores, kind="stable")
    right = int(inside[order[:high]].sum())
    right += int((~inside[order[count - low :]]).sum())
    guesses = max(high + low, 1)
    claim = None if event is None else Claim.of(event, delta)
    epsilon = one_run(count, guesses, right, delta=delta, confidence=confidence)
    mu = one_run_mu(count, guesses, right, confidence=confidence)
    refuted = claim is not None and refutes(
        count, guesses, right, claim.curve, confidence=confidence
    )
    return Finding(
        epsilon=epsilon,
        mu=mu,
        delta=delta,
        confidence=confidence,
        trials=count,
        verdict=verdict_on(claim, refuted=refuted, epsilon=epsilon, mu=mu),
        certified=None if claim is None else claim.certified,
        attack=f"{attack}, {right} of {guesses} guesses right",
        rates=points(scores[inside], scores[~inside]),
    )


def _committed(
    scores: NDArray[np.float64], inside: NDArray[np.bool_]
) -> tuple[float, float]:
    """On which shares of the scores, from the top and the bottom, to commit."""
    import numpy as np

    count = len(scores)
    truth = inside[np.argsort(-scores, kind="stable")]
    from_top = np.concatenate([[0], np.cumsum(truth)])
    from_end = np.concatenate([[0], np.cumsum(~truth[::-1])])
    shares = [0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
    best, found = -1.0, (0.5, 0.5)
    for high in shares:
        for low in shares:
            one, two = int(high * count), int(low * count)
            if one + two == 0:
                continue
            right = int(from_top[one] + from_end[two])
            # As large a bound as the guesses, taken as independent, would give.
            least, _ = clopper_pearson(right, one + two, 0.05)
            value = math.log(least / (1.0 - least)) if 0.0 < least < 1.0 else 0.0
            if value > best:
                best, found = value, (high, low)
    return found


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"
