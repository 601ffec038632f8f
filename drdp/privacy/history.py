"""How the spend of a ledger grew, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence

from drdp.privacy.chain import Entry
from drdp.privacy.filters import Budget
from drdp.privacy.tally import Tally

__all__ = ["history"]


def history(
    entries: Sequence[Entry], budget: Budget, *, points: int
) -> tuple[list[int], list[float]]:
    """The spent epsilon after some of the entries, the last one among them.

    Args:
        entries: All of a ledger, in order.
        budget: Whose delta, and whose way to count, are taken.
        points: At how many entries, at most, epsilon is computed.

    Returns:
        The numbers of the entries, and the epsilon after each.

    >>> from drdp.privacy.chain import BEGINNING, Entry, event_text
    >>> from drdp.privacy.events import Gaussian
    >>> from drdp.privacy.filters import GaussianFilter
    >>> opening = Entry.after(BEGINNING, "open")
    >>> after = opening.follows(BEGINNING)
    >>> paid = Entry.after(after, "charge", body=event_text(Gaussian(50.0)))
    >>> seqs, values = history([opening, paid], GaussianFilter(1.0, 1e-5), points=9)
    >>> seqs, [round(value, 4) for value in values]
    ([0, 1], [0.0, 0.0586])
    """
    last = len(entries) - 1
    places = {last * k // max(1, points - 1) for k in range(points)}
    tally, seqs, values = Tally(), [], []
    for entry in entries:
        tally.add(entry.event)
        if entry.seq in places:
            seqs.append(entry.seq)
            values.append(budget.spent_epsilon(tally))
    return seqs, values
