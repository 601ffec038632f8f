"""Argument checks: each takes one named value and returns it normalised.

A check is called with a single keyword, so that the message can name the
argument: ``noise_multiplier = positive(noise_multiplier=noise_multiplier)``.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from drdp.errors import InvalidArgumentError

__all__ = ["at_least_zero", "count", "positive", "probability", "rate", "real"]


def _one(named: dict[str, Any]) -> tuple[str, Any]:
    ((name, value),) = named.items()
    return name, value


def _real(name: str, value: Any, domain: str) -> float:
    if isinstance(value, bool | str | bytes) or value is None:
        raise InvalidArgumentError(f"{name} must be {domain}, got {value!r}")
    try:
        number = float(value) + 0.0  # no negative zero
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgumentError(f"{name} must be {domain}, got {value!r}") from None
    if math.isnan(number):
        raise InvalidArgumentError(f"{name} must be {domain}, got nan")
    return number


def real(**named: Any) -> float:
    """A finite number."""
    name, value = _one(named)
    number = _real(name, value, "a finite number")
    if math.isinf(number):
        raise InvalidArgumentError(f"{name} must be finite, got {value!r}")
    return number


def positive(**named: Any) -> float:
    """A finite number above zero."""
    name, value = _one(named)
    number = _real(name, value, "a positive number")
    if not 0.0 < number < math.inf:
        raise InvalidArgumentError(f"{name} must be positive and finite, got {value!r}")
    return number


def at_least_zero(**named: Any) -> float:
    """A finite number, zero allowed."""
    name, value = _one(named)
    number = _real(name, value, "a number of at least 0")
    if not 0.0 <= number < math.inf:
        raise InvalidArgumentError(
            f"{name} must be finite and at least 0, got {value!r}"
        )
    return number


def rate(**named: Any) -> float:
    """A sampling rate: a number in [0, 1]."""
    name, value = _one(named)
    number = _real(name, value, "a number in [0, 1]")
    if not 0.0 <= number <= 1.0:
        raise InvalidArgumentError(f"{name} must lie in [0, 1], got {value!r}")
    return number


def probability(**named: Any) -> float:
    """A probability strictly between 0 and 1."""
    name, value = _one(named)
    number = _real(name, value, "a number in (0, 1)")
    if not 0.0 < number < 1.0:
        raise InvalidArgumentError(
            f"{name} must lie strictly between 0 and 1, got {value!r}"
        )
    return number


def count(*, least: int = 0, **named: Any) -> int:
    """A whole number of at least `least`."""
    name, value = _one(named)
    if not isinstance(value, bool):
        try:
            whole = operator.index(value)
        except TypeError:
            whole = least - 1
        if whole >= least:
            return whole
    raise InvalidArgumentError(
        f"{name} must be a whole number of at least {least}, got {value!r}"
    )
