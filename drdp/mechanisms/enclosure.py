"""Where a real number lies between two integers, to any number of bits.

Samplers compare uniform random bits with probabilities that no float holds
exactly.  Here such numbers are enclosed: 2^bits times the number lies in
[low, high], by integer arithmetic alone, every rounding outwards.

>>> low, high = exp_minus(Fraction(1), 64)
>>> low / 2**64, high - low <= 2
(0.36787944117144233, True)
"""

from __future__ import annotations

from fractions import Fraction

__all__ = ["Enclosure", "exp_minus", "product", "ratio"]

Enclosure = tuple[int, int]
"""Integers around 2^bits times a number that is not negative."""

_GUARD = 64  # bits that the roundings on the way may spoil


def exp_minus(power: Fraction, bits: int) -> Enclosure:
    """2^bits e^(-power) for a rational power of at least 0, to about a unit.

    The power is halved until it is below 2^-8, the alternating Taylor series
    summed, and the result squared as often as the power was halved.

    >>> exp_minus(Fraction(0), 8)
    (256, 256)
    """
    one = 1 << bits
    if power == 0:
        return one, one
    if power >= bits:  # e^-bits < 2^-bits
        return 0, 1
    halvings = max(0, (power.numerator // power.denominator).bit_length() + 8)
    width = bits + _GUARD + halvings
    # f <= 2^width power / 2^halvings < f + 1, so e^-f is at most a unit too high
    f = (power.numerator << (width - halvings)) // power.denominator
    term, total, terms = 1 << width, 0, 0
    while term:
        total += -term if terms & 1 else term
        terms += 1
        term = ((term * f) >> width) // terms
    # each term is at most 2 units too low, what is left out below 3, f costs 1
    slack = 2 * terms + 4
    low, high = total - slack, total + slack
    for _ in range(halvings):
        low, high = product((low, high), (low, high), width)
    shift = width - bits
    return low >> shift, min((high >> shift) + 1, one)


def product(left: Enclosure, right: Enclosure, bits: int) -> Enclosure:
    """Of two enclosed numbers that are not negative."""
    low, high = left[0] * right[0], left[1] * right[1]
    return low >> bits, -((-high) >> bits)


def ratio(over: Enclosure, under: Enclosure, bits: int) -> Enclosure:
    """Of two enclosed numbers, the lower one positive.

    >>> ratio((1, 1), (3, 3), 8)
    (85, 86)
    """
    return (over[0] << bits) // under[1], -((-(over[1] << bits)) // under[0])
