"""A running statement: what has been spent so far, valid at every time at once.

A filter guarantees its whole budget however a run ends.  Whoever stops early,
because of what was released, and wants to quote the smaller cost so far needs a
bound that holds at all times together.

Let L be the privacy loss so far and V the sum of rho of releases that are each
rho-zCDP whatever came before.  Then exp(l L - l V - l^2 V) is, for every l >= 0,
a supermartingale that starts at 1.  Mixing l over a half-normal law with
variance 1/g and bounding its mean from below by sqrt(g / (2V + g)) exp((L -
V)^2 / (2 (2V + g))), Ville's inequality gives the bound below.  References:
Rogers et al., arXiv:1605.08294; Whitehouse et al., arXiv:2203.05481.
"""

from __future__ import annotations

import math

from drdp import _check
from drdp.privacy.costs import rho, rho_within
from drdp.privacy.events import Event, atoms
from drdp.privacy.tally import total_of

__all__ = ["odometer", "running_epsilon"]


def odometer(spent_rho: float, delta: float, *, scale: float) -> float:
    """The epsilon that is valid at all times, where rho has been spent.

    Args:
        spent_rho: V, the sum of rho of all releases so far.
        delta: Strictly between 0 and 1, for all times together.
        scale: g, fixed beforehand; about V / log(1/delta) for the V at which the
            bound is to be tight.

    Returns:
        V + sqrt(2 (2V + g) log(sqrt((2V + g) / g) / delta)): with probability at
        least 1 - delta the privacy loss is nowhere above it.

    >>> round(odometer(5.0, 1e-5, scale=1.0), 6)
    21.723074
    """
    total = _check.at_least_zero(spent_rho=spent_rho)
    delta = _check.probability(delta=delta)
    scale = _check.positive(scale=scale)
    wide = 2.0 * total + scale
    log = 0.5 * math.log(wide / scale) - math.log(delta)
    return (total + math.sqrt(2.0 * wide * log)) * (1.0 + 1e-14)


def running_epsilon(spent: Event, budget_epsilon: float, delta: float) -> float:
    """The odometer of what is spent, its scale fixed by a budget.

    Args:
        spent: Everything released so far.
        budget_epsilon: Of the budget; known beforehand, so that it may set the
            scale.
        delta: Strictly between 0 and 1.

    Raises:
        UnsupportedEventError: If a release is not known to be zero-concentrated.

    >>> from drdp.privacy.events import Gaussian
    >>> round(running_epsilon(Gaussian(50.0) * 10, 1.0, 1e-5), 4)
    0.3769
    """
    epsilon = _check.positive(epsilon=budget_epsilon)
    delta = _check.probability(delta=delta)
    total = float(total_of(atoms(spent), rho))
    if total in (0.0, math.inf):
        return total
    scale = rho_within(epsilon, delta) / -math.log(delta)
    return odometer(total, delta, scale=scale)
