"""Random projection onto orthonormal directions, by a fast transform."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.compression import draws
from drdp.compression.flat import flat
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import NOTHING, Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RandomProjection", "Scale"]


class Scale(StrEnum):
    """How long a decoded update is; d and k are the lengths of update and code.

    - ``ADJOINT``: ``P^T code``, the point nearest to the update among those that
      a code can name.  Over the seeds its mean is k/d of the update.
    - ``NORM``: ``sqrt(d/k) P^T code``; its mean squared norm is the update's.
    - ``UNBIASED``: ``(d/k) P^T code``; over the seeds its mean is the update, and
      its mean squared norm d/k times the update's.
    """

    ADJOINT = "adjoint"
    NORM = "norm"
    UNBIASED = "unbiased"


@final
@dataclass(frozen=True, slots=True)
class RandomProjection:
    """k random orthonormal directions of R^d, drawn from a public seed.

    ``P = S F D``: random signs D, the orthonormal cosine transform F (DCT-II,
    which is one for every d, not for powers of two only) and a uniform choice S
    of k of its d rows.  No matrix is stored; a code takes O(d log d).

    Args:
        update_length: d.
        code_length: k, at most d.
        seed: Public; client and server need the same.
        scale: Length of what is decoded.  The default is the adjoint: what is
            decoded is never longer than the update, noise of some norm in a code
            is noise of the same norm in the parameters, and the signal-to-noise
            ratio is the same for all scales.  The length of the step is then the
            server's to choose; it has to be some sqrt(d/k) times longer than
            with the whole update to move as far.
        draw: Which of the seed's projections; see `redrawn`.

    Guarantees:
        ``P P^T = I`` in exact arithmetic, so ``||encode(x)|| <= ||x||`` (to
        float32 rounding), whatever the seed.  It keeps k/d of the energy of an
        update in the mean, and nothing more can be said without data.

    References:
        Ailon and Chazelle, The fast Johnson-Lindenstrauss transform, 2009;
        Tropp, arXiv:1011.1595 (subsampled randomised transforms).

    >>> codec = RandomProjection(update_length=100, code_length=10, seed=1)
    >>> code = codec.encode([0.0] * 99 + [1.0])
    >>> code.shape, codec.decode(code).shape
    ((10,), (100,))
    """

    update_length: int
    code_length: int
    seed: int = 0
    scale: Scale = Scale.ADJOINT
    draw: int = 0
    _signs: NDArray[np.int8] = field(init=False, repr=False, compare=False)
    _rows: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        length = _check.count(least=1, update_length=self.update_length)
        code = _check.count(least=1, code_length=self.code_length)
        if code > length:
            raise InvalidArgumentError(
                f"code_length must be at most update_length={length}, got {code}"
            )
        seed, draw = _check.count(seed=self.seed), _check.count(draw=self.draw)
        try:
            scale = Scale(self.scale)
        except ValueError:
            raise InvalidArgumentError(
                f"scale must be one of {', '.join(Scale)}, got {self.scale!r}"
            ) from None
        values = {
            "update_length": length,
            "code_length": code,
            "seed": seed,
            "draw": draw,
            "scale": scale,
            "_signs": draws.signs(length, seed, draw, 1),
            "_rows": draws.subset(length, code, seed, draw, 2),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def redrawn(self, draw: int) -> RandomProjection:
        """Another projection of the same seed, for instance one each round.

        One projection for a whole run trains within one random subspace; a
        fresh one each round reaches all directions in turn.
        """
        return replace(self, draw=draw)

    @property
    def event(self) -> Event:
        """Nothing: the directions depend on a public seed alone."""
        return NOTHING

    @property
    def expansion(self) -> float:
        """1: a projection lengthens nothing."""
        return 1.0

    @property
    def linear_decode(self) -> bool:
        """True."""
        return True

    @property
    def noise_gain(self) -> float:
        """sqrt(code_length) times the factor of the scale."""
        return self.factor * math.sqrt(self.code_length)

    @property
    def message_bits(self) -> int:
        """32 for each number."""
        return 32 * self.code_length

    @property
    def factor(self) -> float:
        """What the adjoint is multiplied by when decoding."""
        ratio = self.update_length / self.code_length
        if self.scale is Scale.UNBIASED:
            return ratio
        return math.sqrt(ratio) if self.scale is Scale.NORM else 1.0

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """``P update``."""
        import numpy as np
        from scipy.fft import dct

        mixed = dct(flat(self.update_length, update=update) * self._signs, norm="ortho")
        return np.asarray(mixed[self._rows], dtype=np.float32)

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        """``P^T code`` times the factor of the scale."""
        import numpy as np
        from scipy.fft import idct

        spread = np.zeros(self.update_length)
        spread[self._rows] = flat(self.code_length, code=code) * self.factor
        return (idct(spread, norm="ortho") * self._signs).astype(np.float32)
