"""The terms of a ledger: its budget, whom it protects, and their JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

from drdp import _check
from drdp.errors import CodecError, InvalidArgumentError
from drdp.privacy.adjacency import Adjacency, known_adjacency
from drdp.privacy.codec import from_dict, to_dict
from drdp.privacy.events import Event, adjacency_of
from drdp.privacy.filters import (
    ApproxDPFilter,
    Budget,
    GaussianFilter,
    RenyiFilter,
    ZeroConcentratedFilter,
)
from drdp.privacy.fixed_budget import FixedBudget

__all__ = ["VERSION", "Terms", "canonical"]

VERSION = 1

_KINDS: dict[str, Any] = {
    "fixed": FixedBudget,
    "renyi": RenyiFilter,
    "zero-concentrated": ZeroConcentratedFilter,
    "gaussian": GaussianFilter,
    "approx-dp": ApproxDPFilter,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
)


def canonical(value: Mapping[str, Any] | list[Any]) -> str:
    """The one JSON text of a value: sorted, without spaces, ASCII only."""
    return _ENCODER.encode(value)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a ledger was opened with; none of it ever changes.

    Args:
        budget: What may be spent; None where charges are only recorded.
        unit: Whom the guarantee protects, e.g. ``"client"``.
        adjacency: The neighbouring relation that every event has to be under.
        population: How many units there are, if it may be known.

    >>> terms = Terms(budget=ZeroConcentratedFilter(1.0, 1e-5), unit="client")
    >>> Terms.loads(terms.dumps()) == terms
    True
    """

    budget: Budget | None = None
    unit: str = "client"
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    population: int | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and type(self.budget) not in _NAMES:
            known = ", ".join(kind.__name__ for kind in _KINDS.values())
            raise InvalidArgumentError(
                f"budget must be one of {known}, or None; got {self.budget!r:.80}"
            )
        unit: Any = self.unit
        if not isinstance(unit, str) or not unit:
            raise InvalidArgumentError(
                f"unit must be a word such as 'client', got {self.unit!r:.80}"
            )
        object.__setattr__(self, "adjacency", known_adjacency(self.adjacency))
        if self.population is not None:
            population = _check.count(least=1, population=self.population)
            object.__setattr__(self, "population", population)
        if isinstance(self.budget, FixedBudget):
            self.accepts(self.budget.plan)

    def accepts(self, event: Event) -> None:
        """Return where an event is under the relation of the ledger.

        Raises:
            InvalidArgumentError: If it is stated under another one.
        """
        if not isinstance(event, Event):
            raise InvalidArgumentError(f"event must be an Event, got {event!r:.80}")
        found = adjacency_of(event)
        if found not in (None, self.adjacency):
            raise InvalidArgumentError(
                f"event is stated under {found}, the ledger under {self.adjacency};"
                " their costs cannot be added: state it under the ledger's relation,"
                " or keep a ledger of its own"
            )

    def dumps(self) -> str:
        """The terms as canonical JSON."""
        return canonical(
            {
                "drdp_ledger": VERSION,
                "budget": None if self.budget is None else _encoded(self.budget),
                "unit": self.unit,
                "adjacency": str(self.adjacency),
                "population": self.population,
            }
        )

    @staticmethod
    def loads(text: str) -> Terms:
        """The terms that a text describes.

        Raises:
            CodecError: If it describes none that this version knows.
        """
        try:
            values = dict(json.loads(text))
            version = values.pop("drdp_ledger")
            if version != VERSION:
                raise CodecError(f"drdp_ledger must be {VERSION}, got {version!r:.80}")
            budget = values.pop("budget")
            return Terms(
                budget=None if budget is None else _decoded(dict(budget)), **values
            )
        except (InvalidArgumentError, KeyError, TypeError, ValueError) as error:
            raise CodecError(f"not the terms of a ledger: {error}") from None


def _encoded(budget: Budget) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": _NAMES[type(budget)]}
    for item in fields(budget):  # type: ignore[arg-type]
        value = getattr(budget, item.name)
        body[item.name] = to_dict(value) if isinstance(value, Event) else value
    return body


def _decoded(body: dict[str, Any]) -> Budget:
    kind = _KINDS[body.pop("kind")]
    values = {
        name: from_dict(value) if isinstance(value, dict) else value
        for name, value in body.items()
    }
    budget: Budget = kind(**values)
    return budget
