"""Exact draws from the discrete Gaussian, P(x) proportional to e^(-x^2 / (2 s^2)).

Up to a scale s of 64, |x| is looked up in a table (`lookup`).  Above, z is put
together as 2^j x + y, with x from the table for s / 2^j and y uniform, and kept
with probability e^(-y (y + 2^(j+1) x) / (2 s^2)): the two exponents add up to
z^2 / (2 s^2) (Ducas, Durmus, Lepoint and Lyubashevsky, CRYPTO 2013).  A zero is
kept with one of the two signs only.

Every comparison of random bits with a probability is decided by integer
arithmetic that knows its own error, and refined where it is not decided, so the
statistical distance from the law is 0 as long as the bits are uniform (the aim
of Canonne, Kamath and Steinke, arXiv:2004.00010).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.enclosure import Enclosure, exp_minus, product, ratio
from drdp.mechanisms.integer_kernels import compiled, narrow, wide
from drdp.mechanisms.lookup import Lookup, bernoulli_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["LARGEST_SCALE", "discrete_gaussian", "signed_draws"]

LARGEST_SCALE = 2.0**30
"""Of one draw: 64-bit integers hold what comes up on the way."""

_TABLED = 64  # the largest scale that is looked up directly
_CHUNK = 1 << 16  # candidates at a time
_GUARD = 64


def discrete_gaussian(
    count: int, scale: float | Fraction, rng: NoiseSource
) -> NDArray[np.int64]:
    """Independent draws from N_Z(0, scale^2).

    Args:
        count: How many.
        scale: s, taken exactly as the rational number that it is; above 0 and
            at most 2^30.
        rng: Where the random bits come from; one word is used for each draw up
            to a scale of 64, about three above.

    Guarantees:
        The law is exact: nothing is rounded and no tail is left out.  The time
        a call takes depends on what is drawn, though not on any data.

    Raises:
        InvalidArgumentError: If the scale is outside its domain.
    """
    count = _check.count(count=count)
    exact = _exact(scale)
    step, lookup, factors = _tables(exact)
    if step == 0:
        return signed_draws(lookup, count, rng)
    out = np.empty(count, dtype=np.int64)
    run, filled = compiled(wide), 0
    while filled < count:
        words = rng.words(3 * min(_CHUNK, count - filled + (count - filled) // 64 + 8))
        i = 0
        while True:
            i, filled = run(
                words,
                i,
                filled,
                lookup.thresholds,
                lookup.guide,
                lookup.shift,
                step,
                factors,
                out,
            )
            if filled == count or i == words.size // 3:
                break
            kept = _settled([int(w) for w in words[3 * i : 3 * i + 3]], exact, rng)
            if kept is not None:
                out[filled] = kept
                filled += 1
            i += 1
    return out


def signed_draws(lookup: Lookup, count: int, rng: NoiseSource) -> NDArray[np.int64]:
    """Draws of x with a fair sign, where `lookup` holds the law of |x|."""
    out = np.empty(count, dtype=np.int64)
    run, done = compiled(narrow), 0
    while done < count:
        words = rng.words(min(_CHUNK, count - done))
        part, i = out[done : done + words.size], 0
        while True:
            i = run(words, i, lookup.thresholds, lookup.guide, lookup.shift, part)
            if i == words.size:
                break
            word = int(words[i])
            x = lookup.settle(word >> 1, rng)
            part[i] = -x if word & 1 else x
            i += 1
        done += words.size
    return out


def _settled(words: Sequence[int], scale: Fraction, rng: NoiseSource) -> int | None:
    """What the candidate of three words comes to, with more bits where needed."""
    step, lookup, _ = _tables(scale)
    first, negative = words[0] >> 1, words[0] & 1
    x = int(np.searchsorted(lookup.thresholds, first))
    if lookup.thresholds[x] == first:
        x = lookup.settle(first, rng)
    y = words[1] & ((1 << step) - 1)
    z = (x << step) + y
    if z == 0 and negative:
        return None
    power = y * (y + (x << (step + 1))) / (2 * scale * scale)
    if not bernoulli_exp(power, words[2], rng):
        return None
    return -z if negative else z


def _exact(scale: float | Fraction) -> Fraction:
    _check.positive(scale=scale)
    if scale > LARGEST_SCALE:
        raise InvalidArgumentError(
            f"scale must be at most 2^30, got {float(scale)!r}: noise that wide needs"
            " a coarser granularity"
        )
    return Fraction(scale)


@lru_cache(maxsize=64)
def _tables(scale: Fraction) -> tuple[int, Lookup, NDArray[np.uint64]]:
    """The exponent of the step, the table of x and the factors of e^(-n c)."""
    step = 0
    while scale > _TABLED << step:
        step += 1
    kappa = Fraction(4**step) / (2 * scale * scale)
    folded = step == 0
    lookup = Lookup(lambda bits: _cumulative(kappa, bits, folded=folded))
    if folded:
        return 0, lookup, np.empty((0, 0), dtype=np.uint64)
    last, most = len(lookup.thresholds), 1 << step
    largest = most * (most + 2 * most * last)
    rows = (largest.bit_length() + 7) // 8
    factors = np.zeros((rows, 256), dtype=np.uint64)
    for row in range(rows):
        width = 64 + _GUARD
        once = exp_minus(Fraction(256**row) / (2 * scale * scale), width)
        power = once
        for digit in range(1, 256):
            factors[row, digit] = power[0] >> _GUARD
            power = product(power, once, width)
    return step, lookup, factors


def _cumulative(kappa: Fraction, bits: int, *, folded: bool) -> list[Enclosure]:
    """F of the law proportional to e^(-kappa x^2) on x >= 0.

    Folded, every x above 0 counts twice: the law of |x| for x of both signs.
    """
    width = bits + _GUARD
    one = 1 << width
    weight: Enclosure = (one, one)
    fall, steeper = exp_minus(kappa, width), exp_minus(2 * kappa, width)
    low = high = 0
    sums: list[Enclosure] = []
    while True:
        times = 2 if folded and sums else 1
        low, high = low + times * weight[0], high + times * weight[1]
        sums.append((low, high))
        # the weights fall ever faster: a geometric series bounds the rest
        rest = 2 * -((-weight[1] * fall[1]) // (one - fall[1]))
        if rest < 1 << (_GUARD - 8):
            break
        weight = product(weight, fall, width)
        fall = product(fall, steeper, width)
    whole = (low, high + rest)
    return [_below_one(ratio(part, whole, bits), bits) for part in sums]


def _below_one(found: Enclosure, bits: int) -> Enclosure:
    return found[0], min(found[1], 1 << bits)
