"""What the entries of a ledger amount to: terms, sums, keys, reservations."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from drdp.errors import CodecError, LedgerError
from drdp.privacy.chain import BEGINNING, Entry, Head, read_event
from drdp.privacy.filters import Budget
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.tally import Tally
from drdp.privacy.terms import Terms

__all__ = ["Account"]


@final
class Account:
    """The state that a ledger's entries lead to, one after the other."""

    __slots__ = ("budget", "head", "keys", "pending", "tally", "terms")

    def __init__(self) -> None:
        self.head: Head = BEGINNING
        self.keys: dict[str, Entry] = {}
        self.pending: dict[int, Entry] = {}
        self.tally = Tally()
        self.terms = Terms()
        self.budget: Budget | None = None

    def take(self, entry: Entry) -> None:
        """Count an entry that follows what is known.

        Raises:
            LedgerError: If it does not follow, was changed, or means nothing.
        """
        head = entry.follows(self.head)
        if (entry.seq == 0) != (entry.kind == "open"):
            raise LedgerError(f"entry {entry.seq} has no business there: {entry.kind}")
        match entry.kind:
            case "open":
                self._open(entry)
            case "charge" | "reserve":
                self.tally.add(entry.event)
                if entry.kind == "reserve":
                    self.pending[entry.seq] = entry
            case "commit":
                if self.pending.pop(entry.refers or -1, None) is None:
                    raise LedgerError(f"entry {entry.seq} commits what is not reserved")
            case "plan" if isinstance(self.budget, FixedBudget):
                plan = read_event(entry.body)
                self.budget = replace(self.budget, plan=plan, before=self.tally.event)
        if entry.key is not None:
            self.keys[entry.key] = entry
        self.head = head

    def _open(self, entry: Entry) -> None:
        try:
            self.terms = Terms.loads(entry.body or "")
        except CodecError as error:
            raise LedgerError(
                f"the terms of the ledger cannot be read by this drdp: {error}"
            ) from None
        self.budget = self.terms.budget
