"""A budget for releases that were fixed beforehand: the exact number that fit.

Certified privacy-loss distributions add up where every release's parameters are
fixed, or at least not chosen from what was released.  A fixed budget therefore
holds a plan, and admits what the plan holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import final

from drdp import _check
from drdp.errors import (
    BudgetExceededError,
    CalibrationError,
    InvalidArgumentError,
    UnplannedChargeError,
    UnsupportedEventError,
)
from drdp.privacy.allowance import MOST, largest_count
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import NOTHING, Event, NonPrivate, atoms
from drdp.privacy.tally import Tally

__all__ = ["FixedBudget", "certified"]


@final
@dataclass(frozen=True, slots=True)
class FixedBudget:
    """Releases fixed beforehand: as many as the certified accountant allows.

    Args:
        epsilon: Above 0.
        delta: Strictly between 0 and 1.
        plan: The releases of one round, or of a whole run.  They may be made
            again for as long as the budget lasts.
        before: What had been released when the plan was made; it counts too.

    Guarantees:
        (epsilon, delta)-DP in whatever order the releases of the plan are made,
        and wherever the run stops: what was seen is computed from all releases
        that fit, each of which is independent of the others given the data.

    >>> from drdp.privacy.events import Gaussian, PoissonSampled
    >>> round_ = PoissonSampled(0.05, Gaussian(1.0))
    >>> budget, spent = FixedBudget(2.0, 1e-5, round_), Tally()
    >>> budget.remaining(spent, round_)
    20
    >>> budget.admit(spent, Gaussian(1.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    drdp.errors.UnplannedChargeError: Gaussian(noise_multiplier=1.0) is not in ...
    """

    epsilon: float
    delta: float
    plan: Event
    before: Event = field(default=NOTHING)

    def __post_init__(self) -> None:
        epsilon = _check.positive(epsilon=self.epsilon)
        object.__setattr__(self, "epsilon", epsilon)
        object.__setattr__(self, "delta", _check.probability(delta=self.delta))
        for name in ("plan", "before"):
            if not isinstance(getattr(self, name), Event):
                raise InvalidArgumentError(
                    f"{name} must be an Event, got {getattr(self, name)!r:.80}"
                )
        planned = atoms(self.plan)
        if not planned or NonPrivate() in planned:
            raise InvalidArgumentError(
                f"plan must be a release that costs something finite, got {self.plan!r}"
            )

    def require(self) -> None:
        """Return where the plan fits at least once.

        Raises:
            CalibrationError: If it does not.
        """
        if not _frontier(self).holds(1):
            with_it = "" if self.before == NOTHING else ", with what came before,"
            raise CalibrationError(
                f"plan={self.plan!r:.200}{with_it} does not fit epsilon="
                f"{self.epsilon:g} at delta={self.delta:g} even once; add noise, or"
                " allow more"
            )

    def admit(self, spent: Tally, event: Event) -> None:
        """Return where the plan holds the release, and it still fits.

        Raises:
            UnplannedChargeError: If it is not in the plan.
            BudgetExceededError: If the plan is used up.
        """
        count = self._times(spent, event)
        if not _frontier(self).holds(count):
            raise BudgetExceededError(
                f"the budget (epsilon {self.epsilon:g}, delta {self.delta:g}) does not"
                f" allow {event!r:.200}: the plan fits {self.times} times, and with"
                f" this release it would be needed {count} times"
            )

    def remaining(self, spent: Tally, event: Event) -> int:
        """How many releases of `event` still fit, at most 10^9."""
        once = atoms(event)
        if not once:
            return MOST
        self._times(spent, event)
        planned, start, times = atoms(self.plan), atoms(self.before), self.times
        return max(
            0,
            min(
                MOST,
                *(
                    (times * planned[atom] + start[atom] - spent.counts[atom]) // count
                    for atom, count in once.items()
                ),
            ),
        )

    def used(self, spent: Tally) -> float:
        """The share of the plan's releases that is spent."""
        planned, start = atoms(self.plan), atoms(self.before)
        every = self.times * planned.total()
        return (spent.counts.total() - start.total()) / every if every else 1.0

    def spent_epsilon(self, spent: Tally) -> float:
        """The certified epsilon of what is spent, at the budget's delta."""
        return certified(spent.event).epsilon(self.delta) if spent.counts else 0.0

    @property
    def times(self) -> int:
        """How many times the plan fits in all, at most 10^9."""
        return _frontier(self).last()

    @property
    def whole(self) -> Event:
        """Everything that may be released: the plan as often as it fits."""
        if self.before == NOTHING:
            return self.plan * self.times
        return self.before + self.plan * self.times

    def _times(self, spent: Tally, event: Event) -> int:
        """How many times the plan has to be begun to hold one more release."""
        planned, start, found = atoms(self.plan), atoms(self.before), 0
        for atom in atoms(event):
            if atom not in planned:
                raise UnplannedChargeError(
                    f"{atom!r:.200} is not in the plan of this budget, so that its"
                    " parameters may have been chosen from what was released; charge"
                    " what was planned, or use a budget for such choices: RenyiFilter"
                    " or ZeroConcentratedFilter"
                )
        after = spent.counts.copy()
        after.update(atoms(event))
        for atom, count in after.items():
            over = count - start[atom]
            if over > 0:
                found = max(found, -(-over // planned[atom]) if planned[atom] else MOST)
        return max(1, found)


class _Frontier:
    """How many repetitions are known to fit, and how many are known not to."""

    def __init__(self, budget: FixedBudget) -> None:
        self._budget = budget
        self._fits, self._fails = 0, MOST + 1

    def holds(self, count: int) -> bool:
        """Whether so many fit; the answer for fewer comes with it."""
        if self._fits < count < self._fails:
            # looking ahead answers the next questions too
            ahead = 2 * count if self._fails > MOST else (count + self._fails) // 2
            for tried in (ahead, count):
                if self._fits < tried < self._fails:
                    self._try(tried)
        return count <= self._fits

    def last(self) -> int:
        """The largest number that fits."""
        return largest_count(self._known, self._fits)

    def _known(self, count: int) -> bool:
        if self._fits < count < self._fails:
            self._try(count)
        return count <= self._fits

    def _try(self, count: int) -> None:
        budget = self._budget
        event = budget.plan * count
        if budget.before != NOTHING:
            event = budget.before + event
        if _fits(event, budget.epsilon, budget.delta):
            self._fits = max(self._fits, count)
        else:
            self._fails = min(self._fails, count)


@lru_cache(maxsize=64)
def _frontier(budget: FixedBudget) -> _Frontier:
    return _Frontier(budget)


def certified(event: Event) -> PrivacyCurve:
    """The certified curve; by Renyi divergences where no privacy-loss law is known."""
    from drdp.privacy.pld import pld_curve
    from drdp.privacy.rdp import rdp_curve

    try:
        return pld_curve(event)
    except UnsupportedEventError:
        return rdp_curve(event)


def _fits(event: Event, epsilon: float, delta: float) -> bool:
    """Whether a guarantee is proved; the quicker proof is tried first."""
    from drdp.privacy.rdp import rdp_curve

    try:
        if rdp_curve(event).delta(epsilon) <= delta:
            return True
    except UnsupportedEventError:
        pass
    return certified(event).delta(epsilon) <= delta
