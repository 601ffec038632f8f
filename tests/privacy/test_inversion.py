"""One unknown, the rest spent already: certified, tight, and named when wrong."""

import math

import pytest

import drdp.privacy.kernel as kernels
from drdp.errors import CalibrationError, InvalidArgumentError
from drdp.privacy.calibration import calibrate, calibrate_count, within
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.inversion import _largest, cohort_size_for, noise_multiplier_for
from drdp.privacy.pld import delta_interval, pld_curve

RTOL = 1e-6
SPENT = {
    "nothing": NOTHING,
    "some rounds": PoissonSampled(0.05, Gaussian(1.5)) * 10,
    "a first stage": Gaussian(12.0),
    "statistics": Laplace(9.0) * 2,
    "all of these": PoissonSampled(0.05, Gaussian(1.5)) * 5
    + Gaussian(12.0)
    + Laplace(20.0),
}


def run(rate, noise, steps):
    return PoissonSampled(rate, Gaussian(noise)) * steps


@pytest.mark.parametrize("beside", SPENT.values(), ids=SPENT)
@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "steps"),
    [(2.0, 1e-5, 0.05, 20), (2.0, 1e-5, 0.01, 10_000), (3.0, 1e-6, 1.0, 4)],
)
def test_the_noise_beside_is_certified_and_tight(epsilon, delta, rate, steps, beside):
    noise = noise_multiplier_for(epsilon, delta, rate, steps, beside=beside)

    def delta_at(value):
        event = run(rate, value, steps) + beside
        return delta_interval(event, epsilon, tolerance=1e-9)

    assert delta_at(noise).upper <= delta * (1 + 1e-9)
    assert delta_at(noise / (1 + RTOL)).lower > delta


@pytest.mark.parametrize(
    "beside",
    [
        FixedSizeSampled(5, 100, Gaussian(8.0)),
        PoissonSampled(0.1, Gaussian(9.0), Adjacency.ZERO_OUT),
    ],
    ids=["no kernel", "another relation"],
)
def test_what_the_kernels_cannot_hold_is_solved_or_refused_alike(beside):
    """As `calibrate` does with the accountant itself."""

    def event_of(noise):
        return run(0.05, noise, 3) + beside

    def outcome(call):
        try:
            return call()
        except (CalibrationError, InvalidArgumentError, TypeError) as error:
            return type(error)

    target = within(2.0, 1e-5)
    expected = outcome(lambda: calibrate(event_of, pld_curve, target, rtol=1e-4))
    found = outcome(
        lambda: noise_multiplier_for(2.0, 1e-5, 0.05, 3, beside=beside, rtol=1e-4)
    )
    if isinstance(expected, float):
        assert found == pytest.approx(expected, rel=3e-4)
    else:
        assert found == expected


def test_no_target_is_left_where_others_spent_it():
    with pytest.raises(CalibrationError, match="beside has delta"):
        noise_multiplier_for(1.0, 1e-5, 0.05, 20, beside=Gaussian(2.0))
    with pytest.raises(CalibrationError, match="beside has delta"):
        cohort_size_for(1.0, 1e-5, 1.0, 1000, 20, beside=NonPrivate())


def test_hardly_anything_left_is_still_met_from_the_private_side():
    """Where others cost nearly all, delta hardly depends on the noise."""
    alone = pld_curve(Gaussian(4.0)).delta(1.0)
    beside = Gaussian(4.0)
    noise = noise_multiplier_for(1.0, alone * 1.001, 0.01, 100, beside=beside)
    target = alone * 1.001
    event = run(0.01, noise, 100) + beside
    assert delta_interval(event, 1.0, tolerance=1e-10).upper <= target * (1 + 1e-9)
    less = run(0.01, noise / (1 + 1e-5), 100) + beside
    assert delta_interval(less, 1.0, tolerance=1e-10).lower > target


@pytest.mark.parametrize(
    ("name", "value"),
    [("epsilon", 0.0), ("delta", 1.0), ("rate", 0.0), ("steps", 0), ("rtol", -1.0)],
)
def test_a_bad_argument_is_named(name, value):
    options = {"epsilon": 1.0, "delta": 1e-5, "rate": 0.1, "steps": 5, name: value}
    with pytest.raises(InvalidArgumentError, match=name):
        noise_multiplier_for(**options)


# Cohort size ----------------------------------------------------------------


@pytest.mark.parametrize("beside", [NOTHING, Gaussian(12.0)], ids=["all", "left"])
@pytest.mark.parametrize(
    ("epsilon", "noise", "population", "steps"),
    [(2.0, 1.0, 1000, 20), (8.0, 0.65524, 60_000, 1_000), (2.0, 2.0, 7, 100)],
)
def test_one_client_more_would_be_too_many(epsilon, noise, population, steps, beside):
    cohort = cohort_size_for(epsilon, 1e-5, noise, population, steps, beside=beside)

    def delta_at(size):
        event = run(size / population, noise, steps) + beside
        return delta_interval(event, epsilon, tolerance=1e-9)

    assert cohort == 0 or delta_at(cohort).upper <= 1e-5 * (1 + 1e-9)
    assert cohort == population or delta_at(cohort + 1).lower > 1e-5


def test_the_cohort_is_what_counting_up_finds():
    def event_of(cohort):
        return run(cohort / 300, 1.1, 50)

    target = within(2.0, 1e-5)
    expected = calibrate_count(event_of, pld_curve, target, most=300)
    assert cohort_size_for(2.0, 1e-5, 1.1, 300, 50) == expected


def test_nobody_and_everybody():
    assert cohort_size_for(1.0, 1e-5, 0.3, 100, 1000) == 0
    assert cohort_size_for(1.0, 1e-5, 30.0, 1000, 10) == 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", -1.0),
        ("delta", 0.0),
        ("noise_multiplier", 0.0),
        ("population", 0),
        ("population", 2.5),
        ("steps", 0),
    ],
)
def test_a_bad_cohort_argument_is_named(name, value):
    options = {
        "epsilon": 1.0,
        "delta": 1e-5,
        "noise_multiplier": 1.0,
        "population": 10,
        "steps": 5,
        name: value,
    }
    with pytest.raises(InvalidArgumentError, match=name):
        cohort_size_for(**options)


@pytest.mark.parametrize("limit", [0, 1, 7, 999, 1000])
@pytest.mark.parametrize("guess", [0, 1, 500, 10**9])
@pytest.mark.parametrize(
    "excess_of",
    [
        math.log,
        lambda ratio: ratio - 1.0,
        lambda ratio: math.inf if ratio > 1.0 else -math.inf,
        lambda ratio: 1.0 if ratio > 1.0 else -1.0,
    ],
    ids=["log", "linear", "infinite", "a step"],
)
def test_the_largest_count_whatever_the_shape(limit, guess, excess_of):
    asked = []

    def excess(count):
        asked.append(count)
        return excess_of(count / (limit + 0.5))

    assert _largest(excess, 1000, guess) == min(limit, 1000)
    assert len(asked) < 45


def test_the_plain_gear_finds_the_same(monkeypatch):
    """One source: what is not compiled gives the same answer."""
    import importlib

    fast = noise_multiplier_for(2.0, 1e-5, 0.05, 20, beside=Gaussian(12.0))
    monkeypatch.setattr(
        "drdp.privacy.inversion.gear", lambda name, _: importlib.import_module(name)
    )
    assert not kernels.is_plain(kernels.compiled())
    slow = noise_multiplier_for(2.0, 1e-5, 0.05, 20, beside=Gaussian(12.0))
    assert slow == pytest.approx(fast, rel=1e-9)
