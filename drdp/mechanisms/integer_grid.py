"""How a real vector becomes integers of a known norm, and back.

Clip, divide by the grid's step, rotate at random, round at random until the
norm is one that was promised: Kairouz, Liu and Steinke, arXiv:2102.06387.

>>> grid = IntegerGrid(clip_norm=1.0, granularity=1 / 64, length=8192)
>>> round(grid.sensitivity, 3), grid.limit
(79.076, 6253)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, final

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.arrays import opened
from drdp.mechanisms.clipping import Bounded, clip_l2
from drdp.mechanisms.rotation import padded_length, rotated, unrotated
from drdp.privacy.distributed import rounded_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["IntegerGrid"]

_FINEST = 2.0**30  # steps within the clip norm: squared norms stay below 2^63
_ATTEMPTS = 64
_KEY_WORDS = 2


@final
@dataclass(frozen=True, kw_only=True)
class IntegerGrid:
    """The integers that clipped vectors are rounded to.

    Args:
        clip_norm: C, the largest L2 norm of a vector.
        granularity: The distance of neighbouring grid points, in the unit of
            the vectors; at most clip_norm.
        length: How many entries a vector has.
        rotation_seed: Of the public rotation; everyone must use the same.
        beta: How likely one rounding may be refused.  Smaller is less biased
            and has a larger sensitivity.
    """

    clip_norm: float
    granularity: float
    length: int
    rotation_seed: int = 0
    beta: float = math.exp(-0.5)

    def __post_init__(self) -> None:
        clip_norm = _check.positive(clip_norm=self.clip_norm)
        granularity = _check.positive(granularity=self.granularity)
        if not 1.0 <= clip_norm / granularity <= _FINEST:
            raise InvalidArgumentError(
                f"granularity must be from clip_norm / 2^30 to clip_norm={clip_norm},"
                f" got {granularity}"
            )
        length = _check.count(least=1, length=self.length)
        if length > 1 << 32:
            raise InvalidArgumentError(f"length must be at most 2^32, got {length}")
        seed = _check.count(rotation_seed=self.rotation_seed)
        if seed >> 128:
            raise InvalidArgumentError(f"rotation_seed must be below 2^128, got {seed}")
        _check.probability(beta=self.beta)

    @property
    def norm(self) -> float:
        """The clip norm in steps of the grid."""
        return self.clip_norm / self.granularity

    @property
    def dimension(self) -> int:
        """How many integers a vector becomes: a power of two."""
        return padded_length(self.length)

    @property
    def limit(self) -> int:
        """The largest squared norm of a rounded vector, a whole number."""
        return math.floor(rounded_norm(self.norm, self.dimension, beta=self.beta) ** 2)

    @property
    def sensitivity(self) -> float:
        """The norm that no rounded vector exceeds, in steps of the grid.

        More than clip_norm / granularity: rounding makes vectors longer, and
        this inflated norm is what the noise has to hide.
        """
        if self.dimension == 1:
            return float(math.isqrt(self.limit))
        root = math.sqrt(self.limit)
        return root if Fraction(root) ** 2 >= self.limit else math.nextafter(root, 2e99)

    def rounded(self, contribution: Any, key: NoiseSource | None) -> Bounded:
        """A contribution as `dimension` integers, their norm at most `sensitivity`.

        Args:
            contribution: `length` floating-point numbers in one array or tensor,
                or a structure of them.  What is not finite becomes 0.
            key: Where the key of this vector's rounding comes from, always two
                words of it; None is the operating system.

        Raises:
            InvalidArgumentError: If it holds something else, or another number
                of entries.
        """
        size = sum(array.size for array in opened(contribution).arrays)
        if size != self.length:
            raise InvalidArgumentError(
                f"contribution must have length={self.length} entries, got {size}"
            )
        found = clip_l2(contribution, self.clip_norm)
        parts = [array.reshape(-1) for array in opened(found.value).arrays]
        x = np.concatenate(parts, dtype=np.float64)
        x /= self.granularity
        integers = _rounded(rotated(x, self.rotation_seed), self.limit, _rounding(key))
        return replace(found, value=integers)

    def restored(self, integers: NDArray[np.int64]) -> NDArray[np.float64]:
        """The real vector, flat, that integers stand for."""
        x = unrotated(integers.astype(np.float64), self.rotation_seed, self.length)
        x *= self.granularity
        return x


def _rounding(key: NoiseSource | None) -> np.random.Philox:
    """The random bits of one rounding.

    Each vector takes the same number of words from the source, whatever it
    holds and however often it is rounded again, so that no vector's rounding
    depends on another vector.
    """
    if key is None:
        import secrets

        return np.random.Philox(key=secrets.randbits(128))
    words = key.words(_KEY_WORDS)
    return np.random.Philox(key=(int(words[0]) << 64) | int(words[1]))


def _rounded(
    x: NDArray[np.float64], limit: int, bits: np.random.Philox
) -> NDArray[np.int64]:
    """x rounded up or down at random, again until its squared norm is in the limit.

    A refusal has probability at most beta each time, so it all but never comes
    to the end: rounding towards 0, which makes no vector longer.
    """
    below = np.floor(x)
    chance = x - below
    low = below.astype(np.int64)
    for _ in range(_ATTEMPTS):
        uniform = (bits.random_raw(x.size) >> np.uint64(11)) * 2.0**-53
        found = low + (uniform < chance)
        if int(found @ found) <= limit:
            return found
    found = np.trunc(x).astype(np.int64)
    return found if int(found @ found) <= limit else np.zeros_like(found)
