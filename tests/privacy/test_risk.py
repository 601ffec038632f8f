"""Figures of risk: on the side of their curve, and as targets of calibration."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from drdp.errors import CalibrationError, EstimateRefusedError, InvalidArgumentError
from drdp.privacy import risk
from drdp.privacy.attained import attained
from drdp.privacy.calibration import calibrate, calibrate_count
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import (
    ApproxDP,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.pld import pld_curve
from drdp.privacy.rdp import rdp_curve

RUN = PoissonSampled(0.05, Gaussian(0.748028)) * 20
MUS = st.floats(0.05, 5.0)
RATES = st.one_of(st.floats(1e-6, 0.999), st.floats(-9, -1).map(lambda x: 10.0**x))
FIGURES = {
    "advantage": risk.advantage,
    "tpr": lambda curve: risk.true_positive_rate(curve, 1e-3),
    "success": lambda curve: risk.bayes_success(curve, 0.2),
    "ppv": lambda curve: risk.positive_predictive_value(curve, 0.01, 0.1),
    "reconstruction": lambda curve: risk.reconstruction(curve, 1e-6),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_bound_is_that_of_the_curve(name):
    figure = FIGURES[name]
    found = {bound: figure(pld_curve(RUN, bound=bound)) for bound in ("lower", "upper")}
    assert found["lower"].bound == "lower"
    assert found["upper"].bound == "upper"
    assert found["lower"].value <= found["upper"].value
    if name in ("advantage", "success"):
        assert found["lower"].value == pytest.approx(found["upper"].value, rel=1e-5)
    elif name != "reconstruction":
        assert found["lower"].value >= 0.45 * found["upper"].value
    assert figure(rdp_curve(RUN)).value >= found["upper"].value
    assert figure(gdp_curve(RUN)).bound == "estimate"


@pytest.mark.parametrize(
    "event",
    [
        RUN,
        RUN + Gaussian(3.0),
        Gaussian(0.7) * 2,
        ApproxDP(0.5, 1e-3) * 2,
    ],
    ids=repr,
)
def test_what_is_reached_is_near_what_is_possible(event):
    curve = risk.remembered(pld_curve(event))
    reached = attained(event)
    for fpr in (1e-6, 1e-3, 0.05):
        upper = risk.true_positive_rate(curve, fpr).value
        assert fpr <= reached(fpr) <= upper
        assert reached(fpr) == pytest.approx(upper, rel=3e-3)
    # in the middle both orders together allow more than either reaches
    assert reached(0.4) <= risk.true_positive_rate(curve, 0.4).value


def test_an_order_that_is_not_known_still_bounds():
    event = PoissonSampled(0.3, Laplace(1.0)) * 2
    upper = risk.true_positive_rate(pld_curve(event), 0.01).value
    assert 0.4 * upper <= attained(event)(0.01) <= upper


def test_fixed_size_draws_are_reached_from_below():
    event = FixedSizeSampled(5, 100, Gaussian(1.0)) * 5
    upper = risk.true_positive_rate(pld_curve(event, tolerance=1e-4), 0.01).value
    assert 0.5 * upper <= attained(event)(0.01) <= upper


def test_an_error_is_bounded_on_the_other_side():
    for bound, other in (("lower", "upper"), ("upper", "lower")):
        found = risk.bayes_error(pld_curve(RUN, bound=bound), 0.3)
        assert found.bound == other
    assert risk.bayes_error(gdp_curve(RUN), 0.3).bound == "estimate"
    low = risk.bayes_error(pld_curve(RUN), 0.3).value
    high = risk.bayes_error(pld_curve(RUN, bound="lower"), 0.3).value
    assert low <= high


@given(MUS, RATES)
def test_reconstruction_of_a_gaussian(mu, prior):
    """Hayes, Mahloujifar and Balle: Phi(Phi^-1(prior) + mu)."""
    found = risk.reconstruction(gdp_curve(Gaussian(1 / mu)), prior)
    exact = norm.sf(norm.isf(prior) - mu)
    assert found.value >= exact * (1 - 1e-13)
    assert found.value == pytest.approx(exact, rel=1e-6)
    looser = risk.reconstruction_by_renyi(Gaussian(1 / mu), prior)
    assert looser.bound == "upper"
    assert looser.value >= exact * (1 - 1e-12)


@given(MUS, st.floats(0.001, 0.999))
def test_bayes_error_is_the_least_over_all_thresholds(mu, prior):
    cuts = np.linspace(-12, 12 + mu, 200_001)
    direct = ((1 - prior) * norm.sf(cuts) + prior * norm.cdf(cuts - mu)).min()
    error = risk.bayes_error(gdp_curve(Gaussian(1 / mu)), prior)
    assert error.bound == "lower"
    assert error.value <= direct + 1e-15
    assert error.value == pytest.approx(direct, rel=1e-6, abs=1e-9)
    success = risk.bayes_success(gdp_curve(Gaussian(1 / mu)), prior)
    assert success.value == pytest.approx(1 - direct, rel=1e-6)


def test_odds_that_are_certain_leave_no_error():
    for prior in (0.0, 1.0):
        assert risk.bayes_error(pld_curve(RUN), prior).value == 0.0
        # an upper delta that underflows is not 0
        found = risk.reconstruction(pld_curve(RUN), prior).value
        assert found == pytest.approx(prior, abs=1e-290)
        assert risk.reconstruction_by_renyi(RUN, prior).value == prior


@given(MUS, RATES, RATES)
def test_predictive_value_is_bayes_rule(mu, fpr, prior):
    curve = gdp_curve(Gaussian(1 / mu))
    tpr = norm.sf(norm.isf(fpr) - mu)
    found = risk.positive_predictive_value(curve, fpr, prior)
    exact = prior * tpr / (prior * tpr + (1 - prior) * fpr)
    assert found.value >= exact * (1 - 1e-12)
    assert found.value == pytest.approx(exact, rel=1e-6)


@settings(max_examples=15)
@given(st.floats(0.3, 5.0), st.floats(1.01, 3.0), RATES)
def test_more_noise_is_less_risk(noise, factor, rate):
    some, more = (
        risk.remembered(pld_curve(Gaussian(z) + Laplace(2.0)))
        for z in (noise, noise * factor)
    )
    for figure in (
        risk.advantage,
        lambda curve: risk.true_positive_rate(curve, rate),
        lambda curve: risk.bayes_success(curve, rate),
    ):
        assert figure(more).value <= figure(some).value * (1 + 1e-6)


def test_a_trade_off_agrees_with_its_true_positive_rates():
    curve = risk.remembered(pld_curve(RUN))
    fprs = [1e-6, 0.01, 0.5, 0.99]
    for point in risk.trade_off(curve, fprs):
        tpr = risk.true_positive_rate(curve, point.fpr).value
        assert point.fnr == pytest.approx(1 - tpr, rel=1e-5)


def test_nothing_is_protected():
    curve = pld_curve(NonPrivate())
    assert risk.advantage(curve).value == 1.0
    assert risk.true_positive_rate(curve, 0.0).value == 1.0
    assert risk.bayes_error(curve, 0.5).value == 0.0
    revealed = risk.reconstruction_by_renyi(ApproxDP(0.1, 1e-3), 0.1)
    assert revealed.value == 1.0  # every Renyi divergence is infinite


def test_a_remembered_curve_answers_the_same_and_asks_once():
    asked = []

    def profile(epsilon: float) -> float:
        asked.append(epsilon)
        return 0.25 * math.exp(-epsilon)

    curve = risk.remembered(PrivacyCurve(profile, "estimate", lambda _: 3.0))
    first = [risk.true_positive_rate(curve, 0.01) for _ in range(2)]
    assert first[0] == first[1]
    assert len(asked) == len(set(asked))
    assert (curve.bound, curve.epsilon(0.1)) == ("estimate", 3.0)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, "x", None])
@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("fpr", risk.true_positive_rate),
        ("fpr", lambda c, x: risk.trade_off(c, [x])),
        ("prior", risk.bayes_error),
        ("prior", risk.reconstruction),
        ("prior", lambda c, x: risk.positive_predictive_value(c, 0.1, x)),
        ("fpr", lambda c, x: risk.positive_predictive_value(c, x, 0.1)),
        ("most", lambda _, x: risk.advantage_below(x)),
        ("tpr", lambda _, x: risk.attack_below(x, 0.1)),
        ("fpr", lambda _, x: risk.attack_below(0.1, x)),
    ],
)
def test_a_bad_argument_is_named(name, ask, bad):
    with pytest.raises(InvalidArgumentError, match=name):
        ask(gdp_curve(Gaussian(1.0)), bad)


def test_an_attack_that_is_only_guessing_cannot_be_forbidden():
    with pytest.raises(InvalidArgumentError, match="guessing"):
        risk.attack_below(0.01, 0.01)
    with pytest.raises(InvalidArgumentError, match="orders"):
        risk.reconstruction_by_renyi(RUN, 0.1, orders=[])


# Targets ---------------------------------------------------------------------


class Counted:
    """An accountant that counts."""

    def __init__(self, accountant):
        self.accountant, self.asked = accountant, 0

    def __call__(self, event):
        self.asked += 1
        return self.accountant(event)


@given(st.floats(0.01, 0.9))
def test_noise_for_an_advantage(most):
    """2 Phi(mu / 2) - 1 inverted by scipy."""
    accountant = Counted(gdp_curve)
    found = calibrate(Gaussian, accountant, risk.advantage_below(most))
    exact = 1 / (2 * norm.isf((1 - most) / 2))
    assert found == pytest.approx(exact, rel=2e-6)
    assert risk.advantage(gdp_curve(Gaussian(found))).value <= most
    assert accountant.asked <= 20


@given(st.floats(0.01, 0.9), st.floats(0.001, 0.5))
def test_noise_for_an_attack(tpr, fpr):
    if tpr <= fpr * 1.01:
        return
    accountant = Counted(gdp_curve)
    target = risk.attack_below(tpr, fpr)
    found = calibrate(Gaussian, accountant, target)
    exact = 1 / (norm.isf(fpr) - norm.isf(tpr))
    assert found == pytest.approx(exact, rel=2e-6)
    assert target(gdp_curve(Gaussian(found)))
    assert accountant.asked <= 25


def test_a_run_is_calibrated_to_risk():
    def run(noise):
        return PoissonSampled(0.05, Gaussian(noise)) * 20

    for target in (
        risk.advantage_below(0.1557998),
        risk.attack_below(0.04199456, 0.01),
    ):
        found = calibrate(run, pld_curve, target)
        assert found == pytest.approx(0.748028, rel=2e-5)
        assert target(pld_curve(run(found)))
        assert not target(pld_curve(run(found * (1 - 2e-6))))


def test_rounds_for_an_advantage():
    def run(count):
        return Gaussian(10.0) * count

    target = risk.advantage_below(0.3829250)
    assert calibrate_count(run, gdp_curve, target) == 100


def test_an_estimate_is_refused_as_ever():
    with pytest.raises(EstimateRefusedError):
        calibrate(
            lambda z: PoissonSampled(0.05, Gaussian(z)) * 20,
            gdp_curve,
            risk.advantage_below(0.1),
        )
    with pytest.raises(CalibrationError):
        calibrate(
            lambda z: NonPrivate() + Gaussian(z), pld_curve, risk.advantage_below(0.1)
        )


@given(st.floats(1e-9, 1 - 1e-9), st.floats(1e-9, 1 - 1e-9))
def test_the_grade_agrees_with_the_answer(value, most):
    curve = PrivacyCurve(lambda _: value, "upper")
    target = risk.advantage_below(most)
    assert target(curve) == (target.excess(curve) <= 0.0)
