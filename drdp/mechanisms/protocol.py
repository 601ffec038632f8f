"""What a mechanism promises, and what a source of noise gives it.

A mechanism has two verbs that mirror its proof: `bound` limits what one
privacy unit can do to a sum, and is called once per unit; `release` makes the
sum public, and is called once per total.  Its `event` is what that costs.

Arrays are numpy arrays or torch tensors, one, or a list, tuple or dict of them;
what comes back has the type that went in.  No mechanism imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

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

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` uniform numbers, above 0 and at most 1."""
        ...

    def normal(self, count: int) -> NDArray[np.float64]:
        """`count` standard normal numbers."""
        ...

    def laplace(self, count: int) -> NDArray[np.float64]:
        """`count` Laplace numbers of scale 1."""
        ...

    def spawn(self, *path: int | str) -> Self:
        """A source for one purpose, such as ``("round", 3)``.

        Two purposes never share their draws.  A source that can be replayed
        gives the same draws whenever it is asked for the same purpose.
        """
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
