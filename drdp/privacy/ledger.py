"""The ledger: every charge is durable before the release that it pays for.

>>> import tempfile
>>> from drdp.privacy.events import Gaussian, PoissonSampled
>>> from drdp.privacy.fixed_budget import FixedBudget
>>> round_ = PoissonSampled(0.05, Gaussian(1.0))
>>> path = Path(tempfile.mkdtemp()) / "ledger.db"
>>> with Ledger.create(path, budget=FixedBudget(2.0, 1e-5, round_)) as ledger:
...     receipt = ledger.charge(round_, label="round 1", key="run 7, round 1")
...     again = ledger.charge(round_, key="run 7, round 1")
...     receipt.seq, again.already, ledger.remaining(round_)
(1, True, 19)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import final

from drdp import _check
from drdp.errors import LedgerError
from drdp.privacy.account import Account
from drdp.privacy.adjacency import Adjacency, known_adjacency
from drdp.privacy.allowance import MOST
from drdp.privacy.chain import BEGINNING, Entry, Head, Kind, event_text
from drdp.privacy.events import NOTHING, Event
from drdp.privacy.filters import Budget
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.payment import Payer, Receipt
from drdp.privacy.store import Store
from drdp.privacy.tally import Tally
from drdp.privacy.terms import Terms

__all__ = ["Ledger", "Payer", "Receipt", "Reservation"]

_TIMEOUT = 30.0  # seconds


@final
@dataclass(frozen=True, slots=True)
class Reservation:
    """A charge that says later if the release was made; spent either way."""

    receipt: Receipt
    ledger: Ledger

    def commit(self) -> Receipt:
        """Record that the release was made.  Committing again changes nothing."""
        return self.ledger._commit(self.receipt)


@final
class Ledger:
    """What has been released about one data set, and what may still be.

    Safe for several threads, and for several processes that each open the file.
    Entries are appended, never changed; nothing is ever refunded.

    Guarantees:
        Whatever happens to the process or the machine, what the ledger says is
        spent is at least what was released, provided that nothing is released
        before `charge` returns.  What it cannot notice by itself is that the
        whole file was put back to an older copy: see `verify`.
    """

    def __init__(self, store: Store) -> None:
        """Use `Ledger.open` or `Ledger.create`."""
        self._store = store
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._closed = False
        self._account = Account()
        try:
            self.refresh()
            if self._account.head == BEGINNING:
                raise LedgerError(f"the ledger {store.path} has lost all its entries")
        except BaseException:
            store.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        budget: Budget | None = None,
        unit: str = "client",
        adjacency: Adjacency | str = Adjacency.ADD_REMOVE,
        population: int | None = None,
        exist_ok: bool = False,
        timeout: float = _TIMEOUT,
    ) -> Ledger:
        """Make a new ledger, and open it.

        Args:
            path: Of the file; on a local disk.
            budget: What may be spent; None records charges without a limit.
            unit: Whom the guarantee protects.
            adjacency: The neighbouring relation that all events are under.
            population: How many units there are, if that may be known.
            exist_ok: Open the ledger that is there already, if its terms are
                these; for runs that are resumed.
            timeout: Seconds to wait for other processes.

        Raises:
            LedgerError: If the file exists, or cannot be written.
            CalibrationError: If the plan of a `FixedBudget` does not fit even once.
        """
        terms = Terms(
            budget=budget,
            unit=unit,
            adjacency=known_adjacency(adjacency),
            population=population,
        )
        if isinstance(budget, FixedBudget):
            budget.require()

        opening = Entry.after(BEGINNING, "open", body=terms.dumps())
        if not (exist_ok and os.path.lexists(path)):
            try:
                Store.create(Path(path), opening)
            except LedgerError:
                if not (exist_ok and os.path.lexists(path)):
                    raise
        found = cls.open(path, timeout=timeout)
        if found._account.terms != terms:
            found.close()
            raise LedgerError(
                f"the ledger {path} was opened with other terms: {found._account.terms}"
            )
        return found

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        timeout: float = _TIMEOUT,
    ) -> Ledger:
        """Open a ledger; its whole chain is verified.

        Args:
            path: Of the file.
            read_only: Refuse to charge, and leave the file as it is.
            timeout: As for `create`.

        Raises:
            LedgerError: If it is missing, no ledger, damaged, or too new.
        """
        _check.at_least_zero(timeout=timeout)
        return cls(Store(Path(path), read_only=read_only, timeout=timeout))

    def charge(
        self, event: Event, *, label: str = "", run: str = "", key: str | None = None
    ) -> Receipt:
        """Pay for a release; make it only once this has returned.

        Args:
            event: What will be released.
            label: What it is for, in words.
            run: Which run it belongs to.
            key: A name for this one release, such as ``"run 7, round 3"``.  A run
                that is resumed may charge it again, and pays once, if it releases
                nothing but what it may have released before.  Noise that is
                drawn afresh is another release once the first one was seen.

        Returns:
            A receipt, once the charge is on the disk.

        Raises:
            ChargeRefusedError: If the budget does not allow it.
            UnsupportedEventError: If the budget cannot count such a release.
            LedgerError: If the file cannot be written, or has been tampered with,
                or the key was charged with another event.
        """
        return self._pay("charge", event, label=label, run=run, key=key)

    def reserve(
        self, event: Event, *, label: str = "", run: str = "", key: str | None = None
    ) -> Reservation:
        """Pay for a release, and say afterwards that it was made.

        A reservation counts as spent from now on, whether or not it is ever
        committed: a crash in between may have come after the release.
        """
        receipt = self._pay("reserve", event, label=label, run=run, key=key)
        return Reservation(receipt, self)

    def declare(self, plan: Event, *, label: str = "", run: str = "") -> Receipt:
        """Give a fixed budget a new plan for what is left of it.

        This is a promise, on record, that neither the new plan nor the moment was
        chosen from what was released.  Where they were, use a filter instead.

        Raises:
            LedgerError: If the budget is not a `FixedBudget`.
            CalibrationError: If the new plan does not fit even once.
        """
        self._account.terms.accepts(plan)
        with self._appending() as append:
            budget = self._account.budget
            if not isinstance(budget, FixedBudget):
                raise LedgerError(
                    "only a FixedBudget has a plan; this ledger's budget takes any"
                    " release that it can count"
                )
            before = self._account.tally.event
            replace(budget, plan=plan, before=before).require()
            entry = append("plan", label=label, run=run, body=event_text(plan))
        return Receipt(entry.seq, entry.hash, plan)

    def note(self, text: str, *, run: str = "") -> Receipt:
        """Record something that costs nothing."""
        with self._appending() as append:
            entry = append("note", label=text, run=run)
        return Receipt(entry.seq, entry.hash, NOTHING)

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def terms(self) -> Terms:
        """What the ledger was opened with."""
        return self._account.terms

    @property
    def budget(self) -> Budget | None:
        """What may be spent, with the plan that holds now."""
        return self._account.budget

    @property
    def spent(self) -> Event:
        """Everything that was charged or reserved, as one event."""
        return self.tally.event

    @property
    def tally(self) -> Tally:
        """A copy of the same as counts of releases."""
        with self._lock:
            self.refresh()
            return Tally(self._account.tally.event)

    @property
    def head(self) -> Head:
        """How many entries there are, and the last one's hash; note it elsewhere."""
        with self._lock:
            self.refresh()
            return self._account.head

    @property
    def pending(self) -> tuple[Entry, ...]:
        """The reservations that were not committed; they count as spent."""
        with self._lock:
            self.refresh()
            return tuple(self._account.pending.values())

    def entries(self) -> tuple[Entry, ...]:
        """Every entry, in order."""
        with self._lock, self._reading():
            return tuple(self._store.entries())

    def remaining(self, event: Event) -> int:
        """How many releases of `event` still fit, at most 10^9."""
        self._account.terms.accepts(event)
        with self._lock:
            self.refresh()
            budget = self._account.budget
            return (
                MOST if budget is None else budget.remaining(self._account.tally, event)
            )

    def verify(self, head: str | None = None) -> Head:
        """Check every page, every entry and the whole chain anew.

        Args:
            head: The hash of an entry that was noted before.  A ledger that does
                not hold it was put back to an older copy, or is another one;
                without a noted hash nobody can tell.

        Raises:
            LedgerError: If anything is wrong.
        """
        with self._lock:
            with Ledger.open(self.path, read_only=True) as fresh:
                fresh._store.check()
                found, known = fresh.head, {one.hash for one in fresh.entries()}
            for noted in (self._account.head.hash, head):
                if noted is not None and noted not in known:
                    raise LedgerError(
                        f"the ledger {self.path} does not hold the entry {noted}: it"
                        " was put back to an older copy, or is another ledger"
                    )
        return found

    def refresh(self) -> None:
        """Read what other processes have appended."""
        with self._lock, self._reading():
            self._catch_up()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._closed = True
            self._store.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _pay(
        self, kind: Kind, event: Event, *, label: str, run: str, key: str | None
    ) -> Receipt:
        self._account.terms.accepts(event)
        body = event_text(event)
        with self._appending() as append:
            old = None if key is None else self._account.keys.get(key)
            if old is not None:
                if old.body != body:
                    raise LedgerError(
                        f"key {key!r} was charged with {old.event!r:.200}, not with"
                        f" {event!r:.200}; a key names one release"
                    )
                return Receipt(old.seq, old.hash, old.event, already=True)
            if self._account.budget is not None:
                self._account.budget.admit(self._account.tally, event)
            entry = append(kind, label=label, run=run, key=key, body=body)
        return Receipt(entry.seq, entry.hash, event)

    def _commit(self, receipt: Receipt) -> Receipt:
        with self._appending() as append:
            if receipt.seq not in self._account.pending:
                return replace(receipt, already=True)
            entry = append("commit", refers=receipt.seq)
        return Receipt(entry.seq, entry.hash, receipt.event)

    @contextmanager
    def _appending(self) -> Iterator[Callable[..., Entry]]:
        """The file to oneself, all of it known; then what was appended is durable."""
        written: list[Entry] = []

        def append(kind: Kind, **values: str | int | None) -> Entry:
            entry = Entry.after(self._account.head, kind, **values)  # type: ignore[arg-type]
            self._store.append(entry)
            written.append(entry)
            return entry

        with self._lock:
            self._alive()
            with self._store.writing():
                self._catch_up()
                yield append
            for entry in written:
                self._account.take(entry)
            if written:
                self._store.settle()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._alive()
        with self._store.reading():
            yield

    def _alive(self) -> None:
        if self._closed:
            raise LedgerError(f"the ledger {self.path} is closed")
        if os.getpid() != self._process:
            raise LedgerError(
                f"the ledger {self.path} was opened by another process, from which"
                " this one was forked; open it again here"
            )

    def _catch_up(self) -> None:
        """Take the entries that are new, and see that none has gone."""
        claimed = self._store.head()
        if claimed == self._account.head:
            return
        for entry in self._store.entries(self._account.head.entries):
            self._account.take(entry)
        found = self._account.head.entries
        if claimed != self._account.head:
            raise LedgerError(
                f"the ledger {self.path} says it has {claimed.entries} entries, not"
                f" {found}: some are missing, or it was put back to an older copy"
            )
