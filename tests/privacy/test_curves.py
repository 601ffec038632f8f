"""Privacy curves: what follows from delta(epsilon), and fails closed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from drdp.errors import InvalidArgumentError
from drdp.privacy.curves import Interval, PrivacyCurve, invert

BOUNDS = ("upper", "estimate", "lower")


def gaussian(mu: float, bound: str = "upper") -> PrivacyCurve:
    """mu-GDP in closed form, by scipy rather than by the package."""

    def profile(epsilon: float) -> float:
        lead = norm.cdf(mu / 2 - epsilon / mu)
        return lead - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))

    return PrivacyCurve(profile, bound)


def pure(epsilon: float) -> PrivacyCurve:
    """Randomised response: the curve of an epsilon-DP mechanism."""

    def profile(e: float) -> float:
        top = math.exp(epsilon) / (1 + math.exp(epsilon))
        return top - math.exp(e) * (1 - top)

    return PrivacyCurve(profile, "upper")


# delta ----------------------------------------------------------------------


@pytest.mark.parametrize("bound", BOUNDS)
def test_delta_stays_in_the_unit_interval(bound):
    assert PrivacyCurve(lambda _: -1e-18, bound).delta(1.0) == 0.0
    assert PrivacyCurve(lambda _: 1.0 + 1e-15, bound).delta(1.0) == 1.0


def test_delta_at_infinity_is_zero_unless_nothing_is_protected():
    assert gaussian(1.0).delta(math.inf) == 0.0


@pytest.mark.parametrize("bad", [-1.0, -1e-300, math.nan, "1", None, True])
def test_a_bad_epsilon_is_named(bad):
    with pytest.raises(InvalidArgumentError, match="epsilon"):
        gaussian(1.0).delta(bad)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf, "1", None])
def test_a_bad_delta_is_named(bad):
    with pytest.raises(InvalidArgumentError, match="delta"):
        gaussian(1.0).epsilon(bad)


def test_a_profile_that_fails_never_passes_as_private():
    """NaN compares false with everything: it must not come out as delta 0."""
    broken = PrivacyCurve(lambda _: math.nan, "upper")
    for answer in (lambda: broken.delta(1.0), lambda: broken.advantage):
        try:
            value = answer()
        except ArithmeticError:
            continue
        assert value == 1.0
    try:
        epsilon = broken.epsilon(1e-5)
    except ArithmeticError:
        return
    assert epsilon == math.inf


def test_an_inverse_that_fails_never_passes_as_private():
    broken = PrivacyCurve(lambda _: 1.0, "upper", lambda _: math.nan)
    try:
        epsilon = broken.epsilon(1e-5)
    except ArithmeticError:
        return
    assert epsilon == math.inf


# epsilon --------------------------------------------------------------------


@given(st.floats(0.01, 20.0), st.floats(-25.0, -0.5))
def test_epsilon_inverts_delta_from_the_safe_side(mu, log10_delta):
    delta = 10**log10_delta
    curve = gaussian(mu)
    epsilon = curve.epsilon(delta)
    assert curve.delta(epsilon) <= delta
    if epsilon > 0.0:
        assert curve.delta(epsilon * (1 - 1e-9)) >= delta * (1 - 1e-12)


@given(st.floats(0.05, 20.0), st.floats(-12.0, -0.5))
def test_a_lower_curve_is_inverted_from_below(mu, log10_delta):
    delta = 10**log10_delta
    below = gaussian(mu, "lower").epsilon(delta)
    above = gaussian(mu, "upper").epsilon(delta)
    assert below <= above <= below * (1 + 1e-9) + 1e-300


def test_an_epsilon_that_is_not_needed_is_zero():
    assert gaussian(0.001).epsilon(0.5) == 0.0


def test_an_epsilon_out_of_reach_is_infinite():
    assert PrivacyCurve(lambda _: 0.1, "upper").epsilon(0.01) == math.inf
    assert PrivacyCurve(lambda _: 0.1, "lower").epsilon(0.01) == math.inf


def test_a_direct_inverse_is_used_and_never_negative():
    curve = PrivacyCurve(lambda _: 0.5, "estimate", lambda delta: -delta)
    assert curve.epsilon(0.1) == 0.0
    curve = PrivacyCurve(lambda _: 0.5, "estimate", lambda delta: 10 * delta)
    assert curve.epsilon(0.25) == 2.5


def test_inversion_ends_on_a_curve_that_jumps_at_zero():
    assert invert(lambda e: 0.5 if e == 0 else 0.0, 0.1, upper=True) < 1e-300


def test_inversion_finds_tiny_and_huge_crossings():
    for where in (1e-30, 1e-9, 1.0, 1e3, 1e7):
        found = invert(lambda e, at=where: 0.5 if e < at else 0.0, 0.1, upper=True)
        assert where <= found <= where * (1 + 1e-11)


# The trade-off function -----------------------------------------------------


@pytest.mark.parametrize("mu", [0.05, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(
    "alpha", [1e-6, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999]
)
def test_beta_of_a_gaussian_is_the_closed_form(mu, alpha):
    """Phi(Phi^-1(1 - alpha) - mu): Dong, Roth and Su, Section 2."""
    truth = norm.cdf(norm.isf(alpha) - mu)
    beta = gaussian(mu).beta(alpha)
    assert beta <= truth * (1 + 1e-12) + 1e-12
    assert beta == pytest.approx(truth, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.2, 0.5, 0.9, 1.0])
def test_beta_of_pure_dp_is_two_lines(alpha):
    epsilon = 1.5
    truth = max(
        0.0,
        1 - math.exp(epsilon) * alpha,
        math.exp(-epsilon) * (1 - alpha),
    )
    assert pure(epsilon).beta(alpha) == pytest.approx(truth, rel=1e-6, abs=1e-9)


@given(st.floats(0.0, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_beta_lies_under_the_diagonal_and_falls(mu, a, b):
    curve = gaussian(max(mu, 1e-3))
    low, high = sorted((a, b))
    assert 0.0 <= curve.beta(high) <= curve.beta(low) + 1e-6
    assert curve.beta(low) <= 1 - low + 1e-12


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, "x", None])
def test_a_bad_alpha_is_named(bad):
    with pytest.raises(InvalidArgumentError, match="alpha"):
        gaussian(1.0).beta(bad)


def test_a_release_in_the_clear_leaves_no_error():
    assert PrivacyCurve(lambda _: 1.0, "upper").beta(0.1) == 0.0


def test_a_curve_that_costs_nothing_leaves_guessing():
    curve = PrivacyCurve(lambda _: 0.0, "upper")
    assert curve.beta(0.3) == pytest.approx(0.7)
    assert curve.advantage == 0.0


def test_advantage_is_delta_at_zero():
    assert gaussian(1.0).advantage == pytest.approx(2 * norm.cdf(0.5) - 1, rel=1e-12)


# Values ---------------------------------------------------------------------


def test_a_curve_is_frozen():
    with pytest.raises((AttributeError, TypeError)):
        gaussian(1.0).bound = "lower"


def test_an_interval_reads_as_a_tuple():
    lower, upper, method = Interval(0.1, 0.2, "closed form")
    assert (lower, upper, method) == (0.1, 0.2, "closed form")
