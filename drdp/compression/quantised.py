"""Any codec's code in fewer bits: 8, 4 or 1 for each number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.compression import draws
from drdp.compression.flat import flat
from drdp.compression.protocol import Codec
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Quantised", "Rounding"]

_WIDTHS = (1, 4, 8)
_SCALE_BYTES = 4


class Rounding(StrEnum):
    """How a number becomes a level.

    - ``NEAREST``: the nearest level.  With one bit: the sign, and the mean
      magnitude as the scale, which is the nearest such code.
    - ``DITHERED``: the nearest level after adding uniform public noise, which
      is subtracted again (subtractive dither).  Over the seeds the error has
      mean zero and does not depend on the number.
    """

    NEAREST = "nearest"
    DITHERED = "dithered"


@final
@dataclass(frozen=True, slots=True)
class Quantised:
    """A codec whose codes travel as whole numbers and one float32 scale.

    `encode` answers with the code that the server would read, so that everything
    after it (clipping, summing, noise) sees what was really sent.

    Args:
        codec: The codec whose codes are quantised.
        bits: 8, 4 or 1 for each number.
        rounding: Nearest or dithered; one bit has only the former.
        seed: Of the dither; public.
        draw: Which of the seed's dithers; see `redrawn`.

    Guarantees:
        A fixed map of the update: the code of one client depends on that client
        alone.  Errors are at most half a step, ``scale / (2^(bits-1) - 1) / 2``,
        in each number (8 and 4 bits).  A code can get longer: nearest rounding
        at most doubles it, dither adds at most ``sqrt(k)`` half steps, one bit
        never lengthens.  Hence clip what `encode` returns.

    References:
        One bit: Bernstein et al. (signSGD), arXiv:1802.04434.  Subtractive
        dither: Schuchman, Dither signals and their effect on quantization
        noise, 1964.

    >>> from drdp.compression.identity import Identity
    >>> codec = Quantised(Identity(update_length=3), bits=1)
    >>> codec.encode([1.0, -2.0, 3.0]).tolist(), len(codec.message([1.0, -2.0, 3.0]))
    ([2.0, -2.0, 2.0], 5)
    """

    codec: Codec
    bits: int = 8
    rounding: Rounding = Rounding.NEAREST
    seed: int = 0
    draw: int = 0
    _dither: NDArray[np.float64] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.bits not in _WIDTHS:
            raise InvalidArgumentError(f"bits must be one of 1, 4, 8, got {self.bits}")
        try:
            rounding = Rounding(self.rounding)
        except ValueError:
            known = ", ".join(Rounding)
            raise InvalidArgumentError(
                f"rounding must be one of {known}, got {self.rounding!r}"
            ) from None
        if self.bits == 1 and rounding is Rounding.DITHERED:
            raise InvalidArgumentError("rounding must be nearest where bits is 1")
        seed, draw = _check.count(seed=self.seed), _check.count(draw=self.draw)
        dither = None
        if rounding is Rounding.DITHERED:
            dither = draws.uniform(self.codec.code_length, seed, draw, 5) - 0.5
        object.__setattr__(self, "rounding", rounding)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "draw", draw)
        object.__setattr__(self, "_dither", dither)

    def redrawn(self, draw: int) -> Quantised:
        """The same with another dither, for instance one for each client."""
        return replace(self, draw=draw)

    @property
    def event(self) -> Event:
        """That of the codec inside: rounding is fitted on nothing."""
        return self.codec.event

    @property
    def update_length(self) -> int:
        """Length of an update."""
        return self.codec.update_length

    @property
    def code_length(self) -> int:
        """Length of a code."""
        return self.codec.code_length

    @property
    def expansion(self) -> float:
        """The codec's, times what rounding can add."""
        if self.bits == 1:
            return self.codec.expansion
        if self.rounding is Rounding.NEAREST:
            return 2.0 * self.codec.expansion
        rounded = 1.0 + 0.5 * math.sqrt(self.code_length) / self._levels
        return rounded * self.codec.expansion

    @property
    def linear_decode(self) -> bool:
        """That of the codec inside: decoding sees plain numbers."""
        return self.codec.linear_decode

    @property
    def noise_gain(self) -> float:
        """That of the codec inside."""
        return self.codec.noise_gain

    @property
    def message_bits(self) -> int:
        """Bits of one message: whole bytes of levels and the scale."""
        return 8 * (_SCALE_BYTES + -(-self.bits * self.code_length // 8))

    @property
    def _levels(self) -> int:
        return 1 if self.bits == 1 else 2 ** (self.bits - 1) - 1

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """The code as the server reads it."""
        return self._values(*self._quantise(update))

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        """What the codec inside makes of it."""
        return self.codec.decode(code)

    def message(self, update: NDArray[np.float32]) -> bytes:
        """The bytes that travel: the scale, then the packed levels."""
        import numpy as np

        scale, levels = self._quantise(update)
        head = np.array([scale], dtype="<f4").tobytes()
        if self.bits == 1:
            return head + np.packbits(levels > 0).tobytes()
        if self.bits == 4:
            shifted = (levels + 8).astype(np.uint8)
            shifted = np.append(shifted, np.uint8(0)) if len(shifted) % 2 else shifted
            return head + ((shifted[::2] << 4) | shifted[1::2]).tobytes()
        return head + levels.tobytes()

    def read(self, message: bytes) -> NDArray[np.float32]:
        """The code from a message: what `encode` answers.

        Raises:
            InvalidArgumentError: If the message has another length.
        """
        import numpy as np

        if len(message) * 8 != self.message_bits:
            raise InvalidArgumentError(
                f"message must have {self.message_bits // 8} bytes, got {len(message)}"
            )
        scale = np.frombuffer(message[:_SCALE_BYTES], dtype="<f4")[0]
        body = np.frombuffer(message[_SCALE_BYTES:], dtype=np.uint8)
        if self.bits == 1:
            ones = np.unpackbits(body, count=self.code_length)
            levels = (2 * ones.astype(np.int8) - 1).astype(np.int8)
        elif self.bits == 4:
            pairs = np.stack([body >> 4, body & 15], axis=1).ravel()
            levels = (pairs[: self.code_length].astype(np.int8) - 8).astype(np.int8)
        else:
            levels = body.view(np.int8)
        return self._values(np.float32(scale), levels)

    def _quantise(
        self, update: NDArray[np.float32]
    ) -> tuple[np.float32, NDArray[np.int8]]:
        import numpy as np

        code = flat(self.code_length, code=self.codec.encode(update))
        size = np.abs(code)
        scale = np.float32(size.mean() if self.bits == 1 else size.max())
        if self.bits == 1:
            return scale, np.where(code < 0.0, -1, 1).astype(np.int8)
        if scale == 0.0:
            return scale, np.zeros(self.code_length, dtype=np.int8)
        steps = code * (self._levels / float(scale))
        if self._dither is not None:
            steps += self._dither
        rounded = np.clip(np.rint(steps), -self._levels, self._levels)
        return scale, rounded.astype(np.int8)

    def _values(
        self, scale: np.float32, levels: NDArray[np.int8]
    ) -> NDArray[np.float32]:
        import numpy as np

        steps = levels.astype(np.float64)
        if self._dither is not None:
            steps = steps - self._dither
        return (steps * (float(scale) / self._levels)).astype(np.float32)
