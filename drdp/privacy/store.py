"""The file of a ledger: SQLite, write-ahead, append-only, versioned.

A commit returns once the entry is on the disk *and* in the main file, so that
the file alone is the ledger: the ``-wal`` file beside it never holds anything
that has been acknowledged and is not in the main file as well, unless a reader
was in the way.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from drdp.errors import LedgerError
from drdp.privacy.chain import Entry, Head

__all__ = ["MIGRATIONS", "SCHEMA", "Store"]

SCHEMA = 1
"""The version of the tables.  It is in the header and in the table `meta`."""

Migration = Callable[[sqlite3.Connection], None]
MIGRATIONS: Mapping[int, Migration] = {}
"""From each older version, the step to the next one."""

_MARK = 0x64726470  # "drdp", SQLite's application id
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, time TEXT NOT NULL,
    run TEXT NOT NULL, label TEXT NOT NULL, key TEXT, body TEXT, refers INTEGER,
    prev TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL, hash TEXT NOT NULL);
CREATE TRIGGER entry_is_kept BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
CREATE TRIGGER entry_is_not_deleted BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
CREATE TRIGGER head_only_grows BEFORE UPDATE ON head
    WHEN NEW.count <> OLD.count + 1
    BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
CREATE TRIGGER head_is_not_deleted BEFORE DELETE ON head
    BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
CREATE TRIGGER meta_is_not_deleted BEFORE DELETE ON meta
    BEGIN SELECT RAISE(ABORT, 'a ledger is append-only'); END;
"""
_COLUMNS = "seq, kind, time, run, label, key, body, refers, prev, hash"
_REMEDIES = {
    "SQLITE_FULL": "the disk, or a quota, is full; make room and try again",
    "SQLITE_READONLY": "it is read-only; give write permission, or open it read-only",
    "SQLITE_BUSY": "another process keeps it locked; try again when it is done",
    "SQLITE_LOCKED": "another connection keeps it locked; try again when it is done",
    "SQLITE_CORRUPT": "it is damaged; restore a copy that is not older",
    "SQLITE_NOTADB": "it is no ledger, or its beginning is damaged",
    "SQLITE_CANTOPEN": "it, or a file beside it, cannot be opened; check permissions",
    "SQLITE_PERM": "permission is denied",
    "SQLITE_IOERR": "the disk failed, or it is full",
}


class Store:
    """One connection to the file of a ledger."""

    def __init__(self, path: Path, *, read_only: bool, timeout: float) -> None:
        """Open a file that exists.

        Raises:
            LedgerError: If it is missing, no ledger, damaged or too new.
        """
        self.path = path
        self.read_only = read_only
        if not path.is_file():
            raise LedgerError(
                f"there is no ledger at {path}; create one with Ledger.create or"
                " `drdp ledger init`"
            )
        with self.told("opened"):
            self._database = self._connect(timeout)
        try:
            with self.told("opened"):
                self._prepare()
        except BaseException:
            self.close()
            raise
        self._identity = self._inode()

    @staticmethod
    def create(path: Path, opening: Entry) -> None:
        """Make a new file that holds one entry, whole or not at all.

        Raises:
            LedgerError: If there is a file already, or it cannot be written.
        """
        if os.path.lexists(path):
            raise LedgerError(
                f"there is a file at {path} already; open it, or choose another name"
            )
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with _told(path, "created"):
                _build(draft, opening)
            try:
                os.link(draft, path)
            except FileExistsError:
                raise LedgerError(f"there is a file at {path} already") from None
            _sync_folder(path.parent)
        except OSError as error:
            raise LedgerError(
                f"the ledger {path} cannot be created: {error.strerror or error}"
            ) from None
        finally:
            for name in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm")):
                with suppress(OSError):
                    name.unlink(missing_ok=True)

    # --- reading ---------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One consistent view of the file."""
        with self.told("read"):
            self._database.execute("BEGIN")
            try:
                yield
            finally:
                self._rollback()

    def head(self) -> Head:
        """What the file says its last entry is."""
        row = self._database.execute("SELECT count, hash FROM head").fetchone()
        if row is None or not isinstance(row[0], int) or not isinstance(row[1], str):
            raise LedgerError(f"the ledger {self.path} has lost its head")
        return Head(*row)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from a number on, in order."""
        query = f"SELECT {_COLUMNS} FROM entry WHERE seq >= ? ORDER BY seq"
        for row in self._database.execute(query, (start,)):
            yield Entry(*row)

    def check(self) -> None:
        """SQLite's own check of every page.

        Raises:
            LedgerError: If it finds anything.
        """
        with self.told("read"):
            (found,) = self._database.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise LedgerError(f"the ledger {self.path} is damaged: {found}")

    # --- writing ---------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The only writer, until the block ends; committed unless it raises."""
        if self.read_only:
            raise LedgerError(f"the ledger {self.path} was opened read-only")
        if self._inode() != self._identity:
            raise LedgerError(
                f"the file {self.path} was replaced or removed while it was open;"
                " open it again"
            )
        with self.told("written"):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                if self._database.in_transaction:
                    self._database.execute("COMMIT")
            finally:
                self._rollback()

    def append(self, entry: Entry) -> None:
        """Write one entry, within `writing`."""
        _insert(self._database, entry)
        self._database.execute(
            "UPDATE head SET count = ?, hash = ?", (entry.seq + 1, entry.hash)
        )

    def abandon(self) -> None:
        """End `writing` without a trace."""
        self._rollback()

    def settle(self) -> None:
        """Bring what is committed into the main file, durably.

        Raises:
            LedgerError: If the disk does not take it.  What was committed stays so.
        """
        with self.told("written to its main file, though the entry is recorded"):
            self._database.execute("PRAGMA wal_checkpoint(FULL)").fetchone()

    def close(self) -> None:
        """Close the connection; closing again does nothing."""
        with suppress(sqlite3.Error):
            self._database.close()

    @contextmanager
    def told(self, done: str) -> Iterator[None]:
        """Errors of SQLite as errors of the ledger."""
        with _told(self.path, done):
            yield

    # --- opening ---------------------------------------------------------------

    def _connect(self, timeout: float) -> sqlite3.Connection:
        wal = Path(f"{self.path.resolve()}-wal")
        if not self.read_only:
            return _connected(self.path, "mode=rw", timeout)
        found = _connected(self.path, "mode=ro", timeout)
        try:
            found.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            found.close()
            if wal.exists() and wal.stat().st_size:
                raise
            # in a folder that cannot be written, with all in the main file
            return _connected(self.path, "mode=ro&immutable=1", timeout)
        return found

    def _prepare(self) -> None:
        (mark,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if mark != _MARK:
            raise LedgerError(f"the file {self.path} is not a ledger of drdp")
        if version != SCHEMA:
            self._migrate(version)
        if not self.read_only:
            _set_up(self._database, self.path)
        row = self._database.execute(
            "SELECT value FROM meta WHERE name = 'schema'"
        ).fetchone()
        if row != (str(SCHEMA),):
            raise LedgerError(f"the ledger {self.path} contradicts itself: {row}")
        if not self.read_only:  # what a crash has left behind
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _migrate(self, version: int) -> None:
        if version > SCHEMA:
            raise LedgerError(
                f"the ledger {self.path} has schema {version}, this version of drdp"
                f" knows {SCHEMA} at most; use a newer drdp"
            )
        if self.read_only:
            raise LedgerError(
                f"the ledger {self.path} has the older schema {version}; open it for"
                " writing once, to bring it up to date"
            )
        self._database.execute("BEGIN IMMEDIATE")
        try:
            (now,) = self._database.execute("PRAGMA user_version").fetchone()
            for step in range(now, SCHEMA):
                if step not in MIGRATIONS:
                    raise LedgerError(
                        f"the ledger {self.path} has schema {step}, which no version"
                        " of drdp has written"
                    )
                MIGRATIONS[step](self._database)
            self._database.execute(
                "UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA),)
            )
            self._database.execute(f"PRAGMA user_version = {SCHEMA}")
            self._database.execute("COMMIT")
        finally:
            self._rollback()

    def _rollback(self) -> None:
        if self._database.in_transaction:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")

    def _inode(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


@contextmanager
def _told(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise LedgerError(
            f"the ledger {path} cannot be {done}: it is damaged, where it should hold"
            " text"
        ) from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        kind = "_".join(name.split("_")[:2])
        reason = _REMEDIES.get(kind, "SQLite refuses")
        raise LedgerError(
            f"the ledger {path} cannot be {done}: {reason} ({error})"
        ) from error


def _connected(path: Path, how: str, timeout: float) -> sqlite3.Connection:
    found = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{how}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    found.execute("PRAGMA trusted_schema = OFF")
    found.execute("PRAGMA cell_size_check = ON")
    return found


def _set_up(database: sqlite3.Connection, path: Path) -> None:
    """Write-ahead, and on the disk before a commit returns."""
    (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LedgerError(
            f"the ledger {path} is on a file system without shared memory, such as a"
            " network drive; keep it on a local disk"
        )
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA fullfsync = ON")
    database.execute("PRAGMA checkpoint_fullfsync = ON")
    database.execute("PRAGMA wal_autocheckpoint = 0")


def _build(path: Path, opening: Entry) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    try:
        _set_up(database, path)
        database.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.strip().split(";\n"):
            database.execute(statement)
        database.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        database.execute("INSERT INTO head VALUES (1, 1, ?)", (opening.hash,))
        _insert(database, opening)
        database.execute(f"PRAGMA application_id = {_MARK}")
        database.execute(f"PRAGMA user_version = {SCHEMA}")
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()


def _insert(database: sqlite3.Connection, entry: Entry) -> None:
    database.execute(
        "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tuple(getattr(entry, name) for name in Entry.__slots__),
    )


def _sync_folder(folder: Path) -> None:
    """Make a new name durable, where folders can be synchronised."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
