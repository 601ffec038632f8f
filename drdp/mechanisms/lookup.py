"""Exact draws from a law on 0, 1, 2, ... by inverting its distribution function.

An infinitely long uniform number U selects the first x with U < F(x).  Its
first 63 bits decide that in all but about one in 10^16 draws; otherwise further
words are drawn and F is computed to more bits, until the answer is certain.  So
the law of the result is exactly F, provided that the bits are uniform: nothing
is rounded and no tail is cut off.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, final

import numpy as np

from drdp.mechanisms.enclosure import Enclosure, exp_minus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["Cumulative", "Lookup", "bernoulli_exp", "next_word"]

Cumulative = Callable[[int], Sequence[Enclosure]]
"""From a number of bits to enclosures of 2^bits F(0), 2^bits F(1), ..., none of
them wider than a few units, until what is beyond the last is as small."""

WORD_BITS = 63  # of the first word; its lowest bit is free, as for a sign
_MORE = 64


@final
class Lookup:
    """A table of F that a kernel searches, and what decides the close calls.

    Args:
        cumulative: F, see `Cumulative`.

    Attributes:
        thresholds: floor(2^63 F(x)), certain in the last bit; the last one is
            2^63 - 1, so every 63 bits have their place.
        guide: For the leading bits of U, the first x that is possible.
        shift: How many of the 63 bits are not leading.
    """

    __slots__ = ("_cumulative", "guide", "shift", "thresholds")

    def __init__(self, cumulative: Cumulative) -> None:
        self._cumulative = cumulative
        self.thresholds: NDArray[np.int64] = np.array(
            _certain(cumulative), dtype=np.int64
        )
        leading = min(max(len(self.thresholds).bit_length() + 1, 4), 18)
        self.shift = WORD_BITS - leading
        starts = np.arange(1 << leading, dtype=np.int64) << self.shift
        found = np.searchsorted(self.thresholds, starts, side="left")
        self.guide: NDArray[np.int32] = found.astype(np.int32)

    def draws(self, count: int, rng: NoiseSource) -> NDArray[np.int64]:
        """`count` independent draws, one word each unless it does not decide."""
        first = (rng.words(count) >> np.uint64(1)).view(np.int64)
        found = np.searchsorted(self.thresholds, first)
        for i in np.flatnonzero(self.thresholds[found] == first):
            found[i] = self.settle(int(first[i]), rng)
        return found

    def settle(self, first: int, rng: NoiseSource) -> int:
        """The x of a draw whose first 63 bits are `first`, by further bits.

        >>> class Zeros:
        ...     secure = False
        ...     def words(self, count): return np.zeros(count, dtype=np.uint64)
        >>> half = lambda bits: [(1 << (bits - 1),) * 2, (1 << bits,) * 2]
        >>> Lookup(half).settle(1 << 62, Zeros())  # U is 1/2 or just above
        1
        """
        value, bits = first, WORD_BITS
        while True:
            value, bits = (value << 64) | next_word(rng), bits + 64
            ends = self._cumulative(bits + _MORE)
            # every earlier threshold is at most U, this one may be above
            x = bisect_right(ends, value << _MORE, key=lambda end: end[1])
            if x < len(ends) and (value + 1) << _MORE <= ends[x][0]:
                return x


def bernoulli_exp(power: Fraction, first: int, rng: NoiseSource) -> bool:
    """Whether U < e^(-power), for a U whose first 64 bits are `first`."""
    value, bits = first, 64
    while True:
        low, high = exp_minus(power, bits + _MORE)
        if (value + 1) << _MORE <= low:
            return True
        if value << _MORE >= high:
            return False
        value, bits = (value << 64) | next_word(rng), bits + 64


def next_word(rng: NoiseSource) -> int:
    """One word of 64 bits."""
    return int(rng.words(1)[0])


def _certain(cumulative: Cumulative) -> list[int]:
    """The thresholds, with F computed until the last bit of each is certain."""
    top = (1 << WORD_BITS) - 1
    extra = 32
    while True:
        found: list[int] = []
        for low, high in cumulative(WORD_BITS + extra):
            below = min(low >> extra, top)
            if below != min(high >> extra, top):
                break
            found.append(below)
            if below == top:
                return found
        extra *= 2
