"""Calibration: the answer was tested, and the boundary is near."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.errors import (
    CalibrationError,
    DrdpError,
    EstimateRefusedError,
    InvalidArgumentError,
    UnsupportedEventError,
)
from drdp.privacy.calibration import Within, calibrate, calibrate_count, within
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import (
    ApproxDP,
    Event,
    Gaussian,
    NonPrivate,
    PoissonSampled,
    atoms,
)


def noise_of(event: Event) -> tuple[float, int]:
    ((atom, times),) = atoms(event).items()
    return atom.noise_multiplier, times


def pure_upper(event: Event) -> PrivacyCurve:
    """A made-up accountant: delta = e^(-epsilon noise / count)."""
    noise, times = noise_of(event)
    return PrivacyCurve(lambda e: math.exp(-e * noise / times), "upper")


def with_bound(bound: str):
    def accountant(event: Event) -> PrivacyCurve:
        return PrivacyCurve(pure_upper(event).profile, bound)

    return accountant


def broken(_: Event) -> PrivacyCurve:
    return PrivacyCurve(lambda _: math.nan, "upper")


# The target -----------------------------------------------------------------


def test_within_compares_delta():
    curve = PrivacyCurve(lambda e: math.exp(-e), "upper")
    assert within(1.0, math.exp(-1.0))(curve)
    assert not within(1.0, math.exp(-1.0) * (1 - 1e-12))(curve)
    assert within(1.0, 0.5).excess(curve) == pytest.approx(-1 - math.log(0.5))


def test_a_curve_without_cost_is_infinitely_within():
    assert within(0.0, 1e-300).excess(PrivacyCurve(lambda _: 0.0, "upper")) == -math.inf


@pytest.mark.parametrize(
    ("epsilon", "delta", "name"),
    [
        (-1, 1e-5, "epsilon"),
        (math.inf, 1e-5, "epsilon"),
        (math.nan, 1e-5, "epsilon"),
        ("1", 1e-5, "epsilon"),
        (1, 0, "delta"),
        (1, 1, "delta"),
        (1, -1e-5, "delta"),
        (1, math.nan, "delta"),
        (1, None, "delta"),
    ],
)
def test_a_bad_target_is_named(epsilon, delta, name):
    with pytest.raises(InvalidArgumentError, match=name):
        within(epsilon, delta)


# One real parameter ---------------------------------------------------------


@given(
    st.floats(1e-3, 1e3),
    st.floats(-30.0, -0.01),
    st.integers(1, 1000),
    st.floats(1e-4, 1e4),
    st.sampled_from([1e-2, 1e-4, 1e-6, 1e-9]),
)
def test_the_answer_is_private_and_tight(epsilon, log_delta, steps, guess, rtol):
    target = within(epsilon, math.exp(log_delta))
    seen = []

    def event_of(noise):
        seen.append(noise)
        return Gaussian(noise) * steps

    answer = calibrate(event_of, pure_upper, target, guess=guess, rtol=rtol)
    truth = -log_delta * steps / epsilon
    assert answer in seen
    assert target(pure_upper(Gaussian(answer) * steps))
    assert truth * (1 - 1e-12) <= answer <= truth * (1 + rtol) * (1 + 1e-9)
    assert len(seen) < 80


@given(st.floats(1e-6, 0.9), st.floats(1e-9, 1.0))
def test_a_parameter_may_be_private_on_its_low_side(boundary, guess):
    """A sampling rate: less is more private."""

    def accountant(event):
        (atom,) = atoms(event)
        rate = getattr(atom, "rate", 1.0)
        return PrivacyCurve(lambda _: 0.1 * rate / boundary, "upper")

    def event_of(rate):
        return PoissonSampled(rate, Gaussian(1.0))

    answer = calibrate(
        event_of,
        accountant,
        within(1.0, 0.1),
        guess=guess,
        lowest=1e-12,
        highest=1.0,
        private_side="low",
    )
    assert boundary * (1 - 1e-6) * (1 - 1e-9) <= answer <= boundary * (1 + 1e-12)


def test_a_target_may_be_any_yes_or_no_question():
    def advantage_below(limit):
        return lambda curve: curve.advantage <= limit

    def accountant(event):
        noise, _ = noise_of(event)
        return PrivacyCurve(lambda e: math.exp(-noise - e), "upper")

    answer = calibrate(Gaussian, accountant, advantage_below(0.01))
    assert math.log(100) <= answer <= math.log(100) * (1 + 2e-6)


def test_a_step_in_the_curve_is_found():
    def accountant(event):
        noise, _ = noise_of(event)
        return PrivacyCurve(lambda _: 0.0 if noise >= 3.0 else 1.0, "upper")

    answer = calibrate(Gaussian, accountant, within(1.0, 0.01))
    assert 3.0 <= answer <= 3.0 * (1 + 1e-6)


def test_the_ends_of_the_range_are_tried():
    target = within(1.0, math.exp(-5.0))
    assert calibrate(Gaussian, pure_upper, target, lowest=1.0, highest=5.0) == 5.0
    with pytest.raises(CalibrationError, match="no value"):
        calibrate(Gaussian, pure_upper, target, lowest=1.0, highest=4.999)
    with pytest.raises(CalibrationError, match="every value"):
        calibrate(Gaussian, pure_upper, target, lowest=5.001, highest=100.0)


def test_an_impossible_budget_is_an_error():
    def event_of(noise):
        return Gaussian(noise) + NonPrivate()

    def accountant(_):
        return PrivacyCurve(lambda _: 1.0, "upper")

    with pytest.raises(CalibrationError, match="no value"):
        calibrate(event_of, accountant, within(1.0, 1e-5))


def test_an_accountant_that_fails_is_not_private():
    """NaN must end in an error, never in a noise level."""
    with pytest.raises((DrdpError, ArithmeticError)):
        calibrate(Gaussian, broken, within(1.0, 1e-5), guess=1.0)
    try:
        count = calibrate_count(lambda n: Gaussian(1.0) * n, broken, within(1.0, 1e-5))
    except (DrdpError, ArithmeticError):
        return
    assert count == 0


def test_errors_of_the_accountant_pass_through():
    def accountant(event):
        raise UnsupportedEventError(f"no formula for {event!r}")

    with pytest.raises(UnsupportedEventError, match="no formula"):
        calibrate(ApproxDP, accountant, within(1.0, 1e-5))


@pytest.mark.parametrize("rtol", [1e-15, 1e-17, 1e-300])
def test_a_tolerance_beyond_double_precision_still_ends(rtol):
    target = within(1.0, math.exp(-30.0))
    answer = calibrate(Gaussian, pure_upper, target, rtol=rtol)
    assert answer == pytest.approx(30.0, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"guess": 0.0}, "guess"),
        ({"guess": math.nan}, "guess"),
        ({"lowest": 0.0}, "lowest"),
        ({"lowest": -1.0}, "lowest"),
        ({"highest": math.inf}, "highest"),
        ({"highest": math.nan}, "highest"),
        ({"rtol": 0.0}, "rtol"),
        ({"rtol": -1e-6}, "rtol"),
        ({"private_side": "middle"}, "private_side.*'middle'"),
        ({"lowest": 10.0, "highest": 1.0}, "lowest"),
    ],
)
def test_a_bad_option_is_named(options, name):
    with pytest.raises(InvalidArgumentError, match=name):
        calibrate(Gaussian, pure_upper, within(1.0, 1e-5), **options)


# A whole number -------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_the_largest_count_that_fits(limit, most):
    def accountant(event):
        _, times = noise_of(event)
        return PrivacyCurve(lambda _: 0.1 if times <= limit else 0.2, "upper")

    found = calibrate_count(
        lambda n: Gaussian(1.0) * n, accountant, within(1.0, 0.1), most=most
    )
    assert found == min(limit, most)


@pytest.mark.parametrize("most", [0, -1, 1.5, "9", None, True])
def test_a_bad_limit_is_named(most):
    with pytest.raises(InvalidArgumentError, match="most"):
        calibrate_count(
            lambda n: Gaussian(1.0) * n, pure_upper, within(1.0, 0.1), most=most
        )


# Estimates ------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["estimate", "lower"])
def test_what_is_no_guarantee_is_refused(bound):
    with pytest.raises(EstimateRefusedError, match=bound):
        calibrate(Gaussian, with_bound(bound), within(1.0, 0.1))
    with pytest.raises(EstimateRefusedError, match=bound):
        calibrate_count(
            lambda n: Gaussian(9.0) * n, with_bound(bound), within(1.0, 0.1)
        )


def test_an_estimate_is_used_where_it_is_asked_for():
    target = within(1.0, math.exp(-2.0))
    answer = calibrate(Gaussian, with_bound("estimate"), target, allow_estimate=True)
    assert answer == pytest.approx(2.0, rel=1e-6)
    count = calibrate_count(
        lambda n: Gaussian(9.0) * n,
        with_bound("estimate"),
        target,
        allow_estimate=True,
    )
    assert count == 4


def test_a_lower_curve_is_refused_even_then():
    """A lower bound is not an estimate of anything."""
    with pytest.raises(EstimateRefusedError):
        calibrate(Gaussian, with_bound("lower"), within(1.0, 0.1), allow_estimate=True)


def test_targets_compare_by_value():
    assert within(1, 1e-5) == Within(1.0, 1e-5)
