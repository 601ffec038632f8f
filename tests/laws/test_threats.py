"""What must hold for every threat model, whatever its numbers."""

import itertools
import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from drdp.privacy.blocks import Clipping
from drdp.privacy.calibration import within
from drdp.privacy.dr_encoder import as_printed, repaired
from drdp.privacy.events import Adjacency, Gaussian, PoissonSampled
from drdp.privacy.exposure import (
    effective_multiplier,
    exposure,
    noise_std,
    noise_std_for,
    share_leak,
)
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.stages import (
    Prior,
    calibrate_stages,
    noise_for_level,
    noise_for_share,
    prior_noise,
    stage_one,
)
from drdp.privacy.threat import (
    EveryClient,
    FixedCohort,
    Placement,
    PoissonCohort,
    ThreatModel,
    View,
)

RELATIONS = st.sampled_from([Adjacency.REPLACE_ONE, Adjacency.ZERO_OUT])
NOISE = st.floats(0.3, 8.0)
DELTAS = st.floats(-8.0, -2.0).map(lambda power: 10.0**power)
SLACK = 2e-4  # twice the tolerance that an exposure is computed with


@st.composite
def cohorts(draw):
    """(clients per round, population), from a few to everybody."""
    size = draw(st.integers(2, 20))
    return size, draw(st.integers(size, 40 * size))


@given(cohorts(), RELATIONS, NOISE, st.integers(1, 30), DELTAS, st.integers(1, 19))
@example((99, 100), Adjacency.ZERO_OUT, 1.0, 4, 1e-5, 3)
@settings(max_examples=25)
def test_a_stronger_adversary_never_gets_a_smaller_epsilon(
    cohort, adjacency, noise, rounds, delta, colluding
):
    size = cohort[0]
    colluding = min(colluding, size - 1)
    models = [
        ThreatModel(
            *(view, Placement.DISTRIBUTED, FixedCohort(*cohort), adjacency),
            colluding=count,
        )
        for view, count in (
            (View.OUTSIDER, 0),
            (View.COLLUDING, 1),
            (View.COLLUDING, colluding),
            (View.SUM, colluding),
            (View.MESSAGES, 0),
        )
    ]
    found = [exposure(model, noise, rounds, delta) for model in models]
    for weaker, stronger in itertools.pairwise(found):
        assert weaker.upper <= stronger.upper * (1 + SLACK) + SLACK
        assert weaker.lower <= stronger.upper * (1 + SLACK) + SLACK
    multipliers = [effective_multiplier(model, noise) for model in models]
    assert multipliers == sorted(multipliers, reverse=True)


@given(cohorts(), NOISE, st.integers(1, 30), DELTAS)
@settings(max_examples=15)
def test_central_noise_of_the_same_total_costs_an_outsider_the_same(
    cohort, noise, rounds, delta
):
    shared = ThreatModel(View.OUTSIDER, Placement.DISTRIBUTED, FixedCohort(*cohort))
    central = ThreatModel(View.OUTSIDER, Placement.CENTRAL, FixedCohort(*cohort))
    total = noise * math.sqrt(cohort[0])
    assert effective_multiplier(central, total) == pytest.approx(
        effective_multiplier(shared, noise), rel=1e-14
    )


@given(
    cohorts(),
    st.floats(0.3, 8.0),
    st.sampled_from([View.OUTSIDER, View.SUM, View.MESSAGES]),
    RELATIONS,
    st.integers(1, 20),
    st.integers(1, 300),
)
@settings(max_examples=25)
def test_a_repaired_configuration_never_costs_more_than_its_target(
    cohort, sigma, view, adjacency, rounds, blocks
):
    """The target is sigma unsampled; the printed noise costs at least as much."""
    settings_ = {"view": view, "adjacency": adjacency, "blocks": blocks}
    mended = repaired(sigma, *cohort, **settings_)
    printed = as_printed(sigma, *cohort, **settings_)
    assert mended.multiplier >= sigma
    assert mended.multiplier == pytest.approx(sigma, rel=1e-12)
    meant = epsilon_interval(Gaussian(sigma) * rounds, 1e-5)
    assert mended.exposure(rounds, 1e-5).upper <= meant.upper * (1 + SLACK) + SLACK
    if adjacency is Adjacency.REPLACE_ONE:
        assert printed.multiplier <= mended.multiplier * (1 + 1e-12)
        assert printed.noise_std <= mended.noise_std * (1 + 1e-12)


@given(
    cohorts(),
    st.floats(-1.0, 1.3).map(lambda power: 10.0**power),
    DELTAS,
    st.sampled_from(
        [
            (View.OUTSIDER, Placement.DISTRIBUTED),
            (View.SUM, Placement.DISTRIBUTED),
            (View.MESSAGES, Placement.LOCAL),
            (View.OUTSIDER, Placement.CENTRAL),
        ]
    ),
    RELATIONS,
    st.integers(1, 20),
)
@settings(max_examples=15)
def test_noise_for_a_budget_never_costs_more(
    cohort, epsilon, delta, seen, adjacency, rounds
):
    threat = ThreatModel(*seen, FixedCohort(*cohort), adjacency)
    assume(cohort[0] / cohort[1] * rounds > 3 * delta)  # else none is needed
    found = noise_std_for(threat, epsilon, delta, rounds, tolerance=1e-4, rtol=1e-4)
    assert exposure(threat, found, rounds, delta).upper <= epsilon * (1 + SLACK)


@given(
    st.sampled_from(
        [
            ThreatModel(View.OUTSIDER, Placement.CENTRAL, PoissonCohort(0.1)),
            ThreatModel(View.SUM, Placement.CENTRAL, PoissonCohort(0.1)),
            ThreatModel(View.OUTSIDER, Placement.DISTRIBUTED, EveryClient(4)),
            ThreatModel(View.SUM, Placement.DISTRIBUTED, FixedCohort(5, 100)),
        ]
    ),
    NOISE,
    st.floats(1.0, 3.0),
    st.integers(0, 40),
    DELTAS,
)
@settings(max_examples=25)
def test_more_noise_and_fewer_rounds_never_cost_more(
    threat, noise, factor, rounds, delta
):
    cost = exposure(threat, noise, rounds, delta).upper
    assert exposure(threat, noise * factor, rounds, delta).upper <= cost + SLACK
    assert exposure(threat, noise, rounds + 1, delta).upper >= cost - SLACK


@given(st.lists(st.floats(0.01, 50.0), min_size=1, max_size=6), NOISE)
def test_one_joint_clip_is_worth_the_root_of_all_blocks(norms, noise):
    def multiplier(clipping):
        threat = ThreatModel(
            View.OUTSIDER, Placement.CENTRAL, EveryClient(2), clipping=clipping
        )
        return effective_multiplier(threat, noise)

    apart = multiplier(Clipping(tuple(norms)))
    assert apart == pytest.approx(multiplier(Clipping((math.hypot(*norms),))))
    assert apart <= multiplier(Clipping((max(norms),))) * (1 + 1e-12)
    weighted = Clipping(tuple(norms)).weighted(3.0, public_denominator=True)
    assert multiplier(weighted) == pytest.approx(apart / 3.0)


@given(st.integers(1, 10**7), st.integers(1, 1000))
def test_a_missing_share_shows_more_the_more_coordinates(dimension, shares):
    leak = share_leak(dimension, shares)
    assert leak > 0.0
    assert share_leak(2 * dimension, shares) == pytest.approx(2 * leak)
    assert share_leak(dimension, shares + 1) < leak


# --- two stages ------------------------------------------------------------------

SECOND = st.sampled_from(
    [
        PoissonSampled(0.05, Gaussian(0.748028)) * 20,
        PoissonSampled(0.2, Gaussian(1.5), Adjacency.REPLACE_ONE) * 5,
        Gaussian(4.469237) * 4,
    ]
)


@given(SECOND, st.floats(0.5, 100.0), st.integers(1, 9), st.floats(0.0, 6.0))
@settings(max_examples=15)
def test_adding_a_stage_never_lowers_a_curve(second, noise, releases, epsilon):
    first = stage_one(Prior.RELEASED, noise_multiplier=noise, releases=releases)
    alone = delta_interval(second, epsilon, tolerance=1e-3)
    both = delta_interval(first + second, epsilon, tolerance=1e-3)
    assert both.upper >= alone.lower
    assert both.upper >= delta_interval(first, epsilon).lower
    assert both.upper >= alone.upper * (1 - 1e-2)


@given(SECOND)
@settings(max_examples=3)
def test_a_public_prior_costs_nothing_and_the_printed_one_everything(second):
    for prior in (Prior.PUBLIC, Prior.PROXY):
        assert epsilon_interval(stage_one(prior) + second, 1e-5) == epsilon_interval(
            second, 1e-5
        )
    printed = epsilon_interval(stage_one(Prior.AS_PRINTED) + second, 1e-5)
    assert printed.lower == printed.upper == math.inf


@given(
    st.floats(-0.7, 0.9).map(lambda power: 10.0**power),
    DELTAS,
    st.floats(0.05, 0.9),
)
@settings(max_examples=8)
def test_both_stages_keep_to_one_budget(epsilon, delta, share):
    def run(z):
        return PoissonSampled(0.05, Gaussian(z)) * 20

    target = within(epsilon, delta)
    first = stage_one(
        Prior.RELEASED, noise_multiplier=noise_for_share(share, epsilon, delta)
    )
    stages = calibrate_stages(first, run, target, rtol=1e-4)
    assert target(pld_curve(stages.total))
    assert stages.noise_multiplier >= stages.alone * (1 - 1e-4)
    assert not target(pld_curve(first + run(stages.noise_multiplier * (1 - 3e-4))))


@given(st.integers(1, 10_000), st.integers(1, 10**6), RELATIONS, st.floats(0.01, 0.5))
def test_the_level_of_noise_is_what_was_asked_for(dimension, clients, relation, level):
    noise = noise_for_level(
        level, dimension=dimension, clients=clients, adjacency=relation
    )
    found = prior_noise(
        noise * (1 - 1e-9), dimension=dimension, clients=clients, adjacency=relation
    )
    assert found == pytest.approx(level)


@given(st.floats(0.05, 0.95), st.floats(0.1, 8.0), DELTAS)
@settings(max_examples=20)
def test_shares_of_a_gaussian_budget_add_up(share, epsilon, delta):
    """mu^2 adds, so the two parts of a budget spend just the whole of it."""
    parts = [noise_for_share(part, epsilon, delta) for part in (share, 1.0 - share)]
    total = Gaussian(parts[0]) + Gaussian(parts[1])
    assert epsilon_interval(total, delta).upper == pytest.approx(epsilon, rel=1e-6)


@given(NOISE, st.integers(1, 20))
def test_a_wanted_multiplier_is_never_missed(wanted, clients):
    threat = ThreatModel(View.SUM, Placement.DISTRIBUTED, EveryClient(clients))
    assert effective_multiplier(threat, noise_std(threat, wanted)) >= wanted
