"""A full disk, missing permissions, damaged files: a clear error and no receipt.

Whatever single byte of a ledger changes and wherever it is cut off, it either
does not open, or says that at least as much was spent as before.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from drdp.errors import LedgerError
from drdp.privacy.events import Gaussian, atoms
from drdp.privacy.filters import GaussianFilter
from drdp.privacy.ledger import Ledger
from drdp.privacy.store import Store

EVENT = Gaussian(50.0)
OTHER = Gaussian(60.0)
BUDGET = GaussianFilter(8.0, 1e-5)
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A ledger of some thirty entries, on several pages, closed."""
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    with Ledger.create(path, budget=BUDGET) as ledger:
        for k in range(15):
            ledger.charge(EVENT, label=f"round {k} " + "x" * 200, key=f"key {k}")
            ledger.charge(OTHER)
    return path


def spent(path):
    """How many releases of each kind a ledger says there were; None if none does."""
    try:
        with Ledger.open(path, read_only=True) as ledger:
            counts = atoms(ledger.spent)
            assert set(counts) <= {EVENT, OTHER}
            assert ledger.budget == BUDGET
            return counts[EVENT], counts[OTHER]
    except LedgerError:
        return None


# --- damage ----------------------------------------------------------------------


def test_a_flipped_byte_is_detected_or_harmless(whole, tmp_path):
    rng, path = random.Random(1), tmp_path / "flipped.db"
    content = whole.read_bytes()
    # every byte of the header and of the first page's cells, then anywhere
    places = [*range(120), *rng.sample(range(len(content)), 900)]
    found = []
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= rng.choice([1 << bit for bit in range(8)] + [0xFF])
        path.write_bytes(damaged)
        found.append(spent(path))
        for left in ("-wal", "-shm"):
            Path(f"{path}{left}").unlink(missing_ok=True)
    assert set(found) == {None, (15, 15)}
    assert found.count(None) > 300


def test_a_run_of_zeros_is_detected_or_harmless(whole, tmp_path):
    """What a disk leaves of a sector that it never wrote."""
    path, content = tmp_path / "zeros.db", whole.read_bytes()
    found = set()
    for start in range(0, len(content), 512):
        damaged = bytearray(content)
        damaged[start : start + 512] = bytes(512)
        path.write_bytes(damaged)
        found.add(spent(path))
    assert found <= {None, (15, 15)}
    assert None in found


def test_an_old_page_among_new_ones_is_detected(whole, tmp_path):
    """Each page put back alone to what it was ten charges before."""
    path, old = tmp_path / "mixed.db", tmp_path / "old.db"
    with Ledger.create(old, budget=BUDGET) as ledger:
        for _ in range(5):
            ledger.charge(EVENT)
            ledger.charge(OTHER)
    before = old.read_bytes()
    with Ledger.open(old) as ledger:
        for _ in range(5):
            ledger.charge(EVENT)
            ledger.charge(OTHER)
    after = old.read_bytes()
    pages = range(0, len(before), 4096)
    changed = [k for k in pages if before[k : k + 4096] != after[k : k + 4096]]
    assert len(changed) >= 2
    for start in pages:
        path.write_bytes(
            after[:start] + before[start : start + 4096] + after[start + 4096 :]
        )
        assert spent(path) in {None, (10, 10)}


def test_a_truncated_file_is_detected(whole, tmp_path):
    rng, path = random.Random(2), tmp_path / "cut.db"
    content = whole.read_bytes()
    sizes = [0, 1, 16, 100, 4095, 4096, 8192, len(content) - 1]
    for size in sizes + rng.sample(range(len(content)), 40):
        path.write_bytes(content[:size])
        assert spent(path) is None
        with pytest.raises(LedgerError):
            Ledger.open(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"SQLite format 3\0", os.urandom(8192)], ids=len
)
def test_what_is_no_ledger_is_refused(tmp_path, content):
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger"):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_another_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE entry (a, b)")
    database.commit()
    database.close()
    content = path.read_bytes()
    with pytest.raises(LedgerError, match="not a ledger of drdp"):
        Ledger.open(path)
    assert path.read_bytes() == content


def test_a_folder_is_no_ledger(tmp_path):
    with pytest.raises(LedgerError, match="no ledger at"):
        Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match="already"):
        Ledger.create(tmp_path)


def test_the_main_file_alone_is_the_ledger(tmp_path):
    """After each charge, without closing: the -wal file is not needed."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    with Ledger.create(path, budget=BUDGET) as ledger:
        for k in range(1, 20):
            ledger.charge(EVENT, label="x" * 500)
            shutil.copyfile(path, copy)
            assert spent(copy) == (k, 0)
            for left in ("-wal", "-shm"):
                Path(f"{copy}{left}").unlink(missing_ok=True)


def test_a_damaged_wal_takes_nothing_away(tmp_path):
    """What a killed process leaves beside the file, with any byte changed."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    rng, found = random.Random(3), set()
    with Ledger.create(path, budget=BUDGET) as ledger:
        for _ in range(7):
            ledger.charge(EVENT, label="x" * 300)
        main, wal = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    assert wal
    for place in rng.sample(range(len(wal)), 100):
        damaged = bytearray(wal)
        damaged[place] ^= 0x55
        copy.write_bytes(main)
        Path(f"{copy}-wal").write_bytes(damaged[: rng.choice([len(wal), place])])
        Path(f"{copy}-shm").unlink(missing_ok=True)
        found.add(spent(copy))
    assert found == {(7, 0)}


# --- no room, no permission ------------------------------------------------------


def test_a_full_database_is_an_error_and_no_charge(tmp_path):
    path = tmp_path / "ledger.db"
    with Ledger.create(path, budget=BUDGET) as ledger:
        ledger.charge(EVENT)
        pages = path.stat().st_size // 4096
        ledger._store._database.execute(f"PRAGMA max_page_count = {pages}")
        paid = 1 + until_refused(ledger, "make room and try again")
        assert atoms(ledger.spent) == {EVENT: paid}
        ledger._store._database.execute(f"PRAGMA max_page_count = {pages + 100}")
        ledger.charge(EVENT)  # once there is room again
        assert atoms(ledger.spent) == {EVENT: paid + 1}
    assert spent(path) == (paid + 1, 0)


def until_refused(ledger, says):
    """How many charges there are before one fails."""
    for paid in range(100):
        try:
            ledger.charge(EVENT, label="x" * 1000)
        except LedgerError as error:
            if says in str(error):
                return paid
            raise
    raise AssertionError("no charge was refused")


CHARGING = """
import resource, signal, sys
from drdp.errors import LedgerError
from drdp.privacy.events import Gaussian
from drdp.privacy.ledger import Ledger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
paid = 0
with Ledger.open(sys.argv[1]) as ledger:
    size = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        for _ in range(1000):
            ledger.charge(Gaussian(50.0), label="x" * 1000)
            paid += 1
    except LedgerError as error:
        print(error)
print(paid)
"""


@pytest.mark.parametrize("room", [0, 5_000, 20_000, 50_000])
def test_a_full_disk_is_an_error_and_no_charge(tmp_path, room):
    """Files of this process cannot grow beyond a limit, as on a full disk."""
    path = tmp_path / "ledger.db"
    Ledger.create(path, budget=BUDGET).close()
    size = path.stat().st_size + room
    done = subprocess.run(
        [sys.executable, "-c", CHARGING, path, str(size)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    message, paid = done.stdout.splitlines()
    assert "full" in message
    (charged, _) = spent(path)
    assert charged >= int(paid)
    assert charged <= int(paid) + 1
    with Ledger.open(path) as ledger:
        ledger.charge(EVENT)
        assert ledger.verify().entries == charged + 2


def test_a_failing_checkpoint_gives_no_receipt(tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"

    def settle(self):
        with self.told("written to its main file"):
            raise sqlite3.OperationalError("disk I/O error")

    with Ledger.create(path, budget=BUDGET) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "settle", settle)
            with pytest.raises(LedgerError, match="main file"):
                ledger.charge(EVENT, key="round 1")
        # it counts, and the same release is not charged again
        assert ledger.spent == EVENT
        assert ledger.charge(EVENT, key="round 1").already


def test_a_read_only_file_is_an_error_and_no_charge(tmp_path):
    path = tmp_path / "ledger.db"
    Ledger.create(path, budget=BUDGET).close()
    done = as_nobody(path, "path.chmod(0o444)")
    assert "cannot be" in done
    assert "read-only" in done or "permission" in done
    assert spent(path) == (0, 0)


def test_a_read_only_folder_is_an_error_and_no_charge(tmp_path):
    path = tmp_path / "ledger.db"
    Ledger.create(path, budget=BUDGET).close()
    done = as_nobody(path, "path.parent.chmod(0o555)")
    assert "cannot be" in done
    assert "opens read-only" in done
    tmp_path.chmod(0o755)
    assert spent(path) == (0, 0)


def test_a_file_without_permissions_is_an_error(tmp_path):
    path = tmp_path / "ledger.db"
    Ledger.create(path, budget=BUDGET).close()
    done = as_nobody(path, "path.chmod(0)")
    assert "cannot be opened" in done
    assert "opens read-only" not in done


TRYING = """
import os, sys
from pathlib import Path
from drdp.errors import LedgerError
from drdp.privacy.events import Gaussian
from drdp.privacy.ledger import Ledger
path = Path(sys.argv[1])
{setting}
if os.geteuid() == 0:
    os.setuid(65534)
try:
    with Ledger.open(path) as ledger:
        ledger.charge(Gaussian(50.0))
    print("charged")
except LedgerError as error:
    print(error)
try:
    with Ledger.open(path, read_only=True) as ledger:
        print("opens read-only", ledger.verify().entries)
except LedgerError as error:
    print(error)
"""


def as_nobody(path, setting):
    """What an unprivileged process is told that tries to charge."""
    place = path
    while place != place.parent and ROOT:  # let nobody reach the file
        place = place.parent
        mode = place.stat().st_mode
        if not mode & 0o001 and place.stat().st_uid == 0:
            place.chmod(mode | 0o011)
    if ROOT:
        path.chmod(0o666)
        path.parent.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", TRYING.format(setting=setting), path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_sessions_do_not_lose_each_other(tmp_path):
    path = tmp_path / "ledger.db"
    with Ledger.create(path, budget=BUDGET) as one, Ledger.open(path) as two:
        for _ in range(5):
            one.charge(EVENT)
            two.charge(OTHER)
        assert atoms(one.spent) == atoms(two.spent) == {EVENT: 5, OTHER: 5}
        assert one.head == two.head
    assert spent(path) == (5, 5)


def test_a_locked_ledger_is_an_error_after_the_timeout(tmp_path):
    path = tmp_path / "ledger.db"
    with Ledger.create(path, timeout=0.1) as ledger:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="keeps it locked"):
            ledger.charge(EVENT)
        other.execute("ROLLBACK")
        other.close()
        ledger.charge(EVENT)
        assert ledger.spent == EVENT
