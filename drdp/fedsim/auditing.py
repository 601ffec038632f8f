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
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.attacks import Seen, outputs, usual_view
from drdp.fedsim.canaries import Direction, Planting, WithCanaries
from drdp.fedsim.cohort import Cohorts
from drdp.fedsim.randomness import Randomness, SecretRandomness
from drdp.fedsim.sight import Sight
from drdp.fedsim.simulate import Simulation, simulate
from drdp.fedsim.trainer import ClientRange, Trainer
from drdp.privacy.audit import CONFIDENCE
from drdp.privacy.black_box import judged
from drdp.privacy.events import Event, atoms
from drdp.privacy.findings import Finding, judged_canaries
from drdp.privacy.threat import EveryClient, FixedCohort

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    RandomnessOf = Callable[[int], Randomness]

__all__ = ["audit_simulation", "played", "secret_of"]

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
    half to decide on how many guesses to commit.

    Args:
        simulation: The parts.  Of its clients the first ones make room for the
            canaries, so that the number of clients stays as it is where the
            cohort needs it, and grows where it does not.
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
    import numpy as np

    runs = _check.count(least=1, runs=runs)
    planting = Planting(
        simulation, canaries, rounds, kind=kind, scale=scale, examples=examples
    )
    seen = seen or usual_view(simulation.protection.view)
    event = _claim(simulation, rounds) if claimed is None else claimed
    secrets = secret_of(seed)
    rest = _room(simulation, canaries)
    if canaries == _SINGLE:
        truths = np.arange(2 * runs) % 2 == 0
    else:
        coins = secrets(-1).source("coins").uniform(2 * runs * canaries)
        truths = coins < 0.5  # each by a fair coin
    truths = truths.reshape(2 * runs, canaries)
    found = played(planting, rest, truths, secrets, seen=seen, progress=progress)
    if canaries == _SINGLE:
        inside, outside = found[truths[:, 0], 0], found[~truths[:, 0], 0]
        return judged(
            inside,
            outside,
            delta=delta,
            event=event,
            confidence=confidence,
            names=("likelihood ratio",),
        )
    scores = found[:, :, 0]
    return judged_canaries(
        scores[runs:].ravel(),
        truths[runs:].ravel(),
        (scores[:runs].ravel(), truths[:runs].ravel()),
        delta=delta,
        event=event,
        confidence=confidence,
    )


def played(
    planting: Planting,
    trainer: Trainer,
    inside: NDArray[np.bool_],
    randomness: RandomnessOf,
    *,
    seen: Seen,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Run the simulator and look at what it released.

    Args:
        planting: The canaries, and the simulation that they are sent through.
        trainer: The other clients.
        inside: For each run and canary, whether it is in.
        randomness: For each run, from its number; no two may be alike.
        seen: What is looked at.
        progress: Is told how many runs of how many are done.

    Returns:
        Shape (runs, canaries, numbers); see `drdp.fedsim.attacks.outputs`.
    """
    import numpy as np

    found = []
    for number, truths in enumerate(inside):
        sights: list[Sight] = []
        everybody = WithCanaries(trainer, planting, truths.tolist())
        running = simulate(
            replace(planting.simulation, trainer=everybody),
            rounds=planting.rounds,
            randomness=randomness(number),
            payer=_NothingOwed(),
            seed=planting.seed,
            observe=sights.append,
        )
        for _ in running:
            pass
        found.append(outputs(planting, sights, seen, everybody.num_clients))
        if progress is not None:
            progress(number + 1, len(inside))
    return np.stack(found)


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
