"""Settings to noise and rounds: what a budget buys, calibrated before anything runs."""

from __future__ import annotations

import math
from dataclasses import replace

from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.cohort import AllocatedCohort, Cohorts, expected_size
from drdp.fedsim.config import Config
from drdp.fedsim.federation import EXAMPLE_LEVEL, Federation
from drdp.fedsim.fitting import code_length, codec_event
from drdp.fedsim.protection import (
    MechanismName,
    Protection,
    calibrated,
    rounds_within,
)
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.events import NOTHING, NonPrivate, atoms
from drdp.privacy.threat import (
    EveryClient,
    FixedCohort,
    Placement,
    PoissonCohort,
    View,
)

__all__ = ["default_delta", "protected", "stated_size"]

_UNCLIPPED = ("cent", "public", "base")


def default_delta(population: int) -> float:
    """min(1e-5, N^-1.1): well below one over the number of those protected."""
    return min(1e-5, math.pow(max(population, 1), -1.1))


def _cohort(config: Config, clients: int) -> Cohorts:
    cohort = config.cohort
    match cohort.kind:
        case "every":
            return EveryClient(clients)
        case "fixed":
            return FixedCohort(max(1, round(cohort.rate * clients)), clients)
        case "allocation":
            return AllocatedCohort(max(1, round(1.0 / cohort.rate)))
    return PoissonCohort(cohort.rate)


def protected(
    config: Config, people: Federation, delta: float
) -> tuple[Protection, int]:
    """The noise, and how many rounds there are; the clip norm is still 1."""
    privacy, method = config.privacy, config.run.method
    clients, wanted = people.trainer.num_clients, config.run.rounds
    if method in _UNCLIPPED:
        rounds = 0 if method == "base" else _fixed(wanted, method)
        cohort: Cohorts = EveryClient(1)
        if method == "public":
            cohort = _public_cohort(config, clients)
        elif method == "base":
            cohort = EveryClient(clients)
        plain = Protection(
            cohort,
            clip_norm=math.inf,
            noise_multiplier=0.0,
            public=method in ("public", "base"),
        )
        return plain, rounds
    draft = Protection(
        _cohort(config, clients),
        clip_norm=1.0,
        noise_multiplier=privacy.noise_multiplier
        if privacy.noise_multiplier is not None
        else 1.0,
        placement=Placement(privacy.placement),
        view=View(privacy.view),
        adjacency=privacy.adjacency,  # type: ignore[arg-type]  # a member's name
        survivors=privacy.survivors,
        colluding=privacy.colluding,
        examples_per_user=privacy.most_examples if method == "els" else None,
        mechanism=MechanismName(privacy.mechanism),
        granularity=privacy.granularity,
        code_length=code_length(config, people),
    )
    budget = privacy.epsilon
    if budget is None and privacy.noise_multiplier is None:
        raise InvalidArgumentError(
            "no budget is given: set privacy.epsilon (--epsilon 2), or"
            " privacy.noise_multiplier (--noise-multiplier 1); epsilon inf trains"
            " without noise, and without protection"
        )
    if budget == math.inf:
        draft = replace(draft, mechanism=MechanismName.GAUSSIAN)
        return replace(draft, noise_multiplier=0.0), _fixed(wanted, "without noise")
    beside = codec_event(config)
    if NonPrivate() in atoms(beside):
        beside = NOTHING  # nothing is left to protect; the noise is as if there were
    if privacy.noise_multiplier is None:
        if budget is None or isinstance(wanted, str):
            raise InvalidArgumentError(
                "run.rounds until-budget needs privacy.noise_multiplier: with a budget"
                " alone, noise and rounds cannot both be found"
            )
        return (
            calibrated(
                draft, epsilon=budget, delta=delta, rounds=wanted, beside=beside
            ),
            wanted,
        )
    if isinstance(wanted, int) and budget is None:
        return draft, wanted
    if budget is None:
        raise InvalidArgumentError("run.rounds until-budget needs privacy.epsilon")
    fits = rounds_within(draft, epsilon=budget, delta=delta, beside=beside)
    return draft, fits if isinstance(wanted, str) else min(wanted, fits)


def _fixed(rounds: int | str, what: str) -> int:
    if isinstance(rounds, str):
        raise InvalidArgumentError(
            f"run.rounds must be a number {what}: there is no budget to end the run"
        )
    return rounds


def stated_size(config: Config, protection: Protection) -> float | None:
    """What sums are divided by where the number of clients is to be hidden.

    Under add-remove it comes from the number of clients in the settings, which is
    public; under other relations None: there the number that there are will do.

    Raises:
        UnsoundThreatModelError: If the settings leave that number to the data.
    """
    if protection.relation is not Adjacency.ADD_REMOVE:
        return None
    data = config.data
    if data.partition not in ("iid", "dirichlet") or config.run.method in EXAMPLE_LEVEL:
        raise UnsoundThreatModelError(
            "privacy.adjacency add-remove hides how many units there are, but here"
            " the data decide that number, and sums are divided by it; use zero-out"
        )
    return expected_size(protection.cohort, data.clients)


def _public_cohort(config: Config, clients: int) -> Cohorts:
    """As many public clients as a private round would be expected to have."""
    private = config.data.clients or clients
    wanted = round(expected_size(_cohort(config, private), private))
    return FixedCohort(min(max(wanted, 1), clients), clients)
