"""Numbers as people read them: rounded to the side that keeps them true.

>>> up(0.99682512), down(1.9999993), down(20), plain(1e-05)
('0.996826', '1.99999', '20', '1e-5')
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

from drdp.privacy.curves import Interval

__all__ = ["about", "between", "down", "nearest", "plain", "up"]

_DIGITS = 6


def up(value: float, digits: int = _DIGITS) -> str:
    """`value` rounded up: noise that is still enough, a bound that still holds."""
    return _rounded(value, digits, ROUND_CEILING)


def down(value: float, digits: int = _DIGITS) -> str:
    """`value` rounded down: a rate that is still allowed, a lower bound."""
    return _rounded(value, digits, ROUND_FLOOR)


def nearest(value: float, digits: int = _DIGITS) -> str:
    """`value` rounded to the nearest."""
    return _rounded(value, digits, ROUND_HALF_EVEN)


def plain(value: float) -> str:
    """An input as the user wrote it, or its first digits where it is long."""
    exact = _tidy(Decimal(repr(float(value))))
    return exact if len(exact) <= _DIGITS + 3 else nearest(value)


def between(interval: Interval, digits: int = _DIGITS) -> str:
    """An interval, its ends rounded outward; one number where they agree."""
    lower, upper = down(interval.lower, digits), up(interval.upper, digits)
    return upper if lower == upper else f"{lower} to {upper}"


def about(interval: Interval, digits: int = _DIGITS - 1) -> str:
    """An interval as its upper end alone, where that says it all."""
    if interval.upper - interval.lower <= 10.0 ** (1 - digits) * interval.upper:
        return up(interval.upper, digits)
    return between(interval, digits)


def _rounded(value: float, digits: int, rounding: str) -> str:
    if math.isinf(value):
        return "inf"
    # From the shortest text that reads as `value`: what the user typed stays so.
    exact = Decimal(repr(float(value)))
    return _tidy(Context(prec=digits, rounding=rounding).plus(exact))


def _tidy(number: Decimal) -> str:
    if number == 0:
        return "0"
    if -5 < number.adjusted() < 9:
        return f"{number:f}".removesuffix(".0")
    mantissa, _, exponent = f"{number:e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"
