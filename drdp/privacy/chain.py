"""The entries of a ledger, and the chain of hashes that holds them together.

Every entry holds the hash of the one before it, and its own hash covers all of
it.  Whoever has noted one hash can therefore tell whether anything up to that
entry was changed, moved or left out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple, final

from drdp.errors import CodecError, InvalidArgumentError, LedgerError
from drdp.privacy.codec import loads, to_dict
from drdp.privacy.events import NOTHING, Event
from drdp.privacy.terms import canonical

__all__ = ["BEGINNING", "Entry", "Head", "Kind", "event_text", "read_event"]

Kind = Literal["open", "charge", "reserve", "commit", "plan", "note"]
KINDS = ("open", "charge", "reserve", "commit", "plan", "note")


class Head(NamedTuple):
    """How many entries there are, and the hash of the last one."""

    entries: int
    hash: str


BEGINNING = Head(0, "0" * 64)

_LONGEST = 10_000  # characters of a label


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a ledger.

    Args:
        seq: Its number, from 0.
        kind: open (the terms), charge, reserve, commit (of a reservation), plan
            (a new one for a fixed budget) or note.
        time: When, in UTC.
        run: Which run it belongs to.
        label: What it was for, in words.
        key: A name that no other entry has; None for none.
        body: The event, or the terms, as canonical JSON; None where there is none.
        refers: The number of the reservation that a commit is about.
        prev: The hash of the entry before.
        hash: The hash of this one.
    """

    seq: int
    kind: Kind
    time: str
    run: str
    label: str
    key: str | None
    body: str | None
    refers: int | None
    prev: str
    hash: str

    @staticmethod
    def after(
        head: Head,
        kind: Kind,
        *,
        run: str = "",
        label: str = "",
        key: str | None = None,
        body: str | None = None,
        refers: int | None = None,
    ) -> Entry:
        """The entry that comes next, made now, with its hash.

        Raises:
            InvalidArgumentError: If run, label or key is no text, or too long.
        """
        for name, value in (("run", run), ("label", label), ("key", key or "")):
            _text(name, value)
        time = datetime.now(UTC).isoformat(timespec="microseconds")
        unsealed = Entry(
            *(head.entries, kind, time, run, label, key, body, refers, head.hash),
            hash="",
        )
        return replace(unsealed, hash=unsealed.digest())

    @property
    def event(self) -> Event:
        """What was released, or reserved for release; else NOTHING."""
        if self.kind in ("charge", "reserve"):
            return read_event(self.body)
        return NOTHING

    def text(self) -> str:
        """Everything but the hash, as canonical JSON: what the hash covers."""
        rest = canonical(
            {
                "key": self.key,
                "kind": self.kind,
                "label": self.label,
                "prev": self.prev,
                "refers": self.refers,
                "run": self.run,
                "seq": self.seq,
                "time": self.time,
            }
        )
        return f'{{"body":{self.body or "null"},{rest[1:]}'

    def line(self) -> str:
        """The entry with its hash, as one line of JSON."""
        return f'{self.text()[:-1]},"hash":"{self.hash}"}}'

    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text().encode("ascii")).hexdigest()

    def follows(self, head: Head) -> Head:
        """The new head, where this entry comes right after `head`.

        Raises:
            LedgerError: If it does not, or was changed.
        """
        texts: tuple[Any, ...] = (self.time, self.run, self.label, self.prev, self.hash)
        whole = all(isinstance(value, str) for value in texts)
        try:
            sealed = whole and self.digest() == self.hash
        except ValueError:  # a body that is not ASCII
            sealed = False
        if self.seq != head.entries or self.kind not in KINDS or not sealed:
            raise LedgerError(
                f"entry {head.entries} is missing or was changed: its hash does not"
                " match what it says"
            )
        if self.prev != head.hash:
            raise LedgerError(
                f"entry {head.entries} does not follow the one before it:"
                " entries were changed, exchanged or left out"
            )
        return Head(self.seq + 1, self.hash)


def event_text(event: Event) -> str:
    """An event as canonical JSON."""
    return canonical(to_dict(event))


@lru_cache(maxsize=1024)
def read_event(text: str | None) -> Event:
    """The event of an entry.

    Raises:
        LedgerError: If it is none that this version knows.
    """
    try:
        return loads(text or "")
    except CodecError as error:
        raise LedgerError(
            f"an entry holds no event that can be read: {error}"
        ) from None


def _text(name: str, value: object) -> None:
    if isinstance(value, str) and len(value) <= _LONGEST:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return
    raise InvalidArgumentError(
        f"{name} must be text of at most {_LONGEST} characters, got {value!r:.80}"
    )
