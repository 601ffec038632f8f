"""The files that a run left in its folder, read and checked.

A last line of metrics that was cut off by a crash is passed over; anything else
that is damaged is refused with the name of the file and what is wrong with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from drdp.errors import RunFolderError
from drdp.fedsim.config import Config
from drdp.fedsim.exams import known_results
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.measured import NOT_METRICS
from drdp.fedsim.spending import Book, open_book

__all__ = ["Evidence", "Measured", "Planned", "evidence"]


@final
@dataclass(frozen=True, slots=True)
class Planned:
    """What was worked out before the first round; none of it is private.

    Args:
        rounds: How many the run has.
        clients: How many take part in it, or examples.
        expected_cohort: How many of them a round has in the mean.
        population: How many privacy units there are.
        unit: What they are.
        update_length: Numbers in an update.
        code_length: Numbers in a code.
        message_bytes: Of one client's message.
        clip_norm: Of one contribution; of the first round, where it moves.
        noise_multiplier: Noise where it is added / clip norm; where the clip norm
            moves, of codes and count together.
        delta: Of the guarantee.
        alignment: Norm of the mean of clipped codes / clip norm, on public data.
        forecast: In words.
    """

    rounds: int
    clients: int
    expected_cohort: float
    population: int
    unit: str
    update_length: int
    code_length: int
    message_bytes: int
    clip_norm: float
    noise_multiplier: float
    delta: float
    alignment: float | None
    forecast: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """One line of metrics.

    Args:
        round: After which round, from 0.
        epsilon: The certified epsilon that was noted then.
        step_norm: Norm of the released mean update.
        seconds: How long the round took; it tells how many clients took part.
        metrics: Held-out metrics, where the round was evaluated.
        private: For the operator alone.
        clip_norm: Of the round, where it was not the same in all.
    """

    round: int
    epsilon: float
    step_norm: float | None
    seconds: float | None
    metrics: dict[str, float]
    private: dict[str, float]
    clip_norm: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run left behind.

    Args:
        name: The name of its folder.
        config: Its settings.
        plan: What was worked out; None if it had not come that far.
        rounds: Its metrics.
        statement: The statement that it ended with; None while it goes on.
        book: Its ledger; None before it was opened.
        benchmarks: Marks by benchmark; see `drdp.fedsim.exams.known_results`.
    """

    name: str
    config: Config
    plan: Planned | None
    rounds: tuple[Measured, ...]
    statement: dict[str, Any] | None
    book: Book | None
    benchmarks: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many rounds are done."""
        return self.rounds[-1].round if self.rounds else 0

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.statement is not None

    @property
    def seeded(self) -> bool:
        """Whether its noise can be replayed from a seed."""
        secret = True
        if self.statement is not None:
            secret = self.statement.get("noise_is_secret") is not False
        return self.config.run.noise == "seeded" or not secret


def evidence(folder: RunFolder) -> Evidence:
    """Read a run's folder.

    Raises:
        RunFolderError: If it holds no run, or a damaged one.
        InvalidArgumentError: If its settings are none of this version's.
    """
    if not folder.started:
        raise RunFolderError(
            f"there is no run in {folder.path}: give a folder that drdp train or drdp"
            " compare-methods has written"
        )
    config = folder.config()
    plan = folder.plan()
    rounds = _rounds(folder.metrics)
    book = None
    if folder.ledger.exists():
        book = open_book(folder.ledger)
    elif any(one.round for one in rounds):
        raise RunFolderError(
            f"{folder.ledger} is missing, but {folder.metrics.name} has rounds: nobody"
            " can say what was spent; restore the ledger"
        )
    statement = None
    if (file := folder.path / "statement.json").exists():
        statement = _json(file)
        _stated(statement, file)
        if plan is None:
            raise RunFolderError(f"{folder.path / 'plan.json'} is missing")
        if book is None:
            raise RunFolderError(f"{folder.ledger} is missing; restore it")
    return Evidence(
        folder.path.resolve().name,
        config,
        None if plan is None else _planned(plan, folder.path / "plan.json"),
        rounds,
        statement,
        book,
        known_results(folder.answers()),
    )


def _planned(plan: Any, file: Path) -> Planned:
    if not isinstance(plan, dict):
        raise RunFolderError(f"{file} is damaged: it is no table")

    def whole(name: str) -> int:
        value = _number(plan.get(name), name, file)
        if not (math.isfinite(value) and value >= 0.0 and value == int(value)):
            raise RunFolderError(f"{file} is damaged: {name} is {value}")
        return int(value)

    def real(name: str) -> float:
        return _number(plan.get(name), name, file)

    unit = plan.get("unit")
    delta = real("delta")
    if not isinstance(unit, str) or not 0.0 < delta < 1.0:
        raise RunFolderError(f"{file} is damaged: unit is {unit!r}, delta {delta}")
    told = plan.get("told")
    forecast = told.get("Forecast", []) if isinstance(told, dict) else None
    if not isinstance(forecast, list):
        raise RunFolderError(f"{file} is damaged: told is {told!r:.60}")
    return Planned(
        rounds=whole("rounds"),
        clients=whole("clients"),
        expected_cohort=real("expected_cohort"),
        population=whole("population"),
        unit=unit,
        update_length=whole("update_length"),
        code_length=whole("code_length"),
        message_bytes=whole("message_bytes"),
        clip_norm=real("clip_norm"),
        noise_multiplier=real("noise_multiplier"),
        delta=delta,
        alignment=None if plan.get("alignment") is None else real("alignment"),
        forecast=tuple(map(str, forecast)),
    )


def _stated(statement: Mapping[str, Any], file: Path) -> None:
    accounting = statement.get("accounting")
    epsilon = accounting.get("epsilon") if isinstance(accounting, dict) else None
    if not isinstance(epsilon, dict):
        raise RunFolderError(f"{file} is damaged: it states no epsilon")
    _cost(epsilon.get("upper"), "accounting.epsilon.upper", file)


def _rounds(file: Path) -> tuple[Measured, ...]:
    if not file.exists():
        return ()
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read: {error.strerror}") from None
    found: list[Measured] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except ValueError:
            if number == len(lines):
                break  # cut off by a crash: the round will be logged again
            raise RunFolderError(f"{file} is damaged in line {number}") from None
        one = _measured(record, file, number)
        if found and one.round <= found[-1].round:
            raise RunFolderError(
                f"{file} is damaged in line {number}: round {one.round} comes after"
                f" round {found[-1].round}"
            )
        found.append(one)
    return tuple(found)


def _measured(record: Any, file: Path, line: int) -> Measured:
    if not isinstance(record, dict):
        raise RunFolderError(f"{file} is damaged in line {line}: it is no table")
    where = f"line {line}, "
    private = record.get("private", {})
    round_ = _number(record.get("round"), f"{where}round", file)
    if not isinstance(private, dict) or round_ < 0.0 or round_ % 1.0 != 0.0:
        raise RunFolderError(f"{file} is damaged in line {line}")

    def maybe(name: str) -> float | None:
        value = {**private, **record}.get(name)
        return None if value is None else _number(value, f"{where}{name}", file)

    return Measured(
        int(round_),
        _cost(record.get("epsilon"), f"{where}epsilon", file),
        maybe("step_norm"),
        maybe("seconds"),
        {
            name: _number(value, f"{where}{name}", file)
            for name, value in record.items()
            if name not in NOT_METRICS
        },
        {
            name: _number(value, f"{where}private.{name}", file)
            for name, value in private.items()
        },
        maybe("clip_norm"),
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise RunFolderError(f"{file} is damaged: it is no table")
    return found


def _number(value: Any, name: str, file: Path) -> float:
    """A number, or one that JSON lacks as text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if value in ("inf", "-inf", "nan"):
        return float(value)
    raise RunFolderError(f"{file} is damaged: {name} is {value!r:.60}, not a number")


def _cost(value: Any, name: str, file: Path) -> float:
    epsilon = _number(value, name, file)
    if not epsilon >= 0.0:
        raise RunFolderError(f"{file} is damaged: {name} is {epsilon}")
    return epsilon
