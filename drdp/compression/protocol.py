"""What a compressor is: a public map to codes, its way back, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from drdp.privacy.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Compressor"]


class Compressor(Protocol):
    """Flat updates to shorter codes and back.

    `encode` is a fixed map: the code of one client depends on that client's
    update alone.

    Attributes:
        event: What was released about private data when it was fitted.
        update_length: Length of the flat updates it takes.
        code_length: Length of the codes it gives.
    """

    @property
    def event(self) -> Event:
        """What its fitting released."""
        ...

    @property
    def update_length(self) -> int:
        """Length of an update."""
        ...

    @property
    def code_length(self) -> int:
        """Length of a code."""
        ...

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """The code of one update: float32, shape (update_length,) to (code_length,)."""
        ...

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        """An update from a code, or from a noisy mean of codes."""
        ...
