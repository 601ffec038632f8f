"""Calibration with the real accountants: certified private, and tight."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drdp.errors import CalibrationError, EstimateRefusedError
from drdp.privacy.calibration import calibrate, calibrate_count, within
from drdp.privacy.events import (
    Adjacency,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.rdp import rdp_curve

RTOL = 1e-5
RUNS = {
    "gaussian": lambda z: Gaussian(z) * 7,
    "laplace": lambda z: Laplace(z) * 3,
    "poisson": lambda z: PoissonSampled(0.05, Gaussian(z)) * 20,
    "long": lambda z: PoissonSampled(0.01, Gaussian(z)) * 10_000,
    "fixed": lambda z: FixedSizeSampled(5, 100, Gaussian(z)) * 20,
    "replace": lambda z: PoissonSampled(0.1, Gaussian(z), Adjacency.REPLACE_ONE) * 10,
    "beside": lambda z: PoissonSampled(0.05, Gaussian(z)) * 20 + Gaussian(10.0),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(("epsilon", "delta"), [(2.0, 1e-5), (0.7, 1 / 149)])
def test_the_noise_is_certified_and_tight(run, epsilon, delta):
    noise = calibrate(run, pld_curve, within(epsilon, delta), rtol=RTOL)
    assert pld_curve(run(noise)).delta(epsilon) <= delta
    assert epsilon_interval(run(noise), delta).upper <= epsilon * (1 + 1e-9)
    less = noise / (1 + 1.01 * RTOL)
    assert pld_curve(run(less)).delta(epsilon) > delta


@given(
    st.floats(-2.0, 1.5),
    st.floats(-12.0, -1.0),
    st.floats(-1.5, -0.05),
    st.integers(100, 10_000),
)
@settings(max_examples=10)
def test_any_target_is_met_from_the_private_side(log_eps, log_delta, log_rate, steps):
    epsilon, delta, rate = 10**log_eps, 10**log_delta, 10**log_rate

    def run(noise):
        return PoissonSampled(rate, Gaussian(noise)) * steps

    noise = calibrate(run, pld_curve, within(epsilon, delta), rtol=RTOL)
    assert delta_interval(run(noise), epsilon).upper <= delta
    less = noise / (1 + 1.01 * RTOL)
    assert delta_interval(run(less), epsilon).upper > delta


@pytest.mark.parametrize(
    "accountant",
    [rdp_curve, partial(rdp_curve, conversion="classic"), pld_curve],
    ids=["rdp", "rdp classic", "pld"],
)
def test_what_any_bound_calibrates_is_certified(accountant):
    noise = calibrate(RUNS["poisson"], accountant, within(2.0, 1e-5), rtol=RTOL)
    assert epsilon_interval(RUNS["poisson"](noise), 1e-5).upper <= 2.0 * (1 + 1e-9)


def test_the_clt_is_refused_and_why():
    """What it asks for costs 3.99 where 2 was wanted."""
    with pytest.raises(EstimateRefusedError, match="allow_estimate"):
        calibrate(RUNS["poisson"], gdp_curve, within(2.0, 1e-5))
    noise = calibrate(
        RUNS["poisson"], gdp_curve, within(2.0, 1e-5), allow_estimate=True
    )
    assert noise == pytest.approx(0.74599, abs=1e-5)
    assert epsilon_interval(RUNS["poisson"](noise), 1e-5).lower > 3.9


def test_a_lower_bound_is_refused():
    lower = partial(pld_curve, bound="lower")
    with pytest.raises(EstimateRefusedError):
        calibrate(RUNS["poisson"], lower, within(2.0, 1e-5), allow_estimate=True)


def test_the_clt_is_welcome_where_it_is_exact():
    noise = calibrate(RUNS["gaussian"], gdp_curve, within(2.0, 1e-5))
    assert noise == pytest.approx(
        calibrate(RUNS["gaussian"], pld_curve, within(2.0, 1e-5)), rel=1e-5
    )


def test_the_rate_that_a_budget_allows():
    def run(rate):
        return PoissonSampled(rate, Gaussian(1.0)) * 20

    rate = calibrate(
        run,
        pld_curve,
        within(2.0, 1e-5),
        guess=0.01,
        lowest=1e-9,
        highest=1.0,
        private_side="low",
        rtol=RTOL,
    )
    assert rate == pytest.approx(0.05, rel=0.02)
    assert pld_curve(run(rate)).delta(2.0) <= 1e-5
    assert pld_curve(run(rate * (1 + 1.01 * RTOL))).delta(2.0) > 1e-5


@pytest.mark.parametrize("noise", [0.8, 1.0, 3.0])
def test_the_steps_that_a_budget_buys(noise):
    def run(steps):
        return PoissonSampled(0.05, Gaussian(noise)) * steps

    target = within(2.0, 1e-5)
    steps = calibrate_count(run, pld_curve, target, most=100_000)
    assert target(pld_curve(run(steps)))
    assert not target(pld_curve(run(steps + 1)))
    assert calibrate_count(run, rdp_curve, target) <= steps


def test_a_budget_that_is_spent_already_buys_nothing():
    def run(steps):
        return Gaussian(0.5) + PoissonSampled(0.05, Gaussian(1.0)) * steps

    assert calibrate_count(run, pld_curve, within(1.0, 1e-5)) == 0
    with pytest.raises(CalibrationError):
        calibrate(lambda z: Gaussian(z) + NonPrivate(), pld_curve, within(1.0, 1e-5))


def test_a_smaller_budget_needs_more_noise():
    noises = [
        calibrate(RUNS["poisson"], pld_curve, within(epsilon, 1e-5), rtol=RTOL)
        for epsilon in (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.01)
    ]
    assert noises == sorted(noises)
    noises = [
        calibrate(RUNS["poisson"], pld_curve, within(2.0, delta), rtol=RTOL)
        for delta in (1e-2, 1e-5, 1e-9, 1e-12)
    ]
    assert noises == sorted(noises)
