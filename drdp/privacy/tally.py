"""What has been released so far, as counts of atoms with exact running sums.

A budget asks for sums of per-release costs; a tally keeps each such sum up to
date, exactly, so that one more release costs the same however many came before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable
from fractions import Fraction
from functools import lru_cache
from typing import final

from drdp.privacy.events import Composed, Event, Repeated, atoms

__all__ = ["Cost", "Tally", "total_of"]

Cost = Callable[[Event], "float | Fraction"]
"""What one atom adds to a sum: at least 0, perhaps infinite."""


@final
class Tally:
    """Counts of irreducible releases.

    >>> from drdp.privacy.events import Gaussian
    >>> tally = Tally(Gaussian(2.0) * 3)
    >>> tally.add(Gaussian(2.0))
    >>> tally.event
    Repeated(event=Gaussian(noise_multiplier=2.0), count=4)
    >>> float(tally.total("rho", lambda atom: 0.5 / atom.noise_multiplier**2))
    0.5
    """

    __slots__ = ("_sums", "counts")

    def __init__(self, event: Event = Composed()) -> None:  # noqa: B008 - immutable
        self.counts: Counter[Event] = Counter(atoms(event))
        self._sums: dict[Hashable, tuple[Cost, Fraction | float]] = {}

    def add(self, event: Event) -> None:
        """Count one more release, which may consist of many."""
        found = _counted(event)
        for key, (cost, total) in self._sums.items():
            self._sums[key] = cost, total + total_of(found, cost)
        self.counts.update(found)

    def total(self, key: Hashable, cost: Cost) -> Fraction | float:
        """The sum of a cost over everything, exactly; or infinity.

        Args:
            key: Names the cost: asked again under it, the sum is only looked up.
            cost: What one atom costs.
        """
        if key not in self._sums:
            self._sums[key] = cost, total_of(self.counts, cost)
        return self._sums[key][1]

    @property
    def event(self) -> Event:
        """Everything as one event, in normal form."""
        parts = tuple(
            Repeated(atom, times) if times > 1 else atom
            for atom, times in self.counts.items()
        )
        return parts[0] if len(parts) == 1 else Composed(parts)


def total_of(counts: Counter[Event], cost: Cost) -> Fraction | float:
    """The exact sum of a cost over counted atoms; or infinity."""
    total = Fraction(0)
    for atom, times in counts.items():
        one = cost(atom)
        if one == math.inf:
            return math.inf
        total += times * Fraction(one)
    return total


@lru_cache(maxsize=1024)
def _counted(event: Event) -> Counter[Event]:
    """The atoms of an event, which are the same round after round."""
    return atoms(event)
