"""A prepared run in its folder: locked, paid for, checkpointed, and ended cleanly.

The order within a round is what survives a crash: charge the ledger, release,
step, write the metrics, write the checkpoint.  Whatever was not checkpointed is
computed again on resuming, from the same cohort and with the same noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from drdp.errors import RunFolderError
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.randomness import Randomness, SecretRandomness, SeededRandomness
from drdp.fedsim.simulate import Payer, Report, Simulation, State, simulate
from drdp.privacy.curves import Interval
from drdp.privacy.events import NOTHING, Event, NonPrivate, atoms
from drdp.privacy.pld import epsilon_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.fedsim.evaluation import HeldOutLoss
    from drdp.privacy.events import Adjacency
    from drdp.privacy.statement import Circumstances, Statement

__all__ = [
    "Outcome",
    "Prepared",
    "Progress",
    "circumstances",
    "execute",
    "statement_of",
]


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
        save_adapter: Writes parameters in the adapter's own format to a folder.
        measure: The loss of each held-out example, kept for paired comparisons.
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
    save_adapter: Callable[[NDArray[np.float32], Path], None] | None = None
    measure: Callable[[NDArray[np.float32]], HeldOutLoss] | None = None

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
    """

    state: State
    before: Mapping[str, float]
    after: Mapping[str, float]
    statement: Statement


def execute(
    prepared: Prepared,
    folder: RunFolder,
    payer: Payer,
    *,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run what is left of a run.

    Args:
        prepared: The run.
        folder: Its folder, begun and locked by the caller.
        payer: The ledger.
        watch: Told after every round.

    Guarantees:
        A run that is killed at any moment and resumed ends with the same
        parameters, to the last bit, as one that was not, as far as local
        training is repeatable; its ledger holds every release, and the
        checkpointed rounds once each.

    Raises:
        RunFolderError: If something cannot be written.
        BudgetExceededError: From the payer; nothing of that round is released.
    """
    simulation, randomness = prepared.simulation, prepared.randomness_of(folder)
    trainer = simulation.trainer
    state = folder.load()
    if state is None:
        state = simulation.start()
        folder.rewind(-1)
    else:
        _matches(state, simulation, folder)
        folder.rewind(state.round)
    records = folder.records()
    metrics = _last_metrics(records)
    if not records:
        metrics = dict(trainer.evaluate(_single(state)))
        folder.log({"round": 0, "epsilon": _two(NOTHING, prepared), **_public(metrics)})
        records = folder.records()
    before = RunFolder.measured(records[0])
    watch(
        Progress(
            state.round,
            prepared.rounds,
            _spent(prepared, state.round),
            metrics,
            None,
            0.0,
        )
    )
    clock = time.monotonic()
    for report in simulate(
        simulation,
        rounds=prepared.rounds,
        randomness=randomness,
        payer=payer,
        seed=prepared.seed,
        state=state,
    ):
        state = report.state
        due = state.round % prepared.evaluate_every == 0
        found: Mapping[str, float] = {}
        if due or state.round == prepared.rounds:
            found = metrics = dict(trainer.evaluate(_single(state)))
        seconds = time.monotonic() - clock
        folder.log(
            {
                "round": state.round,
                "epsilon": _two(simulation.event(state.round), prepared),
                "step_norm": report.step_norm,
                **_public(found),
                # One digit: the exact time of a round tells who took part.
                "seconds": float(f"{seconds:.1g}"),
                "private": asdict(report.private) | {"seconds": round(seconds, 3)},
            }
        )
        folder.save(state)
        watch(
            Progress(
                state.round,
                prepared.rounds,
                _spent(prepared, state.round),
                metrics,
                report,
                seconds,
            )
        )
        clock = time.monotonic()
    return _finished(prepared, folder, state, before, metrics, randomness)


def statement_of(prepared: Prepared, rounds: int) -> Statement:
    """The guarantee of the rounds that were run, with what goes with it."""
    from drdp.privacy.statement import state

    protection = prepared.simulation.protection
    event = prepared.simulation.event(rounds)
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
            examples_per_user=protection.examples_per_user,
        ),
        with_risk=NonPrivate() not in atoms(event),
    )


def circumstances(
    *,
    unit: str,
    population: int,
    adjacency: Adjacency,
    clip_norm: float,
    placement: str,
    view: str,
    seeded: bool,
    examples_per_user: int | None = None,
) -> Circumstances:
    """What a run's event does not know about the run.

    Args:
        unit: Whom the guarantee protects.
        population: How many of them there are.
        adjacency: The neighbouring relation.
        clip_norm: The largest L2 norm of one contribution.
        examples_per_user: The most examples of one unit, where examples are drawn
            and clipped one by one.
        placement: Who adds the noise.
        view: What the adversary sees.
        seeded: Whether the noise can be replayed from a seed.
    """
    from drdp.privacy.statement import Circumstances

    noted = [
        "Sums are divided by the public expected size of a cohort.",
        (
            "Noise is drawn in double precision, which does not hold against attacks on"
            " the last bits of released numbers."
        ),
    ]
    if examples_per_user is not None:
        noted.insert(
            0,
            f"Each {unit} has at most {examples_per_user} examples.  Each of them joins"
            " a round by chance, independently, and is clipped alone to"
            f" {clip_norm:g}; the adversary does not learn which took part.",
        )
        clip_norm *= examples_per_user
    missing = [
        (
            "Everything marked private in metrics.jsonl: cohort sizes, training losses,"
            " norms.  Keep it, and the folder's secret.key while the run lasts, from"
            " others."
        )
    ]
    if seeded:
        missing.insert(
            0,
            "THIS RUN: its noise and cohorts come from a seed that is written down, so"
            " it is a simulation; the figures are what the same run with secret noise"
            " would guarantee.",
        )
    return Circumstances(
        unit=unit,
        population=population,
        adjacency=adjacency,
        clip_norm=clip_norm,
        placement=placement,
        adversary=f"view {view}",
        output="the parameters after every round",
        data_accesses="this run alone",
        delta_source="given, or the default for the population",
        assumptions=tuple(noted),
        not_covered=tuple(missing),
    )


def _finished(
    prepared: Prepared,
    folder: RunFolder,
    state: State,
    before: Mapping[str, float],
    after: Mapping[str, float],
    randomness: Randomness,
) -> Outcome:
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
    found = statement_of(prepared, state.round)
    document = found.to_dict() | {"noise_is_secret": randomness.secure}
    folder.write_json("statement.json", document)
    told = [found.sentence(), ""]
    if not randomness.secure:
        told.insert(
            0, "SIMULATION, NOT PRIVATE: its noise can be replayed from a seed."
        )
    told += ["Assumed:", *(f"- {line}" for line in document["assumptions"]), ""]
    told += ["Not covered:", *(f"- {line}" for line in document["not_covered"])]
    folder.write_text("statement.txt", "\n".join(told) + "\n")
    folder.erase_key()
    return Outcome(state, before, after, found)


def _matches(state: State, simulation: Simulation, folder: RunFolder) -> None:
    length = simulation.trainer.num_parameters
    if len(state.parameters) != length:
        raise RunFolderError(
            f"the checkpoint in {folder.path} has {len(state.parameters)} parameters,"
            f" but the model and adapter have {length}; resume with the settings that"
            " the run began with"
        )


def _single(state: State) -> NDArray[np.float32]:
    import numpy as np

    return state.parameters.astype(np.float32)


def _spent(prepared: Prepared, rounds: int) -> Interval:
    event = prepared.simulation.event(rounds)
    if NonPrivate() in atoms(event):
        return Interval(math.inf, math.inf, "no protection")
    return epsilon_interval(event, prepared.delta)


def _two(event: Event, prepared: Prepared) -> float | str:
    """The certified upper epsilon as JSON has it."""
    if not atoms(event):
        return 0.0
    if NonPrivate() in atoms(event):
        return "inf"
    return epsilon_interval(event, prepared.delta).upper


def _public(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _last_metrics(records: list[dict[str, Any]]) -> dict[str, float]:
    for record in reversed(records):
        found = RunFolder.measured(record)
        if found:
            return found
    return {}
