"""Special functions against 40-digit arithmetic."""

import math

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.privacy._special import (
    gaussian_delta,
    gaussian_log_delta,
    log_diff_exp,
    log_normal_cdf,
    normal_cdf,
    solve_gaussian_epsilon,
    solve_gaussian_mu,
)


def exact_log_delta(epsilon: float, mu: float) -> mp.mpf:
    """log delta of mu-GDP with digits to spare for the cancellation."""
    with mp.workdps(60):
        e, m = mp.mpf(epsilon), mp.mpf(mu)
        digits = max(60, int(mp.log10(1 / m)) * 2 + 60)
    with mp.workdps(digits):
        first = mp.erfc((e / m - m / 2) / mp.sqrt(2)) / 2
        second = mp.exp(e) * mp.erfc((e / m + m / 2) / mp.sqrt(2)) / 2
        return mp.log(first - second)


@given(st.floats(-37.0, 37.0))
def test_the_normal_tail_keeps_its_relative_accuracy(x):
    with mp.workdps(400):
        truth = mp.erfc(-mp.mpf(x) / mp.sqrt(2)) / 2
        near = 2e-16 * (10 + x * x)  # what rounding x alone does
        assert normal_cdf(x) == pytest.approx(float(truth), rel=near)
        assert log_normal_cdf(x) == pytest.approx(
            float(mp.log(truth)), rel=near, abs=1e-300
        )


@pytest.mark.parametrize("x", [-1e3, -100.0, -25.0000001, -25.0, -24.9999999, 5.0, 9.0])
def test_the_log_of_the_normal_tail_far_out(x):
    with mp.workdps(60):
        truth = mp.log(mp.erfc(-mp.mpf(x) / mp.sqrt(2)) / 2)
    assert log_normal_cdf(x) == pytest.approx(float(truth), rel=1e-13)


@given(st.floats(-3.0, 2.5), st.floats(-12.0, 30.0))
def test_delta_of_a_gaussian_is_right_in_both_tails(log10_mu, z):
    """To 3e-12, where the certificate of the closed form allows 1e-11.

    z says how many standard deviations beyond the mean of the loss epsilon is.
    """
    mu = 10**log10_mu
    epsilon = mu * mu / 2 + z * mu
    if epsilon < 0:
        return
    truth = exact_log_delta(epsilon, mu)
    found = gaussian_log_delta(epsilon, mu)
    # Rounding epsilon / mu alone moves log delta by z ulp(z).
    allowed = 3e-12 + 4e-16 * max(z, 0.0) * (z + mu)
    assert abs(found - truth) <= allowed


@pytest.mark.parametrize("mu", [1e-12, 1e-9, 1e-6, 1e-4])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0, 5.0, 20.0])
def test_delta_of_a_very_noisy_gaussian(mu, ratio):
    found = gaussian_log_delta(ratio * mu, mu)
    assert abs(found - exact_log_delta(ratio * mu, mu)) <= 5e-13


@pytest.mark.parametrize("mu", [1e-300, 1e-200, 1e-20, 1e20, 1e150])
@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 1.0, 1e6])
def test_absurd_arguments_give_a_probability(mu, epsilon):
    assert 0.0 <= gaussian_delta(epsilon, mu) <= 1.0


@given(st.floats(0.01, 50.0), st.floats(-30.0, -0.3))
def test_epsilon_and_mu_are_solved_back(mu, log10_delta):
    delta = 10**log10_delta
    epsilon = solve_gaussian_epsilon(delta, mu)
    if epsilon > 0.0:
        assert gaussian_delta(epsilon, mu) == pytest.approx(delta, rel=1e-9)
        assert solve_gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-9)
    else:
        assert gaussian_delta(0.0, mu) <= delta * (1 + 1e-9)


@given(st.floats(-50.0, 50.0), st.floats(-50.0, 50.0))
def test_the_log_of_a_difference(a, b):
    high, low = max(a, b), min(a, b)
    if high == low:
        assert log_diff_exp(high, low) == -math.inf
        return
    with mp.workdps(400):
        truth = float(high + mp.log(-mp.expm1(mp.mpf(low) - mp.mpf(high))))
    assert log_diff_exp(high, low) == pytest.approx(truth, rel=1e-12, abs=1e-14)
