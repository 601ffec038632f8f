"""Which data sets count as neighbours."""

from __future__ import annotations

from enum import StrEnum

from drdp.errors import InvalidArgumentError

__all__ = ["Adjacency", "known_adjacency"]


class Adjacency(StrEnum):
    """The neighbouring relation that a guarantee is stated under.

    - ``ADD_REMOVE``: one privacy unit (client or example) more or less.
    - ``ZERO_OUT``: one unit's contribution replaced by zero.
    - ``REPLACE_ONE``: one unit's data replaced by other data.
    """

    ADD_REMOVE = "add-remove"
    ZERO_OUT = "zero-out"
    REPLACE_ONE = "replace-one"


def known_adjacency(value: object) -> Adjacency:
    """The relation that a value names."""
    try:
        return Adjacency(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(Adjacency)
        raise InvalidArgumentError(
            f"adjacency must be one of {known}, got {value!r}"
        ) from None
