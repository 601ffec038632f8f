"""What a ledger's budget still allows: the noise of the releases to come."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from drdp import _check
from drdp.errors import (
    BudgetExceededError,
    CalibrationError,
    InvalidArgumentError,
)
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.events import Event, Gaussian, PoissonSampled
from drdp.privacy.filters import Budget
from drdp.privacy.fixed_budget import FixedBudget, certified
from drdp.privacy.ledger import Ledger
from drdp.privacy.tally import Tally

__all__ = ["calibrate_left", "noise_multiplier_left"]

_LOWEST, _HIGHEST = 1e-3, 1e6


def noise_multiplier_left(
    ledger: Ledger, rate: float, steps: int, *, rtol: float = 1e-6
) -> float:
    """The noise of Poisson-sampled Gaussian rounds that use up what is left.

    Args:
        ledger: An open ledger that has a budget.
        rate: The sampling rate, in (0, 1]; 1 for no sampling.
        steps: The number of rounds, at least 1.
        rtol: How close to the boundary the answer must be, relatively.

    Returns:
        A noise multiplier that was tested to fit beside what is spent.  A
        filter's ledger takes it as it is; a fixed budget's has to be told of the
        new plan first (`Ledger.declare`).

    Raises:
        CalibrationError: If nothing is left, or any noise would do.
        UnsupportedEventError: If the budget cannot count such rounds.
    """
    rate = _check.positive(rate=_check.rate(rate=rate))
    steps = _check.count(least=1, steps=steps)
    relation = ledger.terms.adjacency

    def run(noise: float) -> Event:
        return PoissonSampled(rate, Gaussian(noise), relation) * steps

    return calibrate_left(run, ledger, rtol=rtol)


def calibrate_left(
    event_of: Callable[[float], Event], ledger: Ledger, *, rtol: float = 1e-6
) -> float:
    """The least noise at which an event fits beside what a ledger has spent.

    Args:
        event_of: The event for a noise multiplier, cheaper the larger that is.
        ledger: An open ledger that has a budget.
        rtol: How close to the boundary the answer must be, relatively.

    Raises:
        CalibrationError: If nothing is left, or any noise would do.
    """
    spent, budget = ledger.tally, ledger.budget
    rtol = _check.positive(rtol=rtol)
    if budget is None:
        raise InvalidArgumentError(
            f"ledger must have a budget, {ledger.path} has none: there is nothing left"
            " of it to calibrate to"
        )
    if isinstance(budget, FixedBudget):
        already = spent.event
        return calibrate(
            lambda noise: already + event_of(noise),
            certified,
            within(budget.epsilon, budget.delta),
            rtol=rtol,
        )
    fits = partial(_fits, budget, spent)
    return _least(lambda noise: fits(event_of(noise)), rtol)


def _fits(budget: Budget, spent: Tally, event: Event) -> bool:
    try:
        budget.admit(spent, event)
    except BudgetExceededError:
        return False
    return True


def _least(fits: Callable[[float], bool], rtol: float) -> float:
    """The least value that fits, by halving on a logarithmic scale."""
    if not fits(_HIGHEST):
        raise CalibrationError(
            f"no noise multiplier up to {_HIGHEST:g} is enough: the budget of the"
            " ledger is used up"
        )
    if fits(_LOWEST):
        raise CalibrationError("any noise is enough: nothing is released that costs")
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    while high - low > math.log1p(rtol):
        middle = 0.5 * (low + high)
        if fits(math.exp(middle)):
            high = middle
        else:
            low = middle
    return min(_HIGHEST, math.exp(high))
