"""What a run's ledger says was spent, round by round, under each accountant.

>>> from drdp.privacy.events import Gaussian
>>> paid = [Charge(1, Gaussian(2.0)), Charge(2, Gaussian(2.0))]
>>> until(paid, 1) == Gaussian(2.0) * 1, until(paid, 2) == Gaussian(2.0) * 2
(True, True)
>>> [round(c.epsilons[-1], 3) for c in accounted(paid, [1, 2], 1e-5)]
[2.943, 3.189, 2.943]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, final

from drdp.errors import LedgerError, RunFolderError, UnsupportedEventError
from drdp.privacy.chain import Entry, Head
from drdp.privacy.curves import Interval, PrivacyCurve
from drdp.privacy.events import NOTHING, Composed, Event, NonPrivate, atoms
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.rdp import rdp_curve

__all__ = [
    "Accounted",
    "Book",
    "Charge",
    "accounted",
    "certified",
    "open_book",
    "spread",
    "until",
]

_RENYI = "Renyi divergences"
_PARTS_OF_A_KEY = 3  # run / round / mark


class Charge(NamedTuple):
    """A release that was paid for, and with which round; 0 before the first."""

    round: int
    event: Event


@final
@dataclass(frozen=True, slots=True)
class Book:
    """What was read from a ledger, its chain of hashes verified.

    Args:
        entries: All entries, in order.
        head: How many they are, and the last one's hash.
        unit: Whom the ledger protects.
        adjacency: Under which relation.
        budget: The epsilon and delta that may be spent, if there is a limit.
    """

    entries: tuple[Entry, ...]
    head: Head
    unit: str
    adjacency: str
    budget: tuple[float, float] | None

    @property
    def charges(self) -> list[Charge]:
        """Everything that counts as spent.

        What cannot be assigned to a round counts from the beginning on.
        """
        return [
            Charge(_round(entry), entry.event)
            for entry in self.entries
            if entry.event != NOTHING
        ]


@final
@dataclass(frozen=True, slots=True)
class Accounted:
    """What one accountant says after each of some rounds.

    Args:
        name: Of the accountant.
        bound: Whether its figures are guarantees or an estimate.
        epsilons: One a round; may be infinite.
    """

    name: str
    bound: Literal["upper", "estimate"]
    epsilons: tuple[float, ...]


def open_book(path: Path) -> Book:
    """Read a ledger without changing it.

    Raises:
        RunFolderError: If it is missing, damaged, or not to be trusted.
    """
    from drdp.privacy.ledger import Ledger

    try:
        with Ledger.open(path, read_only=True) as ledger:
            budget = ledger.budget
            return Book(
                ledger.entries(),
                ledger.head,
                ledger.terms.unit,
                str(ledger.terms.adjacency),
                (budget.epsilon, budget.delta)
                if isinstance(budget, FixedBudget)
                else None,
            )
    except LedgerError as error:
        raise RunFolderError(f"the run's ledger cannot be used: {error}") from None


def until(charges: Sequence[Charge], round_: int) -> Event:
    """Everything that was paid for up to a round, as one event.

    A round that was paid for twice counts twice: after a crash it may have been
    released twice.
    """
    counts = Counter(charge.event for charge in charges if charge.round <= round_)
    parts = tuple(event * times for event, times in counts.items())
    return parts[0] if len(parts) == 1 else Composed(parts)


def certified(event: Event, delta: float) -> Interval:
    """The certified interval of epsilon.

    Guarantees:
        The upper end is never below the true epsilon.
    """
    if NonPrivate() in atoms(event):
        return Interval(math.inf, math.inf, "no protection")
    if not atoms(event):
        return Interval(0.0, 0.0, "nothing released")
    try:
        return epsilon_interval(event, delta)
    except UnsupportedEventError:
        return Interval(0.0, rdp_curve(event).epsilon(delta), _RENYI)


def accounted(
    charges: Sequence[Charge], rounds: Sequence[int], delta: float
) -> list[Accounted]:
    """epsilon after each of `rounds` under each accountant that knows the events.

    Args:
        charges: As in the ledger.
        rounds: After which rounds, increasing.
        delta: Strictly between 0 and 1.

    Returns:
        The certified accountant first, then Renyi divergences, then Gaussian
        differential privacy, which is only an estimate where rounds are sampled.
    """
    events = [until(charges, round_) for round_ in rounds]
    known = {event: certified(event, delta) for event in dict.fromkeys(events)}
    by_renyi = any(one.method == _RENYI for one in known.values())
    found = [
        Accounted(
            f"certified ({'RDP' if by_renyi else 'PLD'})",
            "upper",
            tuple(known[event].upper for event in events),
        )
    ]
    others: tuple[tuple[str, Callable[[Event], PrivacyCurve]], ...] = (
        ("RDP", rdp_curve),
        ("GDP", gdp_curve),
    )
    for name, curve_of in others:
        try:
            values, bounds = [], set()
            for event in events:
                curve = curve_of(event)
                bounds.add(curve.bound)
                values.append(curve.epsilon(delta) if atoms(event) else 0.0)
        except UnsupportedEventError:
            continue
        sure = bounds <= {"upper"}
        title = name if sure else f"{name} by the CLT (an estimate, no guarantee)"
        found.append(Accounted(title, "upper" if sure else "estimate", tuple(values)))
    return found


def spread(rounds: int, wanted: Sequence[int], most: int = 24) -> list[int]:
    """Rounds to ask about: the first and last, and evenly many of the wanted ones.

    >>> spread(20, [0, 5, 10, 15, 20], most=6)
    [0, 1, 5, 10, 15, 20]
    """
    ends = sorted({0, min(1, rounds), rounds})
    inner = [round_ for round_ in sorted(set(wanted)) if 1 < round_ < rounds]
    room = most - len(ends)
    if len(inner) > room:
        inner = [inner[k * len(inner) // room] for k in range(room)]
    elif room > len(inner) and not inner:
        gap = max(1, rounds // room)
        inner = list(range(1 + gap, rounds, gap))[:room]
    return sorted({*ends, *inner})


def _round(entry: Entry) -> int:
    parts = (entry.key or "").split("/")
    if len(parts) == _PARTS_OF_A_KEY and parts[1].isdecimal():
        return int(parts[1])
    return 0
