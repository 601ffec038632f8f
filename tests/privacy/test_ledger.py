"""The ledger in one process: receipts, budgets, keys, reservations, the chain."""

import hashlib
import json
import os
import sqlite3
import threading

import pytest

from drdp.errors import (
    BudgetExceededError,
    CalibrationError,
    CodecError,
    InvalidArgumentError,
    LedgerError,
    UnplannedChargeError,
    UnsupportedEventError,
)
from drdp.privacy import store
from drdp.privacy.account import Account
from drdp.privacy.chain import Entry
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    atoms,
)
from drdp.privacy.filters import GaussianFilter, RenyiFilter, ZeroConcentratedFilter
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger

ROUND = PoissonSampled(0.05, Gaussian(1.0))
SMALL = GaussianFilter(1.0, 1e-5)  # 179 rounds of Gaussian(50)
EVENT = Gaussian(50.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


# --- charging --------------------------------------------------------------------


def test_what_is_charged_is_there_when_it_is_opened_again(path):
    with Ledger.create(path, budget=SMALL, population=100) as ledger:
        receipt = ledger.charge(EVENT, label="round 1", run="run 7", key="7/1")
        ledger.charge(Gaussian(40.0) * 2)
    with Ledger.open(path) as ledger:
        assert atoms(ledger.spent) == {EVENT: 1, Gaussian(40.0): 2}
        assert ledger.budget == SMALL
        assert ledger.terms.population == 100
        first = ledger.entries()[1]
        assert (first.seq, first.hash) == (receipt.seq, receipt.hash)
        assert (first.label, first.run, first.key) == ("round 1", "run 7", "7/1")
        assert first.event == EVENT
        assert first.time.endswith("+00:00")
        assert ledger.head == (3, ledger.entries()[-1].hash)


def test_the_spend_is_the_sum_whatever_the_order(tmp_path):
    events = [Gaussian(30.0), Gaussian(40.0) * 3, Gaussian(30.0) * 2]
    spent = []
    for name, order in (("a.db", events), ("b.db", events[::-1])):
        with Ledger.create(tmp_path / name, budget=SMALL) as ledger:
            for event in order:
                ledger.charge(event)
            spent.append((atoms(ledger.spent), ledger.remaining(EVENT)))
    assert spent[0] == spent[1]
    assert spent[0][0] == {Gaussian(30.0): 3, Gaussian(40.0): 3}


def test_the_round_that_would_exceed_the_budget_is_not_charged(path):
    with Ledger.create(path, budget=SMALL) as ledger:
        ledger.charge(EVENT * 178)
        assert ledger.remaining(EVENT) == 1
        ledger.charge(EVENT)
        before = ledger.head
        with pytest.raises(BudgetExceededError, match="epsilon 1, delta 1e-05"):
            ledger.charge(EVENT)
        assert ledger.head == before
        assert ledger.remaining(EVENT) == 0


def test_a_fixed_budget_buys_exactly_its_rounds(path):
    with Ledger.create(path, budget=FixedBudget(2.0, 1e-5, ROUND)) as ledger:
        for _ in range(20):
            ledger.charge(ROUND)
        with pytest.raises(BudgetExceededError, match="fits 20 times"):
            ledger.charge(ROUND)
        with pytest.raises(UnplannedChargeError, match="RenyiFilter"):
            ledger.charge(PoissonSampled(0.05, Gaussian(9.0)))
        assert atoms(ledger.spent) == {ROUND: 20}


def test_a_ledger_without_a_budget_records_everything(path):
    with Ledger.create(path) as ledger:
        ledger.charge(NonPrivate())
        ledger.charge(Laplace(1.0))
        assert ledger.remaining(Laplace(1.0)) == 10**9
        assert atoms(ledger.spent) == {NonPrivate(): 1, Laplace(1.0): 1}


def test_nothing_costs_nothing(path):
    with Ledger.create(path, budget=SMALL) as ledger:
        ledger.charge(NOTHING)
        ledger.note("the learning rate was lowered", run="run 7")
        assert ledger.spent == NOTHING
        assert ledger.entries()[-1].label == "the learning rate was lowered"


def test_another_relation_is_refused(path):
    zero_out = PoissonSampled(0.05, Gaussian(1.0), Adjacency.ZERO_OUT)
    with Ledger.create(path, adjacency="zero-out") as ledger:
        ledger.charge(zero_out)
        with pytest.raises(InvalidArgumentError, match=r"add-remove.*zero-out"):
            ledger.charge(ROUND)
        assert len(ledger.entries()) == 2


@pytest.mark.parametrize(
    ("charge", "error"),
    [
        (lambda led: led.charge("round"), InvalidArgumentError),
        (lambda led: led.charge(ROUND), UnsupportedEventError),
        (lambda led: led.charge(EVENT, label=7), InvalidArgumentError),
        (lambda led: led.charge(EVENT, run="x" * 10_001), InvalidArgumentError),
        (lambda led: led.charge(EVENT, key="\ud800"), InvalidArgumentError),
        (lambda led: led.declare(EVENT), LedgerError),
        (lambda led: led.remaining(None), InvalidArgumentError),
    ],
)
def test_a_bad_charge_leaves_the_ledger_as_it_was(path, charge, error):
    with Ledger.create(path, budget=SMALL) as ledger:
        ledger.charge(EVENT)
        before = ledger.head
        with pytest.raises(error):
            charge(ledger)
        assert ledger.head == before
        ledger.charge(EVENT)
        assert ledger.verify().entries == 3


def test_labels_may_hold_any_text(path):
    label = 'Runde "1"\n\0 \u2028 𝛆 {}'
    with Ledger.create(path) as ledger:
        ledger.charge(EVENT, label=label)
    with Ledger.open(path) as ledger:
        assert ledger.entries()[1].label == label
        assert json.loads(ledger.entries()[1].line())["label"] == label


# --- keys ------------------------------------------------------------------------


def test_a_key_is_charged_once(path):
    with Ledger.create(path, budget=SMALL) as ledger:
        first = ledger.charge(EVENT, key="run 7/round 3")
        assert not first.already
        again = ledger.charge(EVENT, key="run 7/round 3")
        assert again.already
        assert (again.seq, again.hash) == (first.seq, first.hash)
    with Ledger.open(path) as ledger:
        assert ledger.charge(EVENT, key="run 7/round 3").already
        assert atoms(ledger.spent) == {EVENT: 1}
        with pytest.raises(LedgerError, match="names one release"):
            ledger.charge(Gaussian(60.0), key="run 7/round 3")


def test_a_key_that_was_paid_is_honoured_when_the_budget_is_used_up(path):
    with Ledger.create(path, budget=SMALL) as ledger:
        ledger.charge(EVENT, key="first")
        ledger.charge(EVENT * 178)
        assert ledger.charge(EVENT, key="first").already


# --- reservations ----------------------------------------------------------------


def test_a_reservation_counts_whether_or_not_it_is_committed(path):
    with Ledger.create(path, budget=SMALL) as ledger:
        kept = ledger.reserve(EVENT, label="kept")
        ledger.reserve(EVENT, label="lost")
        assert not kept.commit().already
        assert kept.commit().already
        assert [entry.label for entry in ledger.pending] == ["lost"]
    with Ledger.open(path) as ledger:
        assert atoms(ledger.spent) == {EVENT: 2}
        assert [entry.label for entry in ledger.pending] == ["lost"]
        assert ledger.remaining(EVENT) == 177


def test_a_reservation_is_taken_up_by_its_key_after_a_crash(path):
    with Ledger.create(path, budget=SMALL) as ledger:
        ledger.reserve(EVENT, key="round 1")
    with Ledger.open(path) as ledger:
        again = ledger.reserve(EVENT, key="round 1")
        assert again.receipt.already
        again.commit()
        assert ledger.pending == ()
        assert atoms(ledger.spent) == {EVENT: 1}


# --- plans -----------------------------------------------------------------------


def test_a_new_plan_for_what_is_left(path):
    other = PoissonSampled(0.05, Gaussian(1.2))
    with Ledger.create(path, budget=FixedBudget(2.0, 1e-5, ROUND)) as ledger:
        for _ in range(10):
            ledger.charge(ROUND)
        ledger.declare(other, label="more noise from here")
        with pytest.raises(UnplannedChargeError):
            ledger.charge(ROUND)
        left = ledger.remaining(other)
        ledger.charge(other * left)
        with pytest.raises(BudgetExceededError):
            ledger.charge(other)
        assert left > 10
    with Ledger.open(path) as ledger:
        assert ledger.budget.before == ROUND * 10
        assert ledger.remaining(other) == 0
        assert ledger.budget.spent_epsilon(ledger.tally) <= 2.0


def test_a_plan_that_does_not_fit_is_not_declared(path):
    with Ledger.create(path, budget=FixedBudget(2.0, 1e-5, ROUND)) as ledger:
        before = ledger.head
        with pytest.raises(CalibrationError, match="even once"):
            ledger.declare(Gaussian(0.5))
        assert ledger.head == before
    with pytest.raises(CalibrationError, match="even once"):
        Ledger.create(path.with_name("b.db"), budget=FixedBudget(0.1, 1e-5, ROUND))
    assert sorted(os.listdir(path.parent)) == ["ledger.db"]


# --- opening ---------------------------------------------------------------------


def test_an_existing_ledger_is_not_overwritten(path):
    Ledger.create(path).close()
    with pytest.raises(LedgerError, match="already"):
        Ledger.create(path)


def test_a_resumed_run_may_create_it_again_on_the_same_terms(path):
    with Ledger.create(path, budget=SMALL, exist_ok=True) as ledger:
        ledger.charge(EVENT)
    with Ledger.create(path, budget=SMALL, exist_ok=True) as ledger:
        assert ledger.spent == EVENT
    with pytest.raises(LedgerError, match="other terms"):
        Ledger.create(path, budget=GaussianFilter(8.0, 1e-5), exist_ok=True)


def test_a_missing_ledger_is_not_made_up(path):
    with pytest.raises(LedgerError, match="drdp ledger init"):
        Ledger.open(path)
    assert not path.exists()


def test_read_only_reads_only(path):
    with Ledger.create(path) as ledger:
        ledger.charge(EVENT)
        with Ledger.open(path, read_only=True) as reader:
            assert reader.spent == EVENT
            with pytest.raises(LedgerError, match="read-only"):
                reader.charge(EVENT)
            ledger.charge(EVENT)
            assert atoms(reader.spent) == {EVENT: 2}
            assert reader.verify().entries == 3


def test_a_closed_ledger_says_so(path):
    ledger = Ledger.create(path)
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="is closed"):
        ledger.charge(EVENT)
    with pytest.raises(LedgerError, match="is closed"):
        ledger.entries()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_to_open_it_itself(path):
    with Ledger.create(path) as ledger:
        child = os.fork()
        if child == 0:
            try:
                ledger.charge(EVENT)
            except LedgerError as error:
                os._exit(17 if "forked" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        ledger.charge(EVENT)
        assert ledger.spent == EVENT


def test_threads_share_one_budget(path):
    with Ledger.create(path, budget=GaussianFilter(1.0, 1e-5)) as ledger:
        paid, refused = [], []

        def work():
            for _ in range(10):
                try:
                    paid.append(ledger.charge(Gaussian(20.0)))
                except BudgetExceededError:
                    refused.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # 0.0718 of mu^2 at 0.0025 each
        assert (len(paid), len(refused)) == (28, 12)
        assert len({receipt.seq for receipt in paid}) == 28
        assert atoms(ledger.spent) == {Gaussian(20.0): 28}


# --- the chain -------------------------------------------------------------------


def test_every_entry_seals_the_one_before(path):
    with Ledger.create(path) as ledger:
        for k in range(5):
            ledger.charge(EVENT, label=f"round {k}")
        entries = ledger.entries()
    before = "0" * 64
    for seq, entry in enumerate(entries):
        line = json.loads(entry.line())
        claimed = line.pop("hash")
        assert (line["seq"], line["prev"]) == (seq, before)
        # anybody can recompute it from the exported line alone
        text = json.dumps(line, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == claimed
        before = claimed


def tampered(path, *statements):
    """A ledger changed by somebody who has removed the triggers first."""
    database = sqlite3.connect(path)
    names = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in names.fetchall():
        database.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE entry SET body = replace(body, '50.0', '500.0') WHERE seq = 2"],
        ["UPDATE entry SET label = 'round 9' WHERE seq = 2"],
        ["UPDATE entry SET time = '2000-01-01' WHERE seq = 2"],
        ["UPDATE entry SET kind = 'note' WHERE seq = 2"],
        ["UPDATE entry SET body = replace(body, '1e-05', '1e-02') WHERE seq = 0"],
        ["DELETE FROM entry WHERE seq = 2"],
        ["DELETE FROM entry WHERE seq = 5"],
        ["DELETE FROM entry WHERE seq >= 3", "UPDATE head SET count = 3"],
        ["DELETE FROM entry"],
        ["DELETE FROM head"],
        ["UPDATE head SET count = 3"],
        ["UPDATE head SET hash = 'x'"],
        [
            "UPDATE entry SET seq = 99 WHERE seq = 2",
            "UPDATE entry SET seq = 2 WHERE seq = 3",
            "UPDATE entry SET seq = 3 WHERE seq = 99",
        ],
        ["UPDATE entry SET hash = NULL WHERE seq = 2"],
        ["UPDATE entry SET body = x'ff' WHERE seq = 2"],
        ["UPDATE meta SET value = '7'"],
        ["DROP TABLE entry"],
        ["DROP TABLE head"],
        ["DROP TABLE meta"],
    ],
    ids=lambda statements: statements[0],
)
def test_tampering_shows(path, statements):
    with Ledger.create(path, budget=SMALL) as ledger:
        for k in range(5):
            ledger.charge(EVENT, label=f"round {k}")
    if "NULL" in statements[0]:
        statements = ["PRAGMA ignore_check_constraints = 1", *statements]
        statements[1] = statements[1].replace("NULL", "7")
    tampered(path, *statements)
    with pytest.raises(LedgerError):
        Ledger.open(path)


def test_sql_alone_cannot_change_an_entry(path):
    with Ledger.create(path) as ledger:
        ledger.charge(EVENT)
    database = sqlite3.connect(path)
    for statement in (
        "UPDATE entry SET label = 'x'",
        "DELETE FROM entry",
        "UPDATE head SET count = 0",
        "DELETE FROM head",
        "DELETE FROM meta",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(statement)
    database.close()


def test_an_older_copy_is_noticed_with_a_noted_head_only(path):
    with Ledger.create(path) as ledger:
        ledger.charge(EVENT)
    older = path.read_bytes()
    with Ledger.open(path) as ledger:
        ledger.charge(EVENT)
        noted = ledger.head.hash
        assert ledger.verify(noted).hash == noted
        ledger.charge(EVENT)
        assert ledger.verify(noted).entries == 4
    path.write_bytes(older)
    with Ledger.open(path) as ledger:
        assert ledger.verify().entries == 2  # nothing in the file says so
        with pytest.raises(LedgerError, match="older copy"):
            ledger.verify(noted)


def test_an_open_ledger_notices_that_it_was_put_back(path):
    with Ledger.create(path) as ledger:
        ledger.charge(EVENT)
    older = path.read_bytes()
    with Ledger.open(path) as ledger:
        ledger.charge(EVENT)
        spare = path.with_name("spare.db")
        spare.write_bytes(older)
        os.replace(spare, path)
        with pytest.raises(LedgerError, match="replaced or removed"):
            ledger.charge(EVENT)


# --- versions --------------------------------------------------------------------


def test_a_newer_schema_is_refused(path):
    Ledger.create(path).close()
    tampered(path, "PRAGMA user_version = 2")
    with pytest.raises(LedgerError, match="use a newer drdp"):
        Ledger.open(path)


def test_an_older_schema_is_migrated_once(path, monkeypatch):
    with Ledger.create(path, budget=SMALL) as ledger:
        ledger.charge(EVENT)
        head = ledger.head

    def step(database):
        database.execute("CREATE TABLE extra (value TEXT)")

    monkeypatch.setattr(store, "SCHEMA", 2)
    monkeypatch.setattr(store, "MIGRATIONS", {1: step})
    with pytest.raises(LedgerError, match="open it for writing once"):
        Ledger.open(path, read_only=True)
    for _ in range(2):
        with Ledger.open(path) as ledger:
            assert ledger.head == head
            assert ledger.spent == EVENT
            assert ledger.remaining(EVENT) == 178
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    assert database.execute("SELECT value FROM meta").fetchone() == ("2",)
    assert database.execute("SELECT count(*) FROM extra").fetchone() == (0,)
    database.close()


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    Ledger.create(path).close()

    def step(database):
        database.execute("CREATE TABLE extra (value TEXT)")
        database.execute("SELECT * FROM nowhere")

    monkeypatch.setattr(store, "SCHEMA", 2)
    monkeypatch.setattr(store, "MIGRATIONS", {1: step})
    with pytest.raises(LedgerError, match="nowhere"):
        Ledger.open(path)
    monkeypatch.undo()
    Ledger.open(path).close()
    monkeypatch.setattr(store, "SCHEMA", 2)
    with pytest.raises(LedgerError, match="which no version"):
        Ledger.open(path)


def test_the_first_version_is_read_for_ever():
    """Two entries as version 1 wrote them, character by character."""
    terms = (
        '{"adjacency":"add-remove","budget":{"delta":1e-05,"epsilon":1.0,'
        '"kind":"zero-concentrated"},"drdp_ledger":1,"population":null,'
        '"unit":"client"}'
    )
    charge = '{"drdp_event":1,"kind":"gaussian","noise_multiplier":50.0}'
    bodies = ("open", terms), ("charge", charge)
    account, before = Account(), "0" * 64
    for seq, (kind, body) in enumerate(bodies):
        text = (
            f'{{"body":{body},"key":null,"kind":"{kind}","label":"first",'
            f'"prev":"{before}","refers":null,"run":"r","seq":{seq},'
            f'"time":"2026-01-0{seq + 1}T00:00:00.000000+00:00"}}'
        )
        seal = hashlib.sha256(text.encode()).hexdigest()
        time = f"2026-01-0{seq + 1}T00:00:00.000000+00:00"
        found = Entry(seq, kind, time, "r", "first", None, body, None, before, seal)
        assert found.text() == text
        account.take(found)
        before = seal
    assert before == "ba5d8741d9f8dbfb4896c12db5892639fc9af36f1764bf9e7bcdf9237d2afc5e"
    assert account.budget == ZeroConcentratedFilter(1.0, 1e-5)
    assert account.tally.event == EVENT


def test_an_event_of_a_newer_version_is_refused(path):
    with Ledger.create(path, budget=RenyiFilter(1.0, 1e-5, 16.0)) as ledger:
        with pytest.raises(CodecError):
            ledger.charge(_Unknown())
        assert len(ledger.entries()) == 1


class _Unknown(type(EVENT).__mro__[1]):
    """An event that no document has."""
