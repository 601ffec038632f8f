"""One sum over releases and the limit that a privacy filter sets to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from drdp.privacy.events import Event, atoms
from drdp.privacy.tally import Cost, Tally, total_of

__all__ = ["MOST", "Allowance", "largest_count"]

MOST = 10**9
"""Where counting how often a release still fits comes to an end."""


@final
@dataclass(frozen=True, slots=True)
class Allowance:
    """A limit on the sum of one cost over everything released.

    Args:
        name: What is added up, in words.
        cost: What one atom adds.
        limit: The largest sum allowed.

    >>> from drdp.privacy.costs import rho
    >>> from drdp.privacy.events import Gaussian
    >>> Allowance("rho", rho, 1.0).room(Tally(Gaussian(1.0)), Gaussian(2.0))
    4
    """

    name: str
    cost: Cost
    limit: float | Fraction

    def total(self, spent: Tally) -> Fraction | float:
        """The sum over what is spent."""
        return spent.total(self.name, self.cost)

    def excess(self, spent: Tally, event: Event) -> str | None:
        """Why a release does not fit, in words; None where it does."""
        before = self.total(spent)
        after = before + total_of(atoms(event), self.cost)
        if after <= self.limit:
            return None
        return (
            f"the {self.name} would be {float(after):.9g} of at most"
            f" {float(self.limit):.9g}, {float(before):.9g} of it is spent"
        )

    def room(self, spent: Tally, event: Event) -> int:
        """How often a release still fits, at most `MOST`."""
        one = total_of(atoms(event), self.cost)
        left = Fraction(self.limit) - Fraction(min(self.total(spent), 2 * MOST))
        if one == math.inf or left < 0:
            return 0
        return min(MOST, int(left / Fraction(one))) if one > 0 else MOST

    def share(self, spent: Tally) -> float:
        """The part of the limit that is spent, at most 1."""
        total = self.total(spent)
        if total == 0:
            return 0.0
        return min(1.0, float(total) / float(self.limit)) if self.limit > 0 else 1.0


def largest_count(fits: Callable[[int], bool], known: int = 0) -> int:
    """The largest count that fits, at most `MOST`; `known` is one that does."""
    low, high = known, max(1, 2 * known)
    while high <= MOST and fits(high):
        low, high = high, 2 * high
    high = min(high, MOST + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
