"""What a compressor is: a public map to codes, its way back, and what it cost.

A mechanism bounds the *code*: it clips what is summed, after `encode`.  That is
sound for every codec, also for one that lengthens updates, while clipping an
update before it is encoded bounds the code only where ``expansion <= 1``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from drdp.privacy.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Codec", "Compressor"]


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


class Codec(Compressor, Protocol):
    """What every compressor of this room says about itself besides.

    Attributes:
        expansion: A bound on ``||encode(x)|| / ||x||``, up to float32 rounding;
            infinite where none is known.
        linear_decode: Whether decoding commutes with averaging, so that
            decoding the mean code equals averaging decoded codes.
        noise_gain: Root mean squared norm of what decoding makes of standard
            normal noise on every number of a code, so that noise of standard
            deviation s on a code moves the parameters by ``s * noise_gain``; NaN
            where decoding is not linear.
        message_bits: Size of one code on its way to the server, in bits.
    """

    @property
    def expansion(self) -> float:
        """By how much a code can be longer than its update."""
        ...

    @property
    def linear_decode(self) -> bool:
        """Whether the order of decoding and averaging is immaterial."""
        ...

    @property
    def noise_gain(self) -> float:
        """How far unit noise on a code moves the parameters."""
        ...

    @property
    def message_bits(self) -> int:
        """Bits of one message."""
        ...
