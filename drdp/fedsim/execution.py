"""A prepared run in its folder: locked, paid for, checkpointed, and ended cleanly.

The order within a round is what survives a crash: charge the ledger, release,
step, write the metrics, write the checkpoint.  Whatever was not checkpointed is
computed again on resuming, from the same cohort and with the same noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from drdp.errors import ChargeRefusedError, RunFolderError
from drdp.fedsim.assumptions import circumstances
from drdp.fedsim.collecting import Collect
from drdp.fedsim.exams import result, same_questions
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.measured import measured
from drdp.fedsim.randomness import Randomness, SecretRandomness, SeededRandomness
from drdp.fedsim.simulate import Payer, Report, Simulation, State, simulate
from drdp.fedsim.spending import certified
from drdp.privacy.curves import Interval
from drdp.privacy.events import Event, NonPrivate, atoms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.fedsim.evaluation import HeldOutLoss
    from drdp.fedsim.examples import Example
    from drdp.fedsim.exams import Answers, Examination
    from drdp.fedsim.trainer import Trainer
    from drdp.privacy.statement import Statement

__all__ = ["Book", "Outcome", "Prepared", "Progress", "execute", "statement_of"]


class Book(Payer, Protocol):
    """A payer that knows what was paid so far, such as a ledger."""

    @property
    def spent(self) -> Event:
        """Everything that was charged, as one event."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Prepared:
    """A run with everything that it needs.

    Args:
        simulation: The parts.
        rounds: How many rounds it has.
        delta: Of the guarantee.
        epsilon: The budget, or None where there is none.
        unit: Whom the guarantee protects.
        population: How many of them there are.
        seed: Of local training, and of all randomness where `seeded`.
        seeded: Whether cohorts and noise come from the seed; then nothing is
            private.
        evaluate_every: Rounds between evaluations; the last one always has one.
        plan: What was worked out, for ``plan.json``.
        assumed: What the guarantee takes for granted about the data.
        save_adapter: Writes parameters in the adapter's own format to a folder.
        measure: The loss of each held-out example, kept for paired comparisons.
        examination: Benchmarks that are asked before and after.
        losses: The loss of any examples.
        planted: Clients that were added for an audit; no round draws them.
    """

    simulation: Simulation
    rounds: int
    delta: float
    epsilon: float | None
    unit: str
    population: int
    seed: int = 0
    seeded: bool = False
    evaluate_every: int = 5
    plan: Mapping[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    save_adapter: Callable[[NDArray[np.float32], Path], None] | None = None
    measure: Callable[[NDArray[np.float32]], HeldOutLoss] | None = None
    examination: Examination | None = None
    losses: Callable[[NDArray[np.float32], Sequence[Example]], HeldOutLoss] | None = (
        None
    )
    planted: Trainer | None = None

    @property
    def randomness_of(self) -> Callable[[RunFolder], Randomness]:
        """Where the run's secret comes from."""
        if self.seeded:
            return lambda folder: SeededRandomness(self.seed)
        return lambda folder: SecretRandomness.kept_in(folder.key)


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a round, or before the first one.

    Args:
        round: Rounds done.
        rounds: Rounds in all.
        spent: The certified epsilon so far.
        metrics: The last evaluation.
        report: The round, or None before the first one.
        seconds: How long the round took, evaluation included.
    """

    round: int
    rounds: int
    spent: Interval
    metrics: Mapping[str, float]
    report: Report | None
    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Args:
        state: The last state.
        before: The metrics of the parameters that it began with.
        after: Of those that it ended with.
        statement: The guarantee.
        stopped: Why it ended before its last round; None where it did not.
    """

    state: State
    before: Mapping[str, float]
    after: Mapping[str, float]
    statement: Statement
    stopped: str | None = None


def execute(
    prepared: Prepared,
    folder: RunFolder,
    payer: Book,
    *,
    watch: Callable[[Progress], None] = lambda progress: None,
    collect: Collect | None = None,
) -> Outcome:
    """Run what is left of a run.

    Args:
        prepared: The run.
        folder: Its folder, begun and locked by the caller.
        payer: The ledger.
        watch: Told after every round.
        collect: Who computes the rounds; by default the trainer, in this process.

    Guarantees:
        A run that is killed at any moment and resumed ends with the same
        parameters, to the last bit, as one that was not, as far as local
        training is repeatable.  Its ledger holds every release, once where
        a repeated round gave the same sum.  The statement and every epsilon are
        about all that the ledger holds.

        Where the payer refuses a round after the first, because rounds that were
        interrupted had to be paid again, the run ends there.

    Raises:
        RunFolderError: If something cannot be written, or the folder is damaged.
        ChargeRefusedError: From the payer, before anything was released.
    """
    simulation = prepared.simulation
    state = folder.load()
    if state is not None:
        _matches(state, simulation, folder)
    if state is not None or simulation.codec_paid:
        _paid(payer, simulation.event(state.round if state else 0), folder)
    randomness = prepared.randomness_of(folder)
    if state is None:
        state = simulation.start()
        folder.rewind(-1)
    else:
        folder.rewind(state.round)
    sitting = _Sitting(prepared, folder)
    records, spent = folder.records(), _cost(payer.spent, prepared.delta)
    metrics = _last_metrics(records)
    if not records:
        found, errors = sitting.evaluated(state, last=False)
        folder.log({"round": 0, "epsilon": spent.upper, **found, **errors})
        metrics = found
        records = folder.records()
    before = measured(records[0])
    watch(Progress(state.round, prepared.rounds, spent, metrics, None, 0.0))
    clock = time.monotonic()
    reports = simulate(
        simulation,
        rounds=prepared.rounds,
        randomness=randomness,
        payer=payer,
        seed=prepared.seed,
        state=state,
        collect=collect,
    )
    stopped = None
    while state.round < prepared.rounds:
        try:
            report = next(reports)
        except ChargeRefusedError as error:
            if state.round == 0:
                raise
            stopped = str(error)
            found, errors = sitting.evaluated(state, last=True)
            metrics = found
            _amend(folder, found | errors)
            break
        state = report.state
        due = state.round % prepared.evaluate_every == 0
        last = state.round == prepared.rounds
        found, errors = {}, {}
        if due or last:
            found, errors = sitting.evaluated(state, last=last)
            metrics = found
        spent = _cost(payer.spent, prepared.delta)
        seconds = time.monotonic() - clock
        folder.log(
            {
                "round": state.round,
                "epsilon": spent.upper,
                "step_norm": report.step_norm,
                **_clip(report),
                **found,
                **errors,
                "private": asdict(report.private) | {"seconds": round(seconds, 3)},
            }
        )
        folder.save(state)
        watch(Progress(state.round, prepared.rounds, spent, metrics, report, seconds))
        clock = time.monotonic()
    statement = _finished(prepared, folder, state, payer.spent, randomness)
    return Outcome(state, before, metrics, statement, stopped)


def statement_of(prepared: Prepared, event: Event) -> Statement:
    """The guarantee of a run that released `event`, with what goes with it."""
    from drdp.privacy.statement import state

    protection = prepared.simulation.protection
    return state(
        event,
        prepared.delta,
        circumstances(
            unit=prepared.unit,
            population=prepared.population,
            adjacency=protection.relation,
            clip_norm=protection.clip_norm,
            placement=str(protection.placement),
            view=str(protection.view),
            seeded=prepared.seeded,
            mechanism=str(protection.mechanism),
            examples_per_user=protection.examples_per_user,
            steering=protection.steering,
            assumed=tuple(prepared.assumed),
        ),
        with_risk=NonPrivate() not in atoms(event),
    )


def _finished(
    prepared: Prepared,
    folder: RunFolder,
    state: State,
    spent: Event,
    randomness: Randomness,
) -> Statement:
    """Write the result; the statement comes last, and then the key goes."""
    if prepared.save_adapter is not None:
        prepared.save_adapter(_single(state), folder.adapter)
    if prepared.measure is not None:
        loss = prepared.measure(_single(state))
        first = prepared.measure(prepared.simulation.trainer.initial())
        folder.write_json(
            "held_out.json",
            {
                "tokens": loss.tokens.tolist(),
                "before": first.sums.tolist(),
                "after": loss.sums.tolist(),
            },
        )
    found = statement_of(prepared, spent)
    document = found.to_dict() | {"noise_is_secret": randomness.secure}
    told = [found.sentence(), ""]
    if not randomness.secure:
        told.insert(
            0, "SIMULATION, NOT PRIVATE: its noise can be replayed from a seed."
        )
    told += ["Assumed:", *(f"- {line}" for line in document["assumptions"]), ""]
    told += ["Not covered:", *(f"- {line}" for line in document["not_covered"])]
    beside = prepared.plan.get("ew_tune")
    if beside is not None:
        document["ew_tune"] = beside
        told += ["", "For comparison, not a guarantee:", f"- {beside['told']}"]
    folder.write_text("statement.txt", "\n".join(told) + "\n")
    folder.write_json("statement.json", document)
    folder.erase_key()
    return found


def _matches(state: State, simulation: Simulation, folder: RunFolder) -> None:
    length = simulation.trainer.num_parameters
    if len(state.parameters) != length:
        raise RunFolderError(
            f"the checkpoint in {folder.path} has {len(state.parameters)} parameters,"
            f" but the model and adapter have {length}; resume with the settings that"
            " the run began with"
        )
    if (state.clip_norm is None) is not (simulation.protection.steering is None):
        raise RunFolderError(
            f"the checkpoint in {folder.path} is damaged: it"
            f" {'lacks' if state.clip_norm is None else 'has'} an adaptive clip norm,"
            " against the settings that the run began with"
        )


def _single(state: State) -> NDArray[np.float32]:
    import numpy as np

    return state.parameters.astype(np.float32)


def _paid(payer: Book, event: Event, folder: RunFolder) -> None:
    """Refuse a ledger that lacks what the checkpoint was paid with."""
    missing = atoms(event) - atoms(payer.spent)
    if missing:
        raise RunFolderError(
            f"the ledger in {folder.path} lacks {missing.total()} charges of what"
            " codec and checkpoint were made from: it was put back to an older copy,"
            " and no guarantee can be stated"
        )


def _amend(folder: RunFolder, found: dict[str, Any]) -> None:
    """Metrics of the last round, which turned out to be the last one too late."""
    record = folder.records()[-1] | found
    folder.rewind(record["round"] - 1)
    folder.log(record)


class _Sitting:
    """What is measured of a run's parameters; benchmarks at both ends alone."""

    def __init__(self, prepared: Prepared, folder: RunFolder) -> None:
        self._prepared, self._folder = prepared, folder
        self._before: Answers | None = None
        if prepared.examination is not None and folder.records():
            # Now, rather than after all rounds.
            exams = prepared.examination.exams
            self._before = same_questions(exams, folder.answers())

    def evaluated(
        self, state: State, *, last: bool
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Metrics, and the entry with the standard errors of some of them."""
        parameters = _single(state)
        metrics = _public(self._prepared.simulation.trainer.evaluate(parameters))
        asked = self._prepared.examination
        if asked is None or (state.round and not last):
            return metrics, {}
        answers = asked.answers(parameters)
        if state.round == 0:
            self._before = answers
        if self._before is not None:
            after = answers if last or not self._prepared.rounds else None
            self._folder.keep_answers(result(asked.exams, self._before, after))
        found, errors = asked.metrics(answers)
        return metrics | found, {"standard_errors": errors}


def _cost(event: Event, delta: float) -> Interval:
    """The certified epsilon of what was charged."""
    return certified(event, delta)


def _public(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _clip(report: Report) -> dict[str, float]:
    """The round's clip norm, where it is one of what was released."""
    return {} if report.clip_norm is None else {"clip_norm": report.clip_norm}


def _last_metrics(records: list[dict[str, Any]]) -> dict[str, float]:
    for record in reversed(records):
        found = measured(record)
        if found:
            return found
    return {}
