"""Numbers as a page shows them: what has to hold is rounded to the safe side.

>>> up(7.9999931), about(0.056636), up(float("inf")), about(1.25e-05)
('8', '0.05664', '∞', '1.25e-5')
>>> roughly(2.36), roughly(1234.0), size(114_688)
('2', '1000', '112 KiB')
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal

__all__ = ["about", "roughly", "size", "up"]

_DIGITS = 4
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def up(value: float, digits: int = _DIGITS) -> str:
    """`value` rounded up: a bound that still holds."""
    return _text(value, digits, ROUND_CEILING)


def about(value: float, digits: int = _DIGITS) -> str:
    """`value` rounded to the nearest."""
    return _text(value, digits, ROUND_HALF_EVEN)


def roughly(value: float) -> str:
    """The first digit alone, where more would tell too much."""
    return about(value, 1)


def size(count: float) -> str:
    """A number of bytes."""
    for unit in _UNITS:
        if count < 1024.0 or unit == _UNITS[-1]:
            break
        count /= 1024.0
    return f"{about(count, 3)} {unit}"


def _text(value: float, digits: int, rounding: str) -> str:
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0.0 else "-∞"
    exact = Context(prec=digits, rounding=rounding).plus(Decimal(repr(float(value))))
    if exact == 0:
        return "0"
    if -5 < exact.adjusted() < 9:
        plain = f"{exact:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    mantissa, _, exponent = f"{exact:e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"
