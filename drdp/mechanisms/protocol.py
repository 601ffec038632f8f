"""What a mechanism is: an event, a bound on contributions, a noisy release.

The two verbs mirror the proof: `bound` limits what one privacy unit can change
in the total, `release` adds the noise that hides this much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from drdp.privacy.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Mechanism", "NoiseSource"]


class NoiseSource(Protocol):
    """Where randomness comes from; every draw is independent of all others.

    Attributes:
        secure: Whether an adversary who knows this program cannot predict the
            draws.  What a source that is not secure touched is not private.
    """

    @property
    def secure(self) -> bool:
        """Whether its draws are unpredictable to an adversary."""
        ...

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` words of 64 uniform random bits."""
        ...

    def normal(self, count: int) -> NDArray[np.float64]:
        """`count` standard normal numbers."""
        ...


class Mechanism(Protocol):
    """A release of a sum over privacy units.

    Attributes:
        event: What one release of one total costs, before any sampling.
    """

    @property
    def event(self) -> Event:
        """What one release costs."""
        ...

    def bound(self, contribution: Any) -> Any:
        """One unit's contribution, limited; called once per privacy unit."""
        ...

    def release(self, total: Any, rng: NoiseSource) -> Any:
        """The sum of bounded contributions with noise; called once per total."""
        ...
