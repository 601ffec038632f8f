"""A run in its folder: what it writes, and that being killed changes nothing."""

import contextlib
import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drdp.errors import BudgetExceededError, RunFolderError
from drdp.fedsim.config import Config
from drdp.fedsim.execution import Outcome, Progress, execute
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.measured import measured
from drdp.fedsim.simulate import State
from drdp.privacy.events import atoms
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import epsilon_interval
from tests.fedsim.prepared import DELTA, ROUNDS, begun, book, executed, prepared


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, RunFolder]:
    """A run that nothing interrupted."""
    folder = begun(tmp_path_factory.mktemp("run") / "whole")
    return executed(folder, prepared()), folder


def same(folder: RunFolder, outcome: Outcome, whole: Outcome) -> None:
    """The run in `folder` is the one that nothing interrupted, and paid as much."""
    assert np.array_equal(outcome.state.parameters, whole.state.parameters)
    for name, memory in whole.state.memory.items():
        assert np.array_equal(outcome.state.memory[name], memory)
    assert outcome.after == whole.after
    assert [one["round"] for one in folder.records()] == list(range(ROUNDS + 1))
    with Ledger.open(folder.ledger, read_only=True) as ledger:
        ledger.verify()
        assert atoms(ledger.spent) == atoms(prepared().simulation.event(ROUNDS))
    assert not folder.key.exists()


def test_the_statement_is_about_what_the_ledger_holds(
    whole: tuple[Outcome, RunFolder],
) -> None:
    outcome, folder = whole
    with Ledger.open(folder.ledger, read_only=True) as ledger:
        ledger.verify()
        spent = ledger.spent
    assert atoms(spent) == atoms(prepared().simulation.event(ROUNDS))
    assert atoms(outcome.statement.event) == atoms(spent)
    upper = epsilon_interval(spent, DELTA).upper
    assert outcome.statement.epsilon.upper == upper
    assert folder.records()[-1]["epsilon"] == upper
    stored = json.loads((folder.path / "statement.json").read_text())
    assert stored["accounting"]["epsilon"]["upper"] == upper
    assert stored["noise_is_secret"] is True


def test_the_key_is_the_owners_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    folder, seen = RunFolder(tmp_path / "run"), []
    with folder.locked():
        folder.begin(Config())
        run = prepared()

        def look(progress: Progress) -> None:
            seen.append(stat.S_IMODE(folder.key.stat().st_mode))

        with book(folder, run) as ledger:
            execute(run, folder, ledger, watch=look)
    assert set(seen) == {0o600}
    assert len(seen) == ROUNDS + 1
    assert not folder.key.exists()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_interrupted_after_every_round_it_ends_the_same(
    whole: tuple[Outcome, RunFolder], tmp_path: Path
) -> None:
    outcome, _ = whole
    folder = begun(tmp_path / "run")

    def stop(progress: Progress) -> None:
        if progress.report is not None and progress.round < ROUNDS:
            raise StoppedError

    for _ in range(ROUNDS - 1):
        with pytest.raises(StoppedError):
            executed(folder, prepared(), stop)
        assert folder.key.exists()
    same(folder, executed(folder, prepared(), stop), outcome)


@pytest.mark.parametrize("at", ["charge", "log", "save", "statement", "erase_key"])
def test_interrupted_between_any_two_steps_it_ends_the_same(
    whole: tuple[Outcome, RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    """Before and after each durable step of each round."""
    outcome, _ = whole
    folder = begun(tmp_path / "run")
    target = {
        "charge": (Ledger, "charge"),
        "log": (RunFolder, "log"),
        "save": (RunFolder, "save"),
        "statement": (RunFolder, "write_json"),
        "erase_key": (RunFolder, "erase_key"),
    }[at]
    real, rng, stops = getattr(*target), random.Random(3), 0

    def stopping(*arguments: object, **named: object) -> object:
        nonlocal stops
        when = rng.choice(("before", "after", "never"))
        stops += when != "never"
        if when == "before":
            raise StoppedError
        answer = real(*arguments, **named)
        if when == "after":
            raise StoppedError
        return answer

    monkeypatch.setattr(*target, stopping)
    last = None
    for _ in range(200):
        with contextlib.suppress(StoppedError):
            last = executed(folder, prepared())
        if last is not None:
            break
    assert last is not None
    assert stops >= 1
    same(folder, last, outcome)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(
    whole: tuple[Outcome, RunFolder], tmp_path: Path
) -> None:
    """Real processes, SIGKILL; each goes on where the last one was killed."""
    outcome, kills = whole[0], 0
    for seed in range(12):
        folder = RunFolder(tmp_path / f"run{seed}")
        found = subprocess.run(
            [
                sys.executable,
                *("-m", "tests.fedsim.prepared", str(folder.path), str(seed)),
            ],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert found.returncode == 0, found.stderr
        kills += int(found.stdout)
        state = folder.load()
        assert state is not None
        assert np.array_equal(state.parameters, outcome.state.parameters)
        assert [one["round"] for one in folder.records()] == list(range(ROUNDS + 1))
        with Ledger.open(folder.ledger, read_only=True) as ledger:
            ledger.verify()
            assert atoms(ledger.spent) == atoms(outcome.statement.event)
        assert folder.finished
        assert not folder.key.exists()
        if kills >= 8:  # how often a process is hit depends on the machine
            break
    assert kills >= 8


def test_a_round_that_came_out_otherwise_is_paid_again_and_told(
    tmp_path: Path,
) -> None:
    """Local training that is not repeatable: the run is shorter, not cheaper."""
    folder, run = begun(tmp_path / "run"), prepared()
    trainer = run.simulation.trainer

    def stop(progress: Progress) -> None:
        if progress.round == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        executed(folder, run, stop)
    # Round 3 is charged, and lost before its checkpoint; then other data come.
    with folder.locked(), book(folder, run) as ledger:
        ledger.charge(run.simulation.protection.event(2), key="run/3/another sum")
    exact = epsilon_interval(run.simulation.event(ROUNDS), DELTA)
    assert trainer.num_clients == 40
    tight = prepared(epsilon=exact.upper)
    moved = begun(tmp_path / "tight")
    with pytest.raises(StoppedError):
        executed(moved, tight, stop)
    with moved.locked(), book(moved, tight) as ledger:
        ledger.charge(run.simulation.protection.event(2), key="run/3/another sum")
    outcome = executed(moved, tight)
    assert outcome.state.round == ROUNDS - 1
    assert outcome.stopped is not None
    assert "does not allow" in outcome.stopped
    assert outcome.statement.epsilon.upper == exact.upper
    last = moved.records()[-1]
    assert last["round"] == ROUNDS - 1
    assert measured(last) == outcome.after
    # Where the budget is larger, the run is whole and its statement says more.
    longer = executed(folder, run)
    assert longer.state.round == ROUNDS
    assert longer.statement.epsilon.upper > exact.upper


def test_a_budget_that_is_spent_refuses_before_anything_is_released(
    tmp_path: Path,
) -> None:
    folder = begun(tmp_path / "run")
    run = prepared(rounds=1)
    tight = prepared(epsilon=epsilon_interval(run.simulation.event(1), DELTA).upper)
    tight = prepared(rounds=1, epsilon=tight.epsilon)
    with folder.locked(), book(folder, tight) as ledger:
        ledger.charge(run.simulation.protection.event(0), key="somebody else")
    with pytest.raises(BudgetExceededError):
        executed(folder, tight)
    assert folder.load() is None


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    command = [
        sys.executable,
        *("-m", "tests.fedsim.prepared", str(folder.path)),
    ]
    with folder.locked():
        second = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert "another process is running" in second.stderr
    assert not folder.ledger.exists()


def half(path: Path) -> RunFolder:
    """A run that was interrupted after three rounds."""
    folder = begun(path)

    def stop(progress: Progress) -> None:
        if progress.round == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        executed(folder, prepared(), stop)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("checkpoint.safetensors", b"\0" * 100, "is damaged"),
        ("checkpoint.safetensors", b"", "is damaged"),
        ("secret.key", b"short", "holds no key of 32 bytes"),
        ("metrics.jsonl", b"", "round 0 is missing"),
        ("metrics.jsonl", b'{"round": 0, "loss": 1.0}\n\xff\xfe\n', "round 1 is"),
    ],
)
def test_a_damaged_file_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    folder = half(tmp_path / "run")
    (folder.path / name).write_bytes(content)
    with pytest.raises(RunFolderError, match=told) as error:
        executed(folder, prepared())
    assert "\n" not in str(error.value)


def test_a_ledger_that_was_put_back_is_noticed(tmp_path: Path) -> None:
    folder = half(tmp_path / "run")
    folder.ledger.unlink()
    with pytest.raises(RunFolderError, match=r"lacks 3 charges .* older copy"):
        executed(folder, prepared())


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = half(tmp_path / "run")
    state = folder.load()
    assert state is not None
    folder.save(State(state.round, state.parameters[:-1], {}))
    with pytest.raises(RunFolderError, match="has 11 parameters"):
        executed(folder, prepared())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    folder.path.chmod(0o500)
    try:
        with pytest.raises(RunFolderError, match="cannot write"):
            executed(folder, prepared())
    finally:
        folder.path.chmod(0o700)


def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(
    whole: tuple[Outcome, RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome, _ = whole
    folder = begun(tmp_path / "run")
    real, rng = os.fsync, random.Random(5)

    def full(handle: int) -> None:
        if rng.random() < 0.1:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    last, refusals = None, []
    for _ in range(8 * ROUNDS):
        try:
            last = executed(folder, prepared())
            break
        except RunFolderError as error:
            refusals.append(str(error))
    assert len(refusals) >= 3
    for told in refusals:
        assert "No space left" in told
        assert "\n" not in told
    assert last is not None
    same(folder, last, outcome)
