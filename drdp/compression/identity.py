"""The codec that changes nothing: an update is its own code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.compression.flat import flat
from drdp.privacy.events import NOTHING, Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Identity"]


@final
@dataclass(frozen=True, slots=True)
class Identity:
    """The update as it is, which is what FedLoRA sends.

    Args:
        update_length: Length of an update.

    >>> Identity(update_length=2).encode([1.0, 2.0]).tolist()
    [1.0, 2.0]
    """

    update_length: int

    def __post_init__(self) -> None:
        length = _check.count(least=1, update_length=self.update_length)
        object.__setattr__(self, "update_length", length)

    @property
    def event(self) -> Event:
        """Nothing: there is nothing to fit."""
        return NOTHING

    @property
    def code_length(self) -> int:
        """Length of a code: that of the update."""
        return self.update_length

    @property
    def expansion(self) -> float:
        """Exactly 1."""
        return 1.0

    @property
    def linear_decode(self) -> bool:
        """True."""
        return True

    @property
    def noise_gain(self) -> float:
        """sqrt(update_length)."""
        return math.sqrt(self.update_length)

    @property
    def message_bits(self) -> int:
        """32 for each number."""
        return 32 * self.update_length

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of the update."""
        import numpy as np

        return flat(self.update_length, update=update).astype(np.float32)

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        """A copy of the code."""
        import numpy as np

        return flat(self.update_length, code=code).astype(np.float32)
