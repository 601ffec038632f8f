"""The Edgeworth accountant: its mathematics, its laws, and what it refuses."""

import itertools
import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gamma

from drdp.errors import (
    CalibrationError,
    EstimateRefusedError,
    InvalidArgumentError,
    UnsupportedEventError,
)
from drdp.privacy._special import gaussian_delta
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.cumulants import absolute_moments, loss_cumulants
from drdp.privacy.edgeworth import (
    Side,
    edgeworth_curve,
    edgeworth_estimate,
)
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.ew_tune import ew_tune_noise_multiplier
from drdp.privacy.losses import Direction
from drdp.privacy.pld import pld_curve

ORDERS = (1, 2, 3)
REPLACE = Adjacency.REPLACE_ONE


def poisson(q: float, z: float, n: int) -> Event:
    return PoissonSampled(q, Gaussian(z)) * n


# Cumulants ------------------------------------------------------------------


def by_mpmath(q: float, z: float, *, extra_unit: bool) -> list[float]:
    """Cumulants of log(1 - q + q e^(mu x - mu^2/2)), in 40 digits.

    By the trapezoidal rule, whose error on the line is e^(-2 pi^2 / (mu step)).
    """
    with mpmath.workdps(40):
        mu, q = 1 / mpmath.mpf(z), mpmath.mpf(q)
        places = [mpmath.mpf(k) / 16 for k in range(-16 * 16, 16 * 20)]
        losses = [mpmath.log1p(q * mpmath.expm1(mu * x - mu * mu / 2)) for x in places]
        masses = [mpmath.npdf(x) / 16 for x in places]
        if extra_unit:
            masses = [m * mpmath.exp(x) for m, x in zip(masses, losses, strict=True)]
        assert mpmath.fsum(masses) == pytest.approx(1.0, abs=1e-25)
        mean = mpmath.fdot(masses, losses)
        c2, c3, c4, c5 = (
            mpmath.fdot(masses, [(x - mean) ** k for x in losses]) for k in range(2, 6)
        )
        return [float(k) for k in (mean, c2, c3, c4 - 3 * c2**2, c5 - 10 * c3 * c2)]


@pytest.mark.parametrize(
    ("q", "z"), [(1e-7, 1.0), (0.01, 0.4), (0.3, 3.0), (0.999, 1.0)]
)
def test_cumulants_against_high_precision(q, z):
    found = loss_cumulants(PoissonSampled(q, Gaussian(z)), Direction.REMOVE)
    for one, extra_unit in zip(found, (False, True), strict=True):
        expected = by_mpmath(q, z, extra_unit=extra_unit)
        assert one[:3] == pytest.approx(expected[:3], rel=1e-11)
        # what cancels in the fourth and fifth is the square of the second
        slack = 1e-11 * expected[1] ** 2
        assert one[3:] == pytest.approx(expected[3:], rel=1e-11, abs=slack)


def test_cumulants_of_laplace():
    """Under Q the loss is m, with mass e^-m / 2, or -m, with mass 1/2, or between."""
    m = 1 / 1.7
    under_q, under_p = loss_cumulants(Laplace(1.7), Direction.REMOVE)
    mean = 1 - m - math.exp(-m)
    square = m * m / 2 * (1 + math.exp(-m)) + _between(m, 2)
    assert under_q.mean == pytest.approx(mean, rel=1e-12)
    assert under_q.variance == pytest.approx(square - mean**2, rel=1e-11)
    assert under_p.mean == pytest.approx(-mean, rel=1e-12)
    assert under_p.third == pytest.approx(-under_q.third, rel=1e-10)


def _between(m: float, power: int) -> float:
    def weighted(x):
        return x**power * mpmath.exp(-(x + m) / 2) / 4

    return float(mpmath.quad(weighted, [-m, 0, m]))


@pytest.mark.parametrize(
    "atom",
    [
        PoissonSampled(0.05, Gaussian(0.8)),
        PoissonSampled(0.05, Laplace(1.5)),
    ],
    ids=str,
)
def test_directions_mirror_each_other(atom):
    remove = loss_cumulants(atom, Direction.REMOVE)
    add = loss_cumulants(atom, Direction.ADD)
    signs = (-1, 1, -1, 1, -1)
    for one, other in ((remove[0], add[1]), (remove[1], add[0])):
        mirrored = [sign * value for sign, value in zip(signs, other, strict=True)]
        assert list(one) == pytest.approx(mirrored, rel=1e-9)


def test_absolute_moments_are_those_of_a_normal_law_without_sampling():
    for one in absolute_moments(Gaussian(0.7), Direction.REMOVE):
        assert one.first == pytest.approx(math.sqrt(2 / math.pi), rel=1e-12)
        assert one.third == pytest.approx(4 / math.sqrt(2 * math.pi), rel=1e-12)
        assert one.fourth == pytest.approx(3.0, rel=1e-12)
        assert one.skewness == pytest.approx(0.0, abs=1e-12)


# The expansion itself -------------------------------------------------------


def sum_of_exponentials(n: int, order: int) -> Side:
    """Cumulants of a standard exponential are (k - 1)!."""
    skews = (2 / n**0.5, 6 / n, 24 / n**1.5)
    return Side(n, n, math.sqrt(n), skews, order)


def worst_error(n: int, order: int) -> float:
    side = sum_of_exponentials(n, order)
    places = (n + u / 4 * math.sqrt(n) for u in range(-16, 25))
    return max(abs(side.survival(x) - gamma.sf(x, n)) for x in places)


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_errs_by_the_next_power_of_the_root(order):
    """Against the gamma law: n -> 4 n divides the error by 2^(order + 1)."""
    few, many = worst_error(100, order), worst_error(400, order)
    assert few / many == pytest.approx(2 ** (order + 1), rel=0.15)


def test_every_order_is_better_than_the_one_before():
    errors = [worst_error(100, order) for order in ORDERS]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 2.0, 30.0, 300.0])
def test_tilting_is_multiplying_by_the_exponential(order, epsilon):
    side = Side(-1.3, 2.9, math.sqrt(2.9), (0.2, 0.1, 0.05), order)
    expected = math.exp(epsilon) * side.survival(epsilon)
    assert side.tilted_survival(epsilon) == pytest.approx(expected, rel=1e-9)


# Laws -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("z", "n"), [(2.0, 4), (50.0, 1), (0.3, 7), (1e3, 3)])
@pytest.mark.parametrize("rate", ["unsampled", "all"])
def test_every_order_is_exact_for_gaussians(order, z, n, rate):
    one = Gaussian(z) if rate == "unsampled" else PoissonSampled(1.0, Gaussian(z))
    curve = edgeworth_curve(one * n, order=order)
    mu = math.sqrt(n) / z
    for share in (0.0, 0.5, 1.0, 3.0):
        epsilon = share * mu
        exact = gaussian_delta(epsilon, mu)
        assert curve.delta(epsilon) == pytest.approx(exact, rel=1e-8, abs=1e-16)
    assert curve.bound == "estimate"


def test_different_gaussians_add_exactly():
    curve = edgeworth_curve(Gaussian(2.0) * 3 + Gaussian(5.0))
    mu = math.sqrt(3 / 4 + 1 / 25)
    assert curve.delta(1.0) == pytest.approx(gaussian_delta(1.0, mu), rel=1e-9)


RELEASES = (
    Gaussian(3.0),
    Laplace(4.0),
    PoissonSampled(0.05, Gaussian(1.0)),
    PoissonSampled(0.2, Laplace(2.0)),
    ApproxDP(0.1),
)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(RELEASES), st.integers(1, 40)), min_size=1, max_size=5
    ),
    st.randoms(use_true_random=False),
    st.sampled_from(ORDERS),
)
def test_the_order_of_events_does_not_matter(parts, random, order):
    event = sum((one * n for one, n in parts), NOTHING)
    shuffled = list(parts)
    random.shuffle(shuffled)
    other = sum((one * n for one, n in shuffled), NOTHING)
    a, b = edgeworth_curve(event, order=order), edgeworth_curve(other, order=order)
    assert a.delta(0.1) == pytest.approx(b.delta(0.1), rel=1e-7, abs=1e-12)
    assert a.epsilon(1e-3) == pytest.approx(b.epsilon(1e-3), rel=1e-6, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(1e-4, 0.9),
    st.floats(0.3, 10.0),
    st.integers(1, 3000),
    st.sampled_from(ORDERS),
    st.sampled_from([0.1, 1e-3, 1e-6]),
)
def test_the_curve_is_the_least_majorant(q, z, n, order, delta):
    """It never rises, and reaches delta at the largest root."""
    event = poisson(q, z, n)
    curve = edgeworth_curve(event, order=order)
    found = edgeworth_estimate(event, delta, order=order)
    assert curve.epsilon(delta) == found.epsilon
    values = [curve.delta(k * (found.epsilon + 0.1) / 20) for k in range(60)]
    assert all(b <= a + 1e-13 for a, b in itertools.pairwise(values))
    assert curve.delta(found.epsilon * (1 + 1e-9) + 1e-9) <= delta * (1 + 1e-6)
    if found.epsilon > 1e-6:
        assert curve.delta(found.epsilon * (1 - 1e-9)) >= delta * (1 - 1e-6)
    assert list(found.roots) == sorted(found.roots)
    assert found.multiple_roots == (len(found.roots) > 1)


def test_the_worse_direction_is_the_worse_of_both():
    run = poisson(0.05, 1.0, 100)
    one, two, both = (
        edgeworth_curve(run, direction=way) for way in ("remove", "add", "worse")
    )
    for epsilon in (0.0, 0.5, 2.0, 4.0):
        assert both.delta(epsilon) == max(one.delta(epsilon), two.delta(epsilon))


def test_replace_one_has_one_direction():
    run = PoissonSampled(0.05, Gaussian(2.0), REPLACE) * 500
    one, two = (
        edgeworth_curve(run, direction=way).epsilon(1e-3) for way in ("remove", "add")
    )
    assert one == pytest.approx(two, rel=1e-9)


# Against the certified accountant -------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_more_rounds_of_less_each_bring_it_to_the_truth(order):
    """At a constant mu of the CLT, the error falls as the rounds quadruple."""
    errors = []
    for n in (400, 1600, 6400):
        run = poisson(2.0 / math.sqrt(n), 3.0, n)
        truth = pld_curve(run, tolerance=1e-10).delta(0.5)
        errors.append(abs(edgeworth_curve(run, order=order).delta(0.5) / truth - 1))
    fall = (3.0, 8.0, 5.0)[order - 1]
    assert errors[0] > fall * errors[1] > fall**2 * errors[2]
    assert errors[2] < (1e-4, 1e-7, 5e-9)[order - 1]


def test_a_mixture_of_releases_is_near_the_truth():
    run = poisson(0.01, 2.0, 5000) + Laplace(30.0) * 100 + Gaussian(5.0) * 2
    truth = pld_curve(run).epsilon(1e-5)
    assert edgeworth_curve(run, order=3).epsilon(1e-5) == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize(
    ("run", "delta"),
    [
        (PoissonSampled(0.01, Gaussian(4.0), REPLACE) * 10_000, 1e-5),
        (PoissonSampled(0.02, Laplace(3.0)) * 5000, 1e-4),
        (ApproxDP(0.02) * 2000, 1e-3),
    ],
)
def test_other_laws_are_near_the_truth(run, delta):
    truth = pld_curve(run).epsilon(delta)
    assert edgeworth_curve(run, order=3).epsilon(delta) == pytest.approx(
        truth, rel=5e-3
    )


def test_at_few_rounds_it_promises_too_much():
    """What it is labelled an estimate for."""
    run = poisson(0.05, 0.748028, 20)
    truth = pld_curve(run, bound="lower").epsilon(1e-5)
    for order in ORDERS:
        assert edgeworth_curve(run, order=order).epsilon(1e-5) < 0.8 * truth


# What it refuses, and what it answers nevertheless --------------------------


@pytest.mark.parametrize("order", [0, 4, -1, 2.5, "1", None, True, math.nan])
def test_an_order_that_is_none(order):
    with pytest.raises(InvalidArgumentError, match="order"):
        edgeworth_curve(Gaussian(1.0), order=order)


@pytest.mark.parametrize("direction", ["both", "", None, 1])
def test_a_direction_that_is_none(direction):
    with pytest.raises(InvalidArgumentError, match="direction"):
        edgeworth_estimate(Gaussian(1.0), 1e-5, direction=direction)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, math.inf, None, "1e-5"])
def test_a_delta_that_is_none(delta):
    with pytest.raises(InvalidArgumentError, match="delta"):
        edgeworth_estimate(Gaussian(1.0), delta)
    with pytest.raises(InvalidArgumentError, match="delta"):
        edgeworth_curve(Gaussian(1.0)).epsilon(delta)


@pytest.mark.parametrize(
    "atom",
    [
        ApproxDP(1.0, 1e-9),
        FixedSizeSampled(5, 100, Gaussian(1.0)),
        PoissonSampled(0.1, ApproxDP(1.0)),
    ],
    ids=str,
)
def test_a_release_without_moments_is_refused_with_advice(atom):
    with pytest.raises(UnsupportedEventError, match=r"edgeworth_curve.*pld_curve"):
        edgeworth_curve(atom * 3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "event",
    [
        poisson(0.05, 0.3, 1),
        poisson(1e-12, 1.0, 1),
        poisson(1e-12, 0.05, 10**9),
        poisson(0.999999, 1e5, 1),
        poisson(0.5, 1e-3, 10),
        poisson(0.5, 0.013, 10**6),
        poisson(0.5, 1e-200, 10),
        poisson(0.5, 1e200, 10),
        Gaussian(1e-100) * 3,
        Gaussian(1e-200),
        Gaussian(1e200) * 10**9,
        Laplace(1e-4),
        Laplace(1e-3),
        Laplace(1e9) * 10**9,
        PoissonSampled(1e-9, Laplace(1e-9)),
        ApproxDP(500.0),
        ApproxDP(1e-300) * 10,
        poisson(0.05, 1.0, 10**15),
    ],
    ids=str,
)
def test_extremes_get_a_number(event, order):
    curve = edgeworth_curve(event, order=order)
    for delta in (1e-300, 1e-5, 0.9):
        assert 0.0 <= curve.epsilon(delta) <= math.inf
        roots = edgeworth_estimate(event, delta, order=order).roots
        assert not any(math.isnan(root) for root in roots)
    for epsilon in (0.0, 1.0, 1e3, 1e300):
        assert 0.0 <= curve.delta(epsilon) <= 1.0


def test_hardly_any_noise_costs_everything_and_hardly_any_loss_nothing():
    assert edgeworth_curve(poisson(0.5, 1e-3, 1)).epsilon(0.5) == math.inf
    assert edgeworth_estimate(NonPrivate(), 0.5).epsilon == math.inf
    assert edgeworth_estimate(NOTHING, 0.5) == (0.0, ())
    assert edgeworth_curve(Gaussian(1e200)).delta(0.0) == 0.0


# Calibration ----------------------------------------------------------------


def test_calibration_refuses_the_estimate():
    def run(sigma: float) -> Event:
        return poisson(0.01, sigma, 1000)

    with pytest.raises(EstimateRefusedError):
        calibrate(run, edgeworth_curve, within(2.0, 1e-5))
    sigma = calibrate(run, edgeworth_curve, within(2.0, 1e-5), allow_estimate=True)
    assert edgeworth_curve(run(sigma)).epsilon(1e-5) == pytest.approx(2.0, rel=1e-5)


def test_ew_tune_says_where_its_search_ends():
    with pytest.raises(CalibrationError, match="up to 2"):
        ew_tune_noise_multiplier(0.1, 1e-6, 0.1, 10_000)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"rate": 0.0}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
    ],
)
def test_ew_tune_checks_its_arguments(change, name):
    good = {"epsilon": 8.0, "delta": 1e-6, "rate": 0.01, "steps": 100}
    with pytest.raises(InvalidArgumentError, match=name):
        ew_tune_noise_multiplier(**(good | change))


def test_ew_tune_takes_the_smallest_noise_of_its_grid():
    found = ew_tune_noise_multiplier(3.0, 1e-5, 0.02, 500)

    def estimate(sigma: float) -> float:
        run = poisson(0.02, sigma, 500)
        return edgeworth_estimate(run, 1e-5, order=1, direction="remove").epsilon

    assert (found.noise_multiplier * 2000).is_integer()
    assert estimate(found.noise_multiplier) == found.estimate < 3.0
    assert estimate(found.noise_multiplier - 0.0005) >= 3.0
    truth = pld_curve(poisson(0.02, found.noise_multiplier, 500)).epsilon(1e-5)
    assert found.certified.lower <= truth + 1e-6
    assert truth <= found.certified.upper + 1e-6
