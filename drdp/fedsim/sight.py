"""What an adversary sees of a round: released values, and nothing before its noise.

A run that is watched hands one `Sight` to its observer after each round, once
the round is paid for.  Audits and attacks work from these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Observer", "Sight"]


@final
@dataclass(frozen=True, slots=True)
class Sight:
    """One round, as it was released.

    Args:
        round: The round's number, from 1.
        cohort: How many clients were drawn; part of the view only where the
            server draws the cohort.
        total: The sum of codes with its noise, shape (code_length,).
        messages: By client, the noised messages that the run's view shows: all
            of them to ``MESSAGES``, those of the last clients of the cohort, who
            stand for the traitors, to ``COLLUDING``, and none to the others.
        before: The parameters that the round began with.
        after: The parameters that it ended with.
    """

    round: int
    cohort: int
    total: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    messages: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)


Observer = Callable[[Sight], None]
