"""Norms in exact arithmetic: a float is a fraction, and fractions do not round."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from drdp.mechanisms.arrays import opened


def entries(value: Any) -> list[Fraction]:
    return [
        Fraction(float(x)) for array in opened(value).arrays for x in array.reshape(-1)
    ]


def square(value: Any) -> Fraction:
    """The exact squared L2 norm."""
    return sum((x * x for x in entries(value)), Fraction(0))


def l1(value: Any) -> Fraction:
    """The exact L1 norm."""
    return sum((abs(x) for x in entries(value)), Fraction(0))


def difference(left: Any, right: Any) -> list[np.ndarray]:
    """left - right, exactly, as arrays of fractions."""
    return [
        np.array([Fraction(float(x)) for x in a.reshape(-1)], dtype=object)
        - np.array([Fraction(float(x)) for x in b.reshape(-1)], dtype=object)
        for a, b in zip(opened(left).arrays, opened(right).arrays, strict=True)
    ]
