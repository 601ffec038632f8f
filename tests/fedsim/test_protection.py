"""A run's promise is the event of what it does."""

import math

import pytest

from drdp import (
    NOTHING,
    Adjacency,
    FixedSizeSampled,
    Gaussian,
    MixtureOfGaussians,
    NonPrivate,
    PoissonSampled,
    RandomlyAllocated,
    epsilon_interval,
    stage_one,
)
from drdp.errors import (
    CalibrationError,
    InvalidArgumentError,
    UnsoundThreatModelError,
)
from drdp.fedsim.cohort import AllocatedCohort
from drdp.fedsim.protection import Protection, calibrated, rounds_within
from drdp.privacy.events import atoms
from drdp.privacy.threat import (
    EveryClient,
    FixedCohort,
    Placement,
    PoissonCohort,
    View,
)

POISSON = Protection(PoissonCohort(0.05), clip_norm=2.0, noise_multiplier=1.5)


def test_noise_is_stated_per_clip_norm() -> None:
    assert POISSON.noise_std == 3.0
    assert POISSON.event(7) == PoissonSampled(0.05, Gaussian(1.5), Adjacency.ZERO_OUT)


def test_a_fixed_cohort_with_central_noise_is_replace_one() -> None:
    plan = Protection(FixedCohort(5, 100), clip_norm=1.0, noise_multiplier=2.0)
    assert plan.relation is Adjacency.REPLACE_ONE
    assert plan.event(0) == FixedSizeSampled(5, 100, Gaussian(1.0))


@pytest.mark.parametrize("clients", [3, 10])
def test_shares_of_noise_add_up(clients: int) -> None:
    """N15: noise 2 z / sqrt(K) at each of K clients is the multiplier z."""
    plan = Protection(
        EveryClient(clients),
        clip_norm=1.0,
        noise_multiplier=2 * 0.748028 / math.sqrt(clients),
        placement=Placement.DISTRIBUTED,
        view=View.SUM,
    )
    ((event, times),) = atoms(plan.event(0)).items()
    assert times == 1
    assert event.noise_multiplier == pytest.approx(0.748028, rel=1e-12)
    assert plan.noise_of_mean(clients) == pytest.approx(2 * 0.748028 / clients)


def test_an_allocated_pass_is_charged_once() -> None:
    plan = Protection(AllocatedCohort(4), clip_norm=1.0, noise_multiplier=1.0)
    events = [plan.event(number) for number in range(8)]
    assert [event == NOTHING for event in events] == [False, *[True] * 3] * 2
    assert events[0] == RandomlyAllocated(4, Gaussian(1.0), 1, Adjacency.ZERO_OUT)
    assert atoms(plan.run_event(5)) == atoms(events[0] * 2)


def test_users_of_several_examples_are_groups() -> None:
    plan = Protection(
        PoissonCohort(0.01), clip_norm=1.0, noise_multiplier=1.0, examples_per_user=4
    )
    event = plan.event(0)
    assert isinstance(event, MixtureOfGaussians)
    # N49: z=1, G=4, p=.01, T=1000, delta=1e-6
    assert epsilon_interval(event * 1000, 1e-6).upper == pytest.approx(
        10.01555, abs=2e-3
    )


def test_no_noise_is_no_guarantee() -> None:
    plan = Protection(PoissonCohort(0.05), clip_norm=1.0, noise_multiplier=0.0)
    assert plan.run_event(20) == NonPrivate() * 20


@pytest.mark.parametrize(
    "plan",
    [
        POISSON,
        Protection(FixedCohort(5, 100), clip_norm=1.0, noise_multiplier=1.0),
        Protection(AllocatedCohort(20), clip_norm=1.0, noise_multiplier=1.0),
        Protection(
            FixedCohort(5, 100),
            clip_norm=1.0,
            noise_multiplier=1.0,
            placement=Placement.DISTRIBUTED,
            survivors=4,
        ),
    ],
    ids=["poisson", "fixed", "allocated", "distributed"],
)
def test_a_calibrated_run_keeps_to_its_budget_and_uses_it(plan: Protection) -> None:
    found = calibrated(plan, epsilon=2.0, delta=1e-5, rounds=20)
    spent = epsilon_interval(found.run_event(20), 1e-5)
    assert 1.9 < spent.upper <= 2.0


def test_stage_one_is_paid_from_the_same_budget() -> None:
    """N76: with stage one at multiplier 10, stage two needs 1.0030, not .9968."""
    beside = stage_one("released", noise_multiplier=10.0)
    plan = Protection(PoissonCohort(0.05), clip_norm=1.0, noise_multiplier=1.0)
    found = calibrated(plan, epsilon=2.0, delta=1e-5, rounds=20, beside=beside)
    assert found.noise_multiplier == pytest.approx(1.0030, abs=2e-3)
    with pytest.raises(CalibrationError, match="before the first round"):
        calibrated(plan, epsilon=2.0, delta=1e-5, rounds=20, beside=NonPrivate())


def test_the_rounds_that_a_budget_buys() -> None:
    plan = Protection(PoissonCohort(0.05), clip_norm=1.0, noise_multiplier=1.0)
    rounds = rounds_within(plan, epsilon=2.0, delta=1e-5)
    assert epsilon_interval(plan.run_event(rounds), 1e-5).upper <= 2.0
    assert epsilon_interval(plan.run_event(rounds + 1), 1e-5).upper > 2.0
    poor = Protection(PoissonCohort(0.5), clip_norm=1.0, noise_multiplier=0.3)
    with pytest.raises(CalibrationError, match="not even one round"):
        rounds_within(poor, epsilon=0.5, delta=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"placement": Placement.DISTRIBUTED}, "Poisson"),
        ({"cohort": AllocatedCohort(4), "view": View.SUM}, "random allocation"),
        ({"cohort": FixedCohort(5, 100), "examples_per_user": 3}, "user-level"),
        ({"view": View.MESSAGES, "adjacency": Adjacency.ADD_REMOVE}, "who takes part"),
    ],
)
def test_combinations_without_a_guarantee_are_refused(
    change: dict[str, object], said: str
) -> None:
    settings = {
        "cohort": PoissonCohort(0.05),
        "clip_norm": 1.0,
        "noise_multiplier": 1.0,
    }
    with pytest.raises(UnsoundThreatModelError, match=said):
        Protection(**(settings | change))


@pytest.mark.parametrize("relation", list(Adjacency))
def test_a_relation_given_by_its_name_is_the_relation(relation: Adjacency) -> None:
    """Guards compare members, and settings are texts."""
    plan = Protection(
        PoissonCohort(0.05),
        clip_norm=1.0,
        noise_multiplier=1.0,
        placement="central",  # type: ignore[arg-type]
        view="outsider",  # type: ignore[arg-type]
        adjacency=str(relation),  # type: ignore[arg-type]
    )
    assert plan.relation is relation
    assert plan.placement is Placement.CENTRAL
    assert plan.view is View.OUTSIDER


def test_an_unknown_relation_is_one_clear_line() -> None:
    with pytest.raises(InvalidArgumentError, match="adjacency must be one of add-"):
        Protection(
            PoissonCohort(0.05),
            clip_norm=1.0,
            noise_multiplier=1.0,
            adjacency="both",  # type: ignore[arg-type]
        )
