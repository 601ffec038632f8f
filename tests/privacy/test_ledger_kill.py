"""Processes that are killed while they charge and release, and that race.

A killed process is a real one that gets SIGKILL; what it "released" is on the
disk, each release after the charge that pays for it.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from drdp.privacy.codec import dumps
from drdp.privacy.events import Gaussian, PoissonSampled, atoms
from drdp.privacy.filters import GaussianFilter
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL"),
]

KILLS = 200
EVENT = Gaussian(5000.0)
PLENTY = GaussianFilter(8.0, 1e-5)

# Forks a child for each line it reads, so that none has to import anything.  A
# child goes on where the releases end: charge number k, then release number k.
CHARGING = """
import os, sys
from drdp.privacy.events import Gaussian
from drdp.privacy.ledger import Ledger

def work(path, released, reserve):
    with Ledger.open(path) as ledger:
        handle = os.open(released, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        number = os.fstat(handle).st_size // 8
        os.write(1, b"ready\\n")
        while True:
            key = f"release {number}"
            if reserve:
                paid = ledger.reserve(Gaussian(5000.0), key=key)
                seq = paid.receipt.seq
            else:
                seq = ledger.charge(Gaussian(5000.0), key=key).seq
            os.write(handle, seq.to_bytes(8, "big"))
            os.fsync(handle)
            if reserve:
                paid.commit()
            number += 1

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(*sys.argv[1:3], reserve=line.strip() == "reserve")
        finally:
            os._exit(1)
    os.write(1, b"%d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"gone\\n")
"""


def test_a_killed_process_never_released_more_than_the_ledger_says(tmp_path):
    path, released = tmp_path / "ledger.db", tmp_path / "released"
    Ledger.create(path, budget=PLENTY).close()
    released.touch()
    rng, interrupted, unreleased = random.Random(5), 0, 0
    with nursing(path, released) as nursery:
        for number in range(KILLS):
            nursery.stdin.write("reserve\n" if number % 4 == 3 else "charge\n")
            nursery.stdin.flush()
            lines = {nursery.stdout.readline().strip() for _ in range(2)}
            (child,) = lines - {"ready"}  # either may come first
            time.sleep(rng.uniform(0.0, 0.05))
            os.kill(int(child), signal.SIGKILL)
            assert nursery.stdout.readline() == "gone\n"
            seqs = receipts(released)
            with Ledger.open(path) as ledger:
                ledger.verify()
                spent = atoms(ledger.spent)[EVENT]
                paid = {
                    entry.seq
                    for entry in ledger.entries()
                    if entry.kind in ("charge", "reserve")
                }
                # every release was paid for, and at most the one that was under
                # way when the process died was paid for without being made
                assert len(set(seqs)) == len(seqs)
                assert set(seqs) <= paid
                assert len(seqs) <= spent == len(paid) <= len(seqs) + 1
                interrupted += spent > len(seqs)
                unreleased += len(ledger.pending)
    # the moments were such that it mattered
    assert len(seqs) > KILLS // 4
    assert interrupted > KILLS // 20
    assert unreleased


@contextmanager
def nursing(path, released):
    """The process that forks children, which all die with it at the end."""
    nursery = subprocess.Popen(
        [sys.executable, "-c", CHARGING, path, released],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield nursery
    finally:
        os.killpg(nursery.pid, signal.SIGKILL)
        nursery.communicate()


def receipts(released):
    content = released.read_bytes()
    # a torn last record is a release that may have begun: it was paid for
    return [
        int.from_bytes(content[k : k + 8], "big") for k in range(0, len(content) - 7, 8)
    ]


RACING = """
import sys, time
from drdp.errors import BudgetExceededError
from drdp.privacy.codec import loads
from drdp.privacy.ledger import Ledger
event, paid = loads(sys.argv[2]), 0
with Ledger.open(sys.argv[1]) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        while True:
            ledger.charge(event, run=sys.argv[3])
            paid += 1
    except BudgetExceededError:
        print(paid)
"""
ROUND = PoissonSampled(0.05, Gaussian(1.0))


@pytest.mark.parametrize(
    ("racers", "budget", "event", "most"),
    [
        (2, GaussianFilter(1.0, 1e-5), Gaussian(40.0), 114),
        (4, GaussianFilter(1.0, 1e-5), Gaussian(40.0), 114),
        (2, FixedBudget(2.0, 1e-5, ROUND), ROUND, 20),
    ],
)
def test_racing_processes_never_overspend_together(
    tmp_path, racers, budget, event, most
):
    path = tmp_path / "ledger.db"
    Ledger.create(path, budget=budget).close()
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RACING, path, dumps(event), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(racers)
    ]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    paid = [int(run.communicate(timeout=120)[0]) for run in runs]
    assert sum(paid) == most
    with Ledger.open(path) as ledger:
        assert ledger.verify().entries == most + 1
        assert atoms(ledger.spent) == {event: most}
        assert ledger.remaining(event) == 0
        by_run = [entry.run for entry in ledger.entries()[1:]]
    assert [by_run.count(str(number)) for number in range(racers)] == paid


def test_a_race_in_which_racers_are_killed(tmp_path):
    """Whoever dies within a charge does not stop, and does not cheat, the other."""
    path = tmp_path / "ledger.db"
    budget, event = GaussianFilter(1.0, 1e-5), Gaussian(50.0)
    Ledger.create(path, budget=budget).close()
    rng, arguments = random.Random(11), [path, dumps(event)]

    def racer(name):
        run = subprocess.Popen(
            [sys.executable, "-c", RACING, *arguments, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert run.stdout.readline() == "ready\n"
        run.stdin.write("go\n")
        run.stdin.flush()
        return run

    survivor = racer("survivor")
    for number in range(5):
        victim = racer(f"victim {number}")
        time.sleep(rng.uniform(0.0, 0.1))
        victim.kill()
        victim.communicate()
    paid = int(survivor.communicate(timeout=120)[0])
    with Ledger.open(path) as ledger:
        assert ledger.verify().entries == 180
        assert atoms(ledger.spent) == {event: 179}
        runs = [entry.run for entry in ledger.entries()[1:]]
    assert runs.count("survivor") == paid > 0
