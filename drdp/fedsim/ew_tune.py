"""The noise that EW-Tune's own rule would give a run, beside what it really costs.

The rule stops at an Edgeworth estimate, which is no bound; its noise is shown and
never used.

>>> from drdp.privacy.threat import PoissonCohort
>>> plan = Protection(PoissonCohort(0.01), clip_norm=1.0, noise_multiplier=1.0)
>>> seen = ew_tune_beside(plan, rounds=400, epsilon=8.0, delta=1e-5)
>>> seen.noise_multiplier, round(seen.estimate, 2), round(seen.certified.upper, 1)
(0.4725, 7.98, 11.4)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, final

from drdp.errors import CalibrationError
from drdp.fedsim.digits import up
from drdp.fedsim.protection import Protection
from drdp.privacy.curves import Interval
from drdp.privacy.ew_tune import ew_tune_noise_multiplier
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.threat import PoissonCohort

__all__ = ["NO_ANSWER", "EwTuneBeside", "ew_tune_beside"]

NO_ANSWER = (
    "EW-Tune's own rule gives no noise for this run: it asks for a budget and Poisson"
    " sampling, and searches noise multipliers up to 2 only."
)


@final
@dataclass(frozen=True, slots=True)
class EwTuneBeside:
    """What EW-Tune would have done: an approximation, labelled as one.

    Args:
        noise_multiplier: That its search arrives at.
        estimate: The epsilon that its Edgeworth expansion claims for it.
        certified: An interval that holds the true epsilon of that noise.
        budget: The epsilon that was asked for.
        delta: Of all of these.
        used: The noise multiplier that the run uses instead.
    """

    noise_multiplier: float
    estimate: float
    certified: Interval
    budget: float
    delta: float
    used: float

    def sentence(self) -> str:
        """In words: the approximation, and its certified cost rounded up."""
        low, high = self.certified.lower, self.certified.upper
        judged = "which is within the budget"
        if low > self.budget:
            judged = "so the rule claims too little"
        elif high > self.budget:
            judged = "so nobody can say that it keeps to the budget"
        return (
            f"EW-Tune's own rule would use the noise multiplier"
            f" {self.noise_multiplier:g}, whose epsilon it estimates as"
            f" {self.estimate:.4g} (an Edgeworth approximation, no guarantee). That"
            f" noise really costs epsilon {up(high, 6)} at delta {up(self.delta)},"
            f" certified, {judged}. This run uses {self.used:.6g}."
        )

    def to_dict(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "kind": "approximation, no guarantee",
            "noise_multiplier": self.noise_multiplier,
            "edgeworth_epsilon": self.estimate,
            "certified_epsilon": {
                "lower": self.certified.lower,
                "upper": self.certified.upper,
            },
            "budget": self.budget,
            "delta": self.delta,
            "used_noise_multiplier": self.used,
            "told": self.sentence(),
        }


def ew_tune_beside(
    protection: Protection, *, rounds: int, epsilon: float | None, delta: float
) -> EwTuneBeside | None:
    """What EW-Tune's rule gives for a run.

    Args:
        protection: Of the run; its noise is what the run uses.
        rounds: How many it has.
        epsilon: Its budget; None where there is none.
        delta: Strictly between 0 and 1.

    Returns:
        None where the rule says nothing: without a budget, without Poisson
        sampling, or where its search, which begins at a noise multiplier of 2,
        has no answer.

    Guarantees:
        `certified` holds the true epsilon of that noise in this run, under the
        run's own neighbouring relation.
    """
    cohort = protection.cohort
    limited = epsilon is not None and 0.0 < epsilon < math.inf
    if not limited or not rounds or not isinstance(cohort, PoissonCohort):
        return None
    try:
        found = ew_tune_noise_multiplier(epsilon or 0.0, delta, cohort.rate, rounds)
    except CalibrationError:
        return None
    same = replace(protection, noise_multiplier=found.noise_multiplier)
    return EwTuneBeside(
        found.noise_multiplier,
        found.estimate,
        epsilon_interval(same.run_event(rounds), delta),
        epsilon or 0.0,
        delta,
        protection.noise_multiplier,
    )
