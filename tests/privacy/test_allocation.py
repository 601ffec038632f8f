"""Random allocation: its tables against quadrature, and its Renyi divergence."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from drdp.privacy.allocation import allocated, allocation_points
from drdp.privacy.allocation_renyi import (
    LARGEST_ORDER,
    _log_add,
    log_allocation_moment,
)
from drdp.privacy.curves import Interval
from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.grid import grid_interval
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.rdp import rdp, rdp_curve
from drdp.privacy.sampling import RandomlyAllocated, Scheduled

SETTINGS = [(2, 1.0), (3, 0.7), (20, 0.748028), (20, 5.0), (100, 0.3), (6, 0.06)]


def call(strike: float, mu: float) -> float:
    """E (X - strike)_+ of a lognormal of mean 1: the price of an option."""
    if strike <= 0.0:
        return 1.0 - strike
    d = (-math.log(strike) + 0.5 * mu * mu) / mu
    return float(norm.cdf(d) - strike * norm.cdf(d - mu))


def two_rounds(epsilon: float, mu: float, *, remove: bool) -> float:
    """E (S - e^eps)_+ or E (1 - e^eps S)_+ with S = (X_1 + X_2) / 2."""
    level = 2.0 * math.exp(epsilon if remove else -epsilon)

    def inner(g: float) -> float:
        strike = level - math.exp(mu * g - 0.5 * mu * mu)
        value = call(strike, mu)
        if not remove:  # the put, by parity
            value += strike - 1.0
        return value * math.exp(-0.5 * g * g) / math.sqrt(2.0 * math.pi)

    kink = (math.log(level) + 0.5 * mu * mu) / mu
    ends = sorted({-12.0, *(p for p in (0.0, kink) if abs(p) < 12.0), 12.0 + mu})
    total = sum(
        quad(inner, a, b, epsabs=1e-17, epsrel=1e-11, limit=200)[0]
        for a, b in itertools.pairwise(ends)
    )
    return 0.5 * total * (1.0 if remove else math.exp(epsilon))


def profile(points, epsilon: float) -> float:
    loss, log_mass, infinite = points
    beyond = loss > epsilon
    gain = -np.expm1(epsilon - loss[beyond])
    return infinite + float(np.exp(log_mass[beyond] + loss[beyond]) @ gain)


@pytest.mark.parametrize("mu", [0.2, 1.0, 2.5])
@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.5])
def test_two_rounds_by_quadrature(mu, remove, epsilon):
    truth = two_rounds(epsilon, mu, remove=remove)
    low, high = (
        profile(allocation_points(2, 1 / mu, remove=remove, lower=lower), epsilon)
        for lower in (True, False)
    )
    assert low * (1 - 1e-9) - 1e-16 <= truth <= high * (1 + 1e-9) + 1e-16
    assert high - low <= 2e-3 * high + 1e-7


@pytest.mark.parametrize(("rounds", "noise"), SETTINGS)
def test_masses_are_those_of_a_ratio_of_mean_one(rounds, noise):
    for lower in (True, False):
        ratio = allocated(rounds, noise, lower)
        assert ratio.mass.min() >= 0.0
        assert ratio.mass.sum() + ratio.zero == pytest.approx(1.0, abs=1e-11)
        mean = (ratio.moment.sum() + ratio.infinite) / rounds
        assert mean == pytest.approx(1.0, abs=1e-11)
        assert 0.0 < ratio.error < 1e-7


@pytest.mark.parametrize(("rounds", "noise"), SETTINGS)
@pytest.mark.parametrize("remove", [True, False])
def test_the_lower_table_lies_below_the_upper_one(rounds, noise, remove):
    low, high = (
        allocation_points(rounds, noise, remove=remove, lower=lower)
        for lower in (True, False)
    )
    for epsilon in (-1.0, 0.0, 0.3, 1.0, 4.0, 9.0):
        below, above = profile(low, epsilon), profile(high, epsilon)
        assert below <= above
        assert above <= 1.02 * below + 1e-9


def test_variance_is_that_of_a_mean():
    """E S^2 = 1 + (e^(mu^2) - 1) / t, a little less below and more above."""
    rounds, noise = 20, 1.0
    truth = math.expm1(1.0) / rounds
    low, high = (
        float(np.exp(log_mass + 2 * loss).sum()) - 1.0
        for loss, log_mass, _ in (
            allocation_points(rounds, noise, remove=True, lower=lower)
            for lower in (True, False)
        )
    )
    assert low <= truth <= high
    assert high - low < 1e-3 * truth


def test_a_finer_grid_is_nearer_from_both_sides(monkeypatch):
    """Both versions converge to one truth, from either side."""
    found = []
    for finest in (0.016, 0.008, 0.004):
        monkeypatch.setattr("drdp.privacy.allocation._FINEST", finest)
        allocated.cache_clear()
        found.append(
            [
                profile(allocation_points(20, 0.7, remove=True, lower=lower), 1.0)
                for lower in (True, False)
            ]
        )
    allocated.cache_clear()
    lows, highs = zip(*found, strict=True)
    assert max(lows) <= min(highs)
    gaps = [high - low for low, high in found]
    assert gaps[1] == pytest.approx(gaps[0] / 4, rel=0.5)  # second order
    assert gaps[2] == pytest.approx(gaps[1] / 4, rel=0.5)


def test_one_release_agrees_with_the_grid():
    event = RandomlyAllocated(20, Gaussian(1.0))
    table = epsilon_interval(event, 1e-4)
    grid = grid_interval(((event, 1),), "epsilon", 1e-4, 1e-4)
    assert isinstance(grid, Interval)
    assert "table" in table.method
    assert grid.lower <= table.upper
    assert table.lower <= grid.upper
    assert grid.upper - grid.lower < 1e-3


# What random allocation costs beside other draws -----------------------------


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("rounds", [2, 10, 100])
def test_between_no_amplification_and_the_sum_of_all_rounds(rounds, noise):
    run = RandomlyAllocated(rounds, Gaussian(noise))
    known = epsilon_interval(Scheduled(1, Gaussian(noise)), 1e-5)
    summed = epsilon_interval(Gaussian(noise * math.sqrt(rounds)), 1e-5)
    low, high, _ = epsilon_interval(run, 1e-5)
    assert summed.lower <= high
    assert low <= known.upper
    assert high <= known.upper * (1 + 1e-9)


def test_more_rounds_to_hide_in_cost_less():
    values = [
        pld_curve(RandomlyAllocated(t, Gaussian(1.0))).epsilon(1e-5)
        for t in (1, 2, 5, 20, 100, 1000)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(4.377178, abs=1e-6)


def test_less_than_poisson_here():
    """Feldman and Shenfeld compare them: for much the same, a little better."""
    noise, rounds = 0.748028, 20
    one = pld_curve(RandomlyAllocated(rounds, Gaussian(noise))).epsilon(1 / 149)
    two = pld_curve(PoissonSampled(1 / rounds, Gaussian(noise)) * rounds)
    assert one < two.epsilon(1 / 149)


def test_participations_cost_more_and_in_the_end_everything():
    values = [
        pld_curve(RandomlyAllocated(12, Gaussian(2.0), k)).epsilon(1e-5)
        for k in (0, 1, 2, 4, 12)
    ]
    assert values == sorted(values)
    assert values[0] == 0.0
    every = pld_curve(Gaussian(2.0) * 12).epsilon(1e-5)
    assert values[-1] == pytest.approx(every, rel=1e-12)


def test_absurd_noise_forgoes_the_draw():
    little = epsilon_interval(RandomlyAllocated(20, Gaussian(1e-3)), 1e-5)
    assert little.upper >= epsilon_interval(Gaussian(1e-3), 1e-5).lower
    assert 0.0 < little.lower <= little.upper
    much = delta_interval(RandomlyAllocated(20, Gaussian(1e7)) * 3, 0.1)
    assert 0.0 <= much.lower <= much.upper < 1e-9


# Renyi divergences ------------------------------------------------------------


def renyi_by_quadrature(order: float, mu: float, *, add: bool) -> float:
    """log E S^a (or E S^(1-a)) of two rounds: the trapezoidal rule, in logs."""
    g = np.arange(-45.0, 45.0, 0.08)
    loss = mu * g - 0.5 * mu * mu
    mean = np.logaddexp(loss[:, None], loss[None, :]) - math.log(2.0)
    power = 1.0 - order if add else order
    height = power * mean - 0.5 * (g[:, None] ** 2 + g[None, :] ** 2)
    return float(logsumexp(height)) + math.log(0.08**2 / (2.0 * math.pi))


@pytest.mark.parametrize("order", [2.0, 3.0, 7.0, 20.0])
@pytest.mark.parametrize("mu", [0.3, 1.0])
def test_remove_is_exact_at_whole_orders(order, mu):
    truth = renyi_by_quadrature(order, mu, add=False)
    assert log_allocation_moment(order, 2, 1 / mu) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("order", [1.25, 2.5, 11.3])
def test_remove_is_bounded_between_whole_orders(order):
    truth = renyi_by_quadrature(order, 0.8, add=False)
    assert truth <= log_allocation_moment(order, 2, 1.25) <= 2.0 * truth


@pytest.mark.parametrize("order", [1.3, 2.0, 4.5, 12.0, 40.0])
@pytest.mark.parametrize("mu", [0.3, 1.0])
def test_add_is_bounded_closely(order, mu):
    truth = renyi_by_quadrature(order, mu, add=True)
    bound = _log_add(order, 2, 1 / mu)
    assert truth * (1 - 1e-9) <= bound
    assert bound <= truth * (1.002 if order < 20 else 1.2)
    plain = 0.5 * (order - 1.0) * mu**2 * (1.0 + (order - 1.0) / 2)
    assert bound <= plain * (1 + 1e-12)


def test_one_round_is_a_gaussian():
    assert rdp(RandomlyAllocated(1, Gaussian(2.0)), 5) == pytest.approx(0.625)


def test_orders_beyond_the_last_are_not_claimed():
    assert log_allocation_moment(LARGEST_ORDER + 1, 20, 1.0) == math.inf
    assert log_allocation_moment(LARGEST_ORDER, 20, 1.0) < math.inf


def test_the_moment_rises_with_the_order_and_joins_up():
    """Two precisions of the series meet at order 64."""
    orders = np.concatenate((np.arange(1.1, 60, 7.3), [63.5, 64, 64.5, 65, 100]))
    values = [log_allocation_moment(float(order), 20, 1.0) for order in orders]
    assert values == sorted(values)
    near = log_allocation_moment(64.000001, 20, 1.0)
    assert near == pytest.approx(log_allocation_moment(64.0, 20, 1.0), rel=1e-6)


def test_renyi_is_a_bound_on_what_the_tables_say():
    for times, delta in ((1, 1 / 149), (5, 1e-5), (40, 1e-6)):
        run = RandomlyAllocated(20, Gaussian(1.5)) * times
        low, high, _ = epsilon_interval(run, delta)
        assert low <= high <= rdp_curve(run).epsilon(delta) * (1 + 1e-6)
