"""A random rotation that everybody can undo: signs from a public seed, Hadamard.

It spreads a vector evenly over its coordinates, so that integers of few bits
hold all of them.  It hides nothing and need not: norms stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drdp.mechanisms.integer_kernels import compiled, hadamard

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["padded_length", "rotated", "unrotated"]


def padded_length(length: int) -> int:
    """The least power of two that is at least `length`.

    >>> padded_length(1000)
    1024
    """
    return 1 << (length - 1).bit_length()


def rotated(vector: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """H D x / sqrt(d): random signs, then Walsh-Hadamard, in O(d log d).

    Args:
        vector: x, padded with zeros to a power of two d.
        seed: Of the signs; public, at least 0 and below 2^128.  The signs are
            raw bits of Philox, the same in every version and on every machine.

    Returns:
        A vector of length d with the norm of x, up to rounding.

    >>> float(np.abs(rotated(np.array([3.0, 0, 0, 0]), 1)).max())
    1.5
    """
    x = np.zeros(padded_length(vector.size))
    np.multiply(vector, _signs(vector.size, seed), out=x[: vector.size])
    compiled(hadamard)(x)
    x /= np.sqrt(x.size)
    return x


def unrotated(
    vector: NDArray[np.float64], seed: int, length: int
) -> NDArray[np.float64]:
    """The inverse of `rotated`, without the padding."""
    x = np.array(vector, dtype=np.float64)
    compiled(hadamard)(x)
    x /= np.sqrt(x.size)
    return x[:length] * _signs(length, seed)


def _signs(size: int, seed: int) -> NDArray[np.int8]:
    words = np.random.Philox(key=seed).random_raw((size + 63) // 64)
    stream = np.asarray(words, dtype="<u8").view(np.uint8)
    bits = np.unpackbits(stream, count=size, bitorder="little")
    return 1 - 2 * bits.astype(np.int8)
