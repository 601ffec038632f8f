"""What a total of integer vectors needs besides its noise: sensitivity and bits.

The same for every noise on the integers; `integer_noise` adds the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.mechanisms.integer_grid import IntegerGrid
from drdp.mechanisms.modular import MOST_BITS, centred, integers, known_bits, wrapped
from drdp.privacy.adjacency import Adjacency, known_adjacency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Aggregation"]

_UNLIKELY = 1e-6  # how likely a total may wrap round with the bits by default
_NARROWEST = 4.0  # standard deviations that half the range must have


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """Who adds up which integers.

    Args:
        grid: How contributions become integers.
        clients: The most contributions in one total.
        survivors: How many honest clients' noise is sure to be in it; None
            where the noise is added once, to the total.
        adjacency: The neighbouring relation of the guarantee.

    Raises:
        UnsoundThreatModelError: If noise comes in shares under add-remove: one
            client more would be one share more, which shows.
    """

    grid: IntegerGrid
    clients: int
    survivors: int | None = None
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        clients = _check.count(least=1, clients=self.clients)
        adjacency = known_adjacency(self.adjacency)
        if self.survivors is not None:
            if _check.count(least=1, survivors=self.survivors) > clients:
                raise InvalidArgumentError(
                    f"survivors must be at most clients={clients}, got {self.survivors}"
                )
            if adjacency is Adjacency.ADD_REMOVE:
                raise UnsoundThreatModelError(
                    "adjacency must be zero-out or replace-one where noise comes in"
                    " shares, got add-remove: one client less is one share of noise"
                    " less, which shows in a long vector"
                )
        object.__setattr__(self, "adjacency", adjacency)

    @property
    def sensitivity(self) -> float:
        """How far neighbouring totals are apart at most, in steps of the grid."""
        return self._times * self.grid.sensitivity

    @property
    def l1_sensitivity(self) -> float:
        """The same in the L1 norm: min(sqrt(d) D, D^2) of one integer vector."""
        size, far = self.grid.dimension, self.grid.sensitivity
        most = min(math.sqrt(size) * far, far * far)
        return self._times * most * (1.0 + 2.0**-50)  # more than rounding takes

    @property
    def _times(self) -> float:
        return 2.0 if self.adjacency is Adjacency.REPLACE_ONE else 1.0

    @property
    def sure_shares(self) -> int:
        """How many shares of noise every total has at least."""
        return 1 if self.survivors is None else self.survivors

    def width(self, share_variance: float) -> float:
        """About the standard deviation of one coordinate of a total, in steps.

        sqrt(K^2 norm^2 / d + K / 4 + noise), after rotation and rounding, where
        all K clients send the same longest vector and none has dropped out.

        References: Kairouz, Liu and Steinke, arXiv:2102.06387.
        """
        shares = 1 if self.survivors is None else self.clients
        mean = self.clients * self.grid.norm
        return math.sqrt(
            mean * mean / self.grid.dimension
            + 0.25 * self.clients
            + shares * share_variance
        )

    def wrap_chance(self, bits: int, share_variance: float) -> float:
        """About how likely any coordinate of a total wraps round.

        By a normal approximation, for the worst data: an estimate.
        """
        deviations = 2.0 ** (bits - 1) / self.width(share_variance)
        return min(1.0, self.grid.dimension * math.erfc(deviations / math.sqrt(2.0)))

    def bits(self, asked: int | None, share_variance: float) -> int:
        """The number of bits of a message: as asked, or the fewest that do.

        Raises:
            InvalidArgumentError: If half the range is below four standard
                deviations of a total, or no modulus is large enough.
        """
        width = self.width(share_variance)
        least = math.ceil(math.log2(_NARROWEST * width)) + 1
        if least > MOST_BITS:
            raise InvalidArgumentError(
                f"granularity must be coarser than {self.grid.granularity}: totals need"
                f" {least} bits, and messages have at most {MOST_BITS}"
            )
        if asked is not None:
            if known_bits(asked) < least:
                raise InvalidArgumentError(
                    f"bits must be at least {least} for clients={self.clients} and a"
                    f" granularity of {self.grid.granularity}, got {asked}: totals"
                    " would wrap round; a coarser granularity needs fewer"
                )
            return asked
        found = max(least, 2)
        while found < MOST_BITS and self.wrap_chance(found, share_variance) > _UNLIKELY:
            found += 1
        return found

    def noised(
        self, name: str, values: Any, noise: NDArray[np.int64], bits: int
    ) -> NDArray[np.int64]:
        """Integers with noise, modulo 2^bits."""
        exact = integers(name, values, self.grid.dimension)
        return wrapped(wrapped(exact, bits) + noise, bits)

    def unwrapped(self, total: Any, bits: int) -> NDArray[np.float64]:
        """The real vector that a noised total modulo 2^bits stands for."""
        exact = integers("total", total, self.grid.dimension)
        return self.grid.restored(centred(wrapped(exact, bits), bits))

    def want_shares(self) -> None:
        """Refuse to noise one message where the noise is for the total."""
        if self.survivors is None:
            raise InvalidArgumentError(
                "survivors must be set for noise in shares; without it, add up what"
                " `bound` gives and call `release`"
            )

    def want_one_piece(self) -> None:
        """Refuse to noise a total where the noise is in the messages."""
        if self.survivors is not None:
            raise InvalidArgumentError(
                f"survivors={self.survivors} means that each message has its share of"
                " noise; call `unwrap` on their sum, or leave survivors out"
            )
