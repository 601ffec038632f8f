"""Sums modulo 2^b, which is all that secure aggregation lets anyone see.

Wrapping round is done to the sum of everything, noise included, so it is
post-processing: it can ruin an estimate, never the privacy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MOST_BITS",
    "centred",
    "integers",
    "known_bits",
    "secure_sum",
    "wrapped",
]

MOST_BITS = 62
"""So that every message is a whole number that 64 bits with a sign can hold."""


def wrapped(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Each value modulo 2^bits, from 0 to 2^bits - 1.

    >>> wrapped(np.array([-1, 5, 16]), 4).tolist()
    [15, 5, 0]
    """
    return values & np.int64((1 << bits) - 1)


def centred(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """The representatives from -2^(bits - 1) to 2^(bits - 1) - 1.

    >>> centred(np.array([15, 5, 8]), 4).tolist()
    [-1, 5, -8]
    """
    half = np.int64(1 << (bits - 1))
    return wrapped(values + half, bits) - half


def secure_sum(
    messages: Iterable[Any], bits: int, *, length: int | None = None
) -> NDArray[np.int64]:
    """What secure aggregation computes: the sum of messages modulo 2^bits.

    A plain addition: it stands for the protocol in simulations and tests, and
    keeps nothing secret itself.

    Args:
        messages: Arrays of integers of one length.
        bits: b, from 1 to 62.
        length: That length; needed where there may be no message, whose sum is
            zeros, to be released like any other.

    Raises:
        InvalidArgumentError: If a message has other entries or another length,
            or if there is none and no length.

    >>> secure_sum([np.array([9, 1]), np.array([9, 2])], 4).tolist()
    [2, 3]
    """
    bits = known_bits(bits)
    total: NDArray[np.uint64] | None = None
    if length is not None:
        total = np.zeros(_check.count(least=1, length=length), dtype=np.uint64)
    for message in messages:
        size = None if total is None else total.size
        part = integers("messages", message, size).view(np.uint64)
        total = part if total is None else total + part  # modulo 2^64 is as well
    if total is None:
        raise InvalidArgumentError(
            "messages must not be empty, or length must say how many zeros to return"
        )
    return wrapped(total.view(np.int64), bits)


def known_bits(bits: int) -> int:
    """A number of bits that a message can have."""
    if _check.count(least=1, bits=bits) > MOST_BITS:
        raise InvalidArgumentError(f"bits must be at most {MOST_BITS}, got {bits}")
    return bits


def integers(name: str, values: Any, length: int | None) -> NDArray[np.int64]:
    """A vector of whole numbers as int64; other types are refused."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InvalidArgumentError(
            f"{name} must be vectors of integers, got {array.ndim} dimensions of"
            f" {array.dtype}; round with `bound` first"
        )
    if length is not None and array.size != length:
        raise InvalidArgumentError(
            f"{name} must have {length} entries, got {array.size}"
        )
    if array.dtype == np.uint64 and array.size and int(array.max()) >> 63:
        raise InvalidArgumentError(f"{name} must be below 2^63, got {array.max()}")
    return array.astype(np.int64)
