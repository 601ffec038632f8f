"""Claim: a durable charge costs milliseconds, however long the ledger is.

Run ``python -m benchmarks.ledger`` in the repository root; it writes into the
folder for temporary files, whose disk decides most of what is measured.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Section, is_quick, seconds, show, table
from drdp.privacy.chain import Entry
from drdp.privacy.events import Event, Gaussian, PoissonSampled
from drdp.privacy.filters import Budget, RenyiFilter, ZeroConcentratedFilter
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger

ROUND = PoissonSampled(0.001, Gaussian(1.0))
BUDGETS: dict[str, tuple[Budget | None, Event]] = {
    "none": (None, ROUND),
    "fixed": (FixedBudget(8.0, 1e-5, ROUND), ROUND),
    "Renyi": (RenyiFilter(8.0, 1e-5, 6.0), ROUND),
    "zero-concentrated": (ZeroConcentratedFilter(8.0, 1e-5), Gaussian(1000.0)),
}


class Finding(NamedTuple):
    """What charging one ledger took, in seconds."""

    budget: str
    entries: int
    median: float
    late: float
    opening: float


def filled(path: Path, budget: Budget | None, event: Event, entries: int) -> None:
    """A ledger with so many entries, written as one transaction."""
    with Ledger.create(path, budget=budget) as ledger:
        store, account = ledger._store, ledger._account
        ledger.charge(event)
        body = ledger.entries()[-1].body
        with store.writing():
            for number in range(2, entries):
                entry = Entry.after(
                    account.head, "charge", label=f"round {number}", body=body
                )
                store.append(entry)
                account.take(entry)


def timed(name: str, folder: Path, entries: int, charges: int) -> Finding:
    """Open such a ledger and charge it; the first charge is left out."""
    budget, event = BUDGETS[name]
    path = folder / f"{name} {entries}.db"
    filled(path, budget, event, entries)
    start = time.perf_counter()
    ledger = Ledger.open(path)
    opening = time.perf_counter() - start
    taken = []
    for number in range(charges + 1):
        start = time.perf_counter()
        ledger.charge(event, label=f"round {number}", key=f"round {number}")
        taken.append(time.perf_counter() - start)
    ledger.close()
    late = statistics.quantiles(taken[1:], n=100)[98]
    return Finding(name, entries, statistics.median(taken[1:]), late, opening)


def synchronised(folder: Path, times: int = 100) -> float:
    """What one write of 4 KiB takes until it is on the disk."""
    taken, handle = [], os.open(folder / "probe", os.O_WRONLY | os.O_CREAT)
    for _ in range(times):
        start = time.perf_counter()
        os.pwrite(handle, bytes(4096), 0)
        os.fsync(handle)
        taken.append(time.perf_counter() - start)
    os.close(handle)
    return statistics.median(taken)


def measure(*, quick: bool = False) -> tuple[float, list[Finding]]:
    """The disk's own time, and that of charges against short and long ledgers."""
    charges = 50 if quick else 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [
            timed(budget, folder, entries, charges)
            for budget in BUDGETS
            for entries in (10, 10_000)
        ]
        return synchronised(folder), found


def section(disk: float, found: list[Finding]) -> Section:
    """The findings as a table."""
    head = ("budget", "entries", "charge, median", "charge, p99", "opening")
    rows = (
        (
            one.budget,
            f"{one.entries:,}",
            *map(seconds, (one.median, one.late, one.opening)),
        )
        for one in found
    )
    text = (
        f"One synchronised write of 4 KiB to this disk takes {seconds(disk)}; a charge"
        " makes four. Opening verifies the whole chain.\n\n"
        f"{table(head, rows)}"
    )
    return Section("A durable charge", "python -m benchmarks.ledger", text)


if __name__ == "__main__":
    show(section(*measure(quick=is_quick(__doc__))))
