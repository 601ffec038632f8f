"""What paying for a release is: who can be charged, and what one gets for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

from drdp.privacy.events import Event

__all__ = ["Payer", "Receipt"]


class Payer(Protocol):
    """Whoever can be charged for a release: a `Ledger`, or what stands for one."""

    def charge(
        self, event: Event, *, label: str = "", run: str = "", key: str | None = None
    ) -> object:
        """Return once the release of `event` is paid for; raise where it is not."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Receipt:
    """A charge that is on the disk.

    Args:
        seq: The number of its entry.
        hash: The hash of its entry, which names the whole ledger up to it.
        event: What was paid for.
        already: Whether it had been recorded before, so that nothing was now.
    """

    seq: int
    hash: str
    event: Event
    already: bool = False
