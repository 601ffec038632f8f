"""Events that stand for outside mechanisms: pairs that a user vouches for.

>>> from drdp.privacy.pld import epsilon_interval
>>> pair = DominatingPair([0.75, 0.25], [0.25, 0.75])  # randomised response
>>> low, high, _ = epsilon_interval(pair, 0.1)
>>> round(low, 6), round(high, 6)
(0.955511, 0.955511)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import Adjacency, Event
from drdp.privacy.releases import numbers, relation_of

__all__ = ["DensityPair", "DominatingPair"]

_SHORT = 8  # outcomes that are still shown
_SUM_TO = 1e-12  # how far from 1 the sum of written probabilities may be


def _set(event: Event, /, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(event, name, value)


@final
@dataclass(frozen=True, slots=True, repr=False)
class DominatingPair(Event):
    """An outside mechanism by a finite pair of distributions that dominates it.

    Args:
        p: Probabilities of each outcome with the unit.
        q: Probabilities of the same outcomes without it.
        adjacency: The relation under which the pair dominates; None where it
            does so under whichever one the whole event is stated.

    **What you promise**: for all neighbours, the mechanism's hockey-stick
    divergence of "with the unit" from "without it" is at most that of p from q,
    at every epsilon from minus to plus infinity (under replace-one: of either
    one from the other).  The other direction then follows and is accounted
    for.  An (epsilon, delta) guarantee is not such a promise: it is `ApproxDP`.
    Whatever a mechanism's outputs are, listing its two worst output
    distributions is one, where those are known to be the worst.

    What p lacks of 1 counts as revealing everything; what q lacks, as something
    p never does.  Lower bounds are those of the pair.

    References: Zhu, Dong and Wang, arXiv:2106.08567.

    >>> DominatingPair([0.75, 0.25], [0.25, 0.75])
    DominatingPair(p=(0.75, 0.25), q=(0.25, 0.75))
    """

    p: tuple[float, ...]
    q: tuple[float, ...]
    adjacency: Adjacency | None = None

    def __post_init__(self) -> None:
        p = numbers("p", self.p, _check.rate)
        q = numbers("q", self.q, _check.rate)
        if len(p) != len(q):
            raise InvalidArgumentError(
                f"q must have as many outcomes as p ({len(p)}), got {len(q)}"
            )
        for name, values in (("p", p), ("q", q)):
            total = math.fsum(values)
            if not abs(total - 1.0) <= _SUM_TO:
                raise InvalidArgumentError(
                    f"{name} must sum to 1, got {total!r}; list what was cut off as"
                    " outcomes that only one of the two has"
                )
        _set(self, p=p, q=q)
        if self.adjacency is not None:
            _set(self, adjacency=relation_of(self.adjacency, replace=True))

    @classmethod
    def from_losses(
        cls,
        losses: Iterable[float],
        probabilities: Iterable[float],
        infinite: float = 0.0,
        adjacency: Adjacency | None = None,
    ) -> DominatingPair:
        """The pair of a privacy loss, given by its distribution under p.

        Args:
            losses: Finite values of log p/q.
            probabilities: What p gives to each of them.
            infinite: What p gives to outcomes that q never has.
            adjacency: As above.
        """
        given = numbers("losses", losses, _check.real)
        p = numbers("probabilities", probabilities, _check.rate)
        if len(given) != len(p):
            raise InvalidArgumentError(
                f"probabilities must be as many as losses ({len(given)}), got {len(p)}"
            )
        if any(loss < -700.0 for loss in given):
            raise InvalidArgumentError(f"losses must be above -700, got {min(given)}")
        q = tuple(share * math.exp(-loss) for share, loss in zip(p, given, strict=True))
        missing = 1.0 - math.fsum(q)
        if missing < -_SUM_TO:
            raise InvalidArgumentError(
                "losses and probabilities describe no pair: q would sum to"
                f" {1.0 - missing!r}"
            )
        infinite = _check.rate(infinite=infinite)
        missing = max(0.0, missing)
        return cls((*p, infinite, 0.0), (*q, 0.0, missing), adjacency)

    def __repr__(self) -> str:
        """In full where the table is short."""
        tail = f", adjacency={str(self.adjacency)!r}" if self.adjacency else ""
        if len(self.p) <= _SHORT:
            return f"DominatingPair(p={self.p!r}, q={self.q!r}{tail})"
        return f"DominatingPair(<{len(self.p)} outcomes>{tail})"


@final
@dataclass(frozen=True, slots=True)
class DensityPair(Event):
    """An outside mechanism by a pair of densities on the real line.

    The promise is that of `DominatingPair`.  Functions cannot be written down
    as JSON, so this event has no document.

    Args:
        log_p: log density with the unit; takes and returns an array.
        log_q: log density without it.
        breaks: Increasing points: the two ends of the interval, and between
            them every point where a density has a kink or a jump or where the
            loss log p - log q turns round.
        adjacency: As for `DominatingPair`.

    Between breaks both densities must be positive and smooth, and the loss
    strictly monotone or constant; what can be checked of this is, when an
    accountant first needs it.  Mass of p outside the interval counts as
    revealing everything, so make it wide.  Integrals are certified no further
    than 1e-13, which is added to delta; the lower end of an interval is 0.
    """

    log_p: Callable[[Any], Any]
    log_q: Callable[[Any], Any]
    breaks: tuple[float, ...]
    adjacency: Adjacency | None = None

    def __post_init__(self) -> None:
        for name in ("log_p", "log_q"):
            if not callable(getattr(self, name)):
                raise InvalidArgumentError(
                    f"{name} must be a function of an array,"
                    f" got {getattr(self, name)!r}"
                )
        breaks = numbers("breaks", self.breaks, _check.real)
        if len(breaks) < 2 or any(a >= b for a, b in pairwise(breaks)):
            raise InvalidArgumentError(
                f"breaks must be at least two increasing points, got {self.breaks!r}"
            )
        _set(self, breaks=breaks)
        if self.adjacency is not None:
            _set(self, adjacency=relation_of(self.adjacency, replace=True))
