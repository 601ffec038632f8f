"""Loops over words of random bits and over vectors, compiled when first used.

Integers stay integers: no probability is ever a float here.  A kernel that
meets a draw its bits do not decide stops and says where, see `lookup`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["compiled", "hadamard", "narrow", "wide"]

_LOW32 = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_BYTE = np.uint64(255)
_EIGHT = np.uint64(8)
_NONE = np.uint64(0)
_DOUBT = np.uint64(16)  # 2^64 p exceeds a product of 8 factors by less than this
_BLOCK = 1 << 13  # numbers that stay in the fastest cache


@lru_cache(maxsize=16)
def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The machine code of a kernel, kept for the next time where that can be."""
    import numba

    try:
        made: Callable[..., Any] = numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # numba finds no place to keep it
        made = numba.njit(nogil=True)(kernel)
    return made


def narrow(
    words: Any, start: int, thresholds: Any, guide: Any, shift: int, out: Any
) -> int:
    """A signed x for each word from `start` on, until one is not decided.

    The upper 63 bits choose |x|, the lowest one the sign.

    Returns:
        The index of the undecided word, or how many there are.
    """
    for i in range(start, words.size):
        word = words[i]
        u = np.int64(word >> _ONE)
        x = guide[u >> shift]
        while thresholds[x] < u:
            x += 1
        if thresholds[x] == u:
            return i
        out[i] = -x if word & _ONE else x
    return int(words.size)


def wide(
    words: Any,
    start: int,
    filled: int,
    thresholds: Any,
    guide: Any,
    shift: int,
    log_step: int,
    factors: Any,
    out: Any,
) -> tuple[int, int]:
    """Signed z = 2^log_step x + y by rejection, three words a candidate.

    Accepted with probability e^(-n c), n = y (y + 2^(log_step + 1) x), a product
    of factors[i, d] = floor(2^64 e^(-d 256^i c)) over the bytes d of n.

    Returns:
        The index of the undecided candidate (or how many there are) and how
        many of `out` are filled.
    """
    low_bits = np.uint64((1 << log_step) - 1)
    for i in range(start, words.size // 3):
        if filled == out.size:
            return i, filled
        word = words[3 * i]
        u = np.int64(word >> _ONE)
        x = np.int64(guide[u >> shift])
        while thresholds[x] < u:
            x += 1
        if thresholds[x] == u:
            return i, filled
        y = np.int64(words[3 * i + 1] & low_bits)
        z = (x << log_step) + y
        if z == 0 and word & _ONE:
            continue  # 0 has no sign
        rest = np.uint64(y * (y + (x << (log_step + 1))))
        if rest != _NONE:
            chance = _NONE
            first = True
            byte = 0
            while rest != _NONE:
                digit = rest & _BYTE
                if digit != _NONE:
                    factor = factors[byte, np.int64(digit)]
                    if first:
                        chance = factor
                        first = False
                    else:  # the upper half of the product of two words
                        a1, a0 = chance >> _HALF, chance & _LOW32
                        b1, b0 = factor >> _HALF, factor & _LOW32
                        middle = a1 * b0 + ((a0 * b0) >> _HALF)
                        lower = a0 * b1 + (middle & _LOW32)
                        chance = a1 * b1 + (middle >> _HALF) + (lower >> _HALF)
                rest >>= _EIGHT
                byte += 1
            coin = words[3 * i + 2]
            if coin >= chance:
                if coin - chance < _DOUBT:
                    return i, filled
                continue
        out[filled] = -z if word & _ONE else z
        filled += 1
    return words.size // 3, filled


def hadamard(x: Any) -> None:
    """The Walsh-Hadamard transform of a vector of 2^k numbers, in its place.

    Without the factor 2^(-k/2) that makes it an isometry.
    """
    size = x.size
    block = min(size, _BLOCK)
    for begin in range(0, size, block):
        half = 1
        while half < block:
            for i in range(begin, begin + block, 2 * half):
                for j in range(i, i + half):
                    a, b = x[j], x[j + half]
                    x[j], x[j + half] = a + b, a - b
            half *= 2
    half = block
    while half < size:
        for i in range(0, size, 2 * half):
            for j in range(i, i + half):
                a, b = x[j], x[j + half]
                x[j], x[j + half] = a + b, a - b
        half *= 2
