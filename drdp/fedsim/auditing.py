"""Audits of the running simulator: canaries through its own rounds, then a verdict.

>>> from drdp.compression.identity import Identity
>>> from drdp.fedsim.canaries import Crowd
>>> from drdp.fedsim.protection import Protection
>>> from drdp.privacy.threat import EveryClient
>>> import numpy as np
>>> plan = Protection(EveryClient(5), clip_norm=2.0, noise_multiplier=1.0)
>>> crowd = Crowd(5, np.zeros(8, dtype=np.float32))
>>> found = audit_simulation(
...     Simulation(crowd, Identity(8), plan), delta=1e-5, runs=200, seed=1
... )
>>> found.verdict, 1.0 < found.mu <= 2.0  # replace-one: the true mu is 2
('consistent', True)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.attacks import Seen, Suspect, names_of, outputs, usual_view
from drdp.fedsim.canaries import Direction, Planting
from drdp.fedsim.cohort import Cohorts
from drdp.fedsim.randomness import Randomness, SecretRandomness
from drdp.fedsim.sight import Sight
from drdp.fedsim.simulate import Simulation, simulate
from drdp.fedsim.trainer import ClientRange, Trainer
from drdp.privacy.audit import CONFIDENCE
from drdp.privacy.black_box import judged
from drdp.privacy.events import Event, atoms
from drdp.privacy.findings import Finding, Jointly, judged_canaries, shared_out
from drdp.privacy.threat import EveryClient, FixedCohort

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    RandomnessOf = Callable[[int], Randomness]

__all__ = [
    "audit_canaries",
    "audit_simulation",
    "audit_suspects",
    "played",
    "secret_of",
    "watched",
]

_SINGLE = 1


def audit_simulation(
    simulation: Simulation,
    *,
    delta: float,
    rounds: int = 1,
    runs: int = 1000,
    canaries: int = 1,
    claimed: Event | None = None,
    kind: Direction = "sphere",
    seen: Seen | None = None,
    scale: float = 1.0,
    examples: int = 1,
    confidence: float = CONFIDENCE,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Finding:
    """What the simulator's releases tell about canaries, against its own claim.

    With one canary, `runs` independent runs have it in and as many have it out,
    and the test is that of two samples.  With several, each is in by a coin of
    its own in each of `runs` runs, and twice as many runs are made, the first
    half to decide how many guesses to commit to.

    Args:
        simulation: The running code; real clients keep the seats that canaries
            leave them.
        delta: Of the guarantee.
        rounds: Of each run.
        runs: See above.
        canaries: In each run.
        claimed: What the rounds are said to release; the simulation's own event
            by default, without that of its codec, whose fitting is not replayed.
        kind: Directions of the canaries.
        seen: What the attacker looks at; what the view shows by default.
        scale: How many times the clip norm a canary tries to send.
        examples: How many examples a canary claims to have.
        confidence: With what probability a true claim is left standing.
        seed: To repeat an audit; None takes fresh randomness.
        progress: Is told how many runs of how many are done.

    Guarantees:
        Every number comes from `drdp.fedsim.simulate` itself; scores use what it
        released and nothing else.  Canaries are neighbours under the adjacency
        of the simulation, so a true claim survives with probability `confidence`.

    Raises:
        InvalidArgumentError: If there are fewer clients than canaries in a cohort
            of stated size.
    """
    found = audit_canaries(
        simulation,
        rounds=rounds,
        canaries=canaries,
        kind=kind,
        scale=scale,
        examples=examples,
        seen=() if seen is None else (seen,),
        delta=delta,
        runs=runs,
        claimed=claimed,
        confidence=confidence,
        seed=seed,
        progress=progress,
    )
    ((_, part),) = found.parts
    return part


def audit_canaries(
    simulation: Simulation,
    *,
    rounds: int = 1,
    canaries: int = 1,
    kind: Direction = "sphere",
    scale: float = 1.0,
    examples: int = 1,
    **said: Any,
) -> Jointly:
    """What each of several adversaries learns about canaries, from the same runs.

    Args:
        simulation: As for `audit_simulation`, like all that follows.
        rounds: Of each run.
        canaries: In each run.
        kind: Directions of the canaries.
        scale: How many times the clip norm a canary tries to send.
        examples: How many examples a canary claims to have.
        said: The arguments of `audit_suspects`.
    """
    planting = Planting(
        simulation, canaries, rounds, kind=kind, scale=scale, examples=examples
    )
    rest = _room(simulation, planting.canaries * planting.seats)
    return audit_suspects(planting, rest, **said)


def audit_suspects(
    suspect: Suspect,
    rest: Trainer,
    *,
    delta: float,
    runs: int = 1000,
    claimed: Event | None = None,
    seen: Sequence[Seen] = (),
    confidence: float = CONFIDENCE,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Jointly:
    """What each of several adversaries learns about suspects, from the same runs.

    Args:
        suspect: Canaries or a client with data, see `drdp.fedsim.attacks.Suspect`.
        rest: The other clients.
        delta: Of the guarantee.
        runs: As for `audit_simulation`.
        claimed: Likewise.
        seen: What is looked at, each by its own attack; by default what the view
            shows.
        confidence: Of all verdicts and bounds together.
        seed: To repeat an audit; None takes fresh randomness.
        progress: Is told how many runs of how many are done.

    Guarantees:
        As for `audit_simulation`; each view is tested at a confidence that is
        fixed beforehand, so that a true claim survives all of them with
        probability `confidence`.
    """
    import numpy as np

    runs = _check.count(least=1, runs=runs)
    simulation = suspect.simulation
    views = tuple(dict.fromkeys(seen)) or (usual_view(simulation.protection.view),)
    event = _claim(simulation, suspect.rounds) if claimed is None else claimed
    each = shared_out(confidence, len(views))
    secrets = secret_of(seed)
    count = suspect.canaries
    if count == _SINGLE:
        truths = np.arange(2 * runs) % 2 == 0
    else:
        coins = secrets(-1).source("coins").uniform(2 * runs * count)
        truths = coins < 0.5  # each by a fair coin
    truths = truths.reshape(2 * runs, count)
    found = watched(suspect, rest, truths, secrets, seen=views, progress=progress)
    parts = []
    for view, numbers in found.items():
        if count == _SINGLE:
            part = judged(
                numbers[truths[:, 0], 0],
                numbers[~truths[:, 0], 0],
                delta=delta,
                event=event,
                confidence=each,
                names=names_of(suspect, view),
            )
        else:
            scores = numbers[:, :, 0]
            part = judged_canaries(
                scores[runs:].ravel(),
                truths[runs:].ravel(),
                (scores[:runs].ravel(), truths[:runs].ravel()),
                delta=delta,
                event=event,
                confidence=each,
            )
        parts.append((view, part))
    return Jointly(confidence, tuple(parts))


def played(
    suspect: Suspect,
    rest: Trainer,
    inside: NDArray[np.bool_],
    randomness: RandomnessOf,
    *,
    seen: Seen,
) -> NDArray[np.float64]:
    """What one adversary sees of runs of the simulator; see `watched`.

    Returns:
        Shape (runs, suspects, numbers); see `drdp.fedsim.attacks.outputs`.
    """
    return watched(suspect, rest, inside, randomness, seen=(seen,))[seen]


def watched(
    suspect: Suspect,
    rest: Trainer,
    inside: NDArray[np.bool_],
    randomness: RandomnessOf,
    *,
    seen: Sequence[Seen],
    progress: Callable[[int, int], None] | None = None,
) -> dict[Seen, NDArray[np.float64]]:
    """Run the simulator and look at what it released.

    Args:
        suspect: Those who are in or out, and the simulation that they go through.
        rest: The other clients.
        inside: For each run and suspect, whether it is in.
        randomness: For each run, from its number; no two may be alike.
        seen: What is looked at.
        progress: Is told how many runs of how many are done.

    Returns:
        For each view, shape (runs, suspects, numbers).
    """
    import numpy as np

    found: dict[Seen, list[NDArray[np.float64]]] = {view: [] for view in seen}
    for number, truths in enumerate(inside):
        sights: list[Sight] = []
        everybody = suspect.among(rest, truths.tolist())
        running = simulate(
            replace(suspect.simulation, trainer=everybody),
            rounds=suspect.rounds,
            randomness=randomness(number),
            payer=_NothingOwed(),
            seed=suspect.seed,
            observe=sights.append,
        )
        for _ in running:
            pass
        for view, rows in found.items():
            rows.append(outputs(suspect, sights, view, everybody.num_clients))
        if progress is not None:
            progress(number + 1, len(inside))
    return {view: np.stack(rows) for view, rows in found.items()}


def secret_of(seed: int | None) -> RandomnessOf:
    """Randomness under a key of its own for each run.

    Args:
        seed: None for keys that nobody can repeat.
    """
    import os

    secret = os.urandom(32) if seed is None else f"drdp audit {seed}".encode()

    def randomness(run: int) -> Randomness:
        return SecretRandomness(hashlib.sha256(secret + b" %d" % run).digest())

    return randomness


@final
class _NothingOwed:
    """Takes charges for crafted data, which are nobody's."""

    def charge(
        self, event: Event, *, label: str = "", run: str = "", key: str | None = None
    ) -> None:
        """Nothing to record: an audit releases nothing about anybody."""


def _claim(simulation: Simulation, rounds: int) -> Event:
    event = simulation.protection.run_event(rounds)
    if not atoms(event):
        raise InvalidArgumentError(
            "simulation must claim something about its clients, but it says that all"
            " its data is public; audit one that is private"
        )
    return event


def _room(simulation: Simulation, canaries: int) -> Trainer:
    """The real clients that are left beside the canaries."""
    trainer = simulation.trainer
    wanted = _stated(simulation.protection.cohort)
    total = max(trainer.num_clients, canaries) if wanted is None else wanted
    if canaries > total:
        raise InvalidArgumentError(
            f"canaries must be at most the {total} clients of the cohort, got"
            f" {canaries}"
        )
    if total - canaries > trainer.num_clients:
        raise InvalidArgumentError(
            f"simulation must have the {total} clients that its cohort is described"
            f" for, got {trainer.num_clients}"
        )
    left = total - canaries
    return ClientRange(trainer, trainer.num_clients - left, left)


def _stated(cohort: Cohorts) -> int | None:
    if isinstance(cohort, FixedCohort):
        return cohort.population
    return cohort.clients if isinstance(cohort, EveryClient) else None
