"""A million simulated runs of each further mechanism, drawn by numpy alone.

Losses come from the definition of each mechanism with scipy's densities; nothing
of the package is used but the interval that the estimate must fall into.
"""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import dlaplace, laplace, norm, skellam

from drdp.privacy.events import PoissonSampled
from drdp.privacy.example_level import example_level, example_level_fixed_size
from drdp.privacy.outside import DensityPair, DominatingPair
from drdp.privacy.pld import delta_interval
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.releases import DiscreteGaussian, RandomisedResponse, Skellam
from tests.oracles.test_monte_carlo import RUNS, SIGMAS, within_error


def estimate(losses: np.ndarray, epsilon: float) -> tuple[float, float]:
    gains = np.maximum(-np.expm1(epsilon - losses), 0.0)
    return gains.mean(), gains.std() / np.sqrt(gains.size)


def either(one: np.ndarray, other: np.ndarray, epsilon: float, interval) -> None:
    """The worse of two directions lies in the interval."""
    (mean, error), (second, _) = estimate(one, epsilon), estimate(other, epsilon)
    assert error < 0.2 * mean
    low, high, _ = interval
    assert second <= high + SIGMAS * error
    assert low - SIGMAS * error <= max(mean, second)
    assert mean <= high + SIGMAS * error


def table_losses(rng, p, q, steps: int) -> np.ndarray:
    """Summed losses of outcomes drawn from p."""
    with np.errstate(divide="ignore"):
        losses = np.log(p) - np.log(q)
    total = np.zeros(RUNS)
    for _ in range(steps):
        total += losses[rng.choice(p.size, RUNS, p=p)]
    return total


def discrete_gaussian(scale: float, shift: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(-400, 401)
    pair = [np.exp(-0.5 * ((x - m) / scale) ** 2) for m in (shift, 0)]
    kept = (pair[0] > 0.0) & (pair[1] > 0.0)
    p, q = (mass[kept] / mass.sum() for mass in pair)
    return p / p.sum(), q


@pytest.mark.parametrize(
    ("noise", "sensitivity", "steps", "epsilon"),
    [(2.0, 1, 10, 2.0), (0.7, 1, 2, 1.0), (1.5, 3, 5, 0.5)],
)
def test_discrete_gaussian_noise(noise, sensitivity, steps, epsilon):
    p, q = discrete_gaussian(noise * sensitivity, sensitivity)
    losses = table_losses(np.random.default_rng(11), p, q, steps)
    run = DiscreteGaussian(noise, sensitivity) * steps
    within_error(losses, epsilon, delta_interval(run, epsilon))


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 0.8), (0.6, 2.0)])
def test_sampled_discrete_gaussian_noise(rate, noise):
    rng = np.random.default_rng(12)
    p, q = discrete_gaussian(noise, 1)
    mixed = (1 - rate) * q + rate * p
    mixed /= mixed.sum()
    run = PoissonSampled(rate, DiscreteGaussian(noise)) * 5
    either(
        table_losses(rng, mixed, q, 5),
        table_losses(rng, q / q.sum(), mixed, 5),
        0.3,
        delta_interval(run, 0.3, tolerance=1e-4),
    )


def skellam_losses(variance: float, noise, shift):
    """Of outputs noise + shift with the unit, against without it."""
    logs = skellam.logpmf(np.arange(-100, 101), variance / 2, variance / 2)
    return logs[noise + 100] - logs[noise + shift + 100]


@pytest.mark.parametrize(
    ("variance", "sensitivity", "epsilon"), [(4.0, 1, 1.0), (30.0, 4, 0.7)]
)
def test_skellam_noise(variance, sensitivity, epsilon):
    rng = np.random.default_rng(13)
    rates = (variance / 2, variance / 2)
    noise = rng.poisson(rates[0], (3, RUNS)) - rng.poisson(rates[1], (3, RUNS))
    losses = skellam_losses(variance, noise, sensitivity)
    run = Skellam(variance, sensitivity) * 3
    interval = delta_interval(run, epsilon, tolerance=1e-4)
    within_error(losses.sum(axis=0), epsilon, interval)


def test_skellam_noise_in_a_vector_costs_less_than_its_renyi_bound():
    """One neighbour, of all those that the bound holds for."""
    rng = np.random.default_rng(14)
    shift = np.array([2, -1, 1, 0])[:, None]
    noise = rng.poisson(8.0, (4, RUNS)) - rng.poisson(8.0, (4, RUNS))
    losses = skellam_losses(16.0, noise, shift)
    mean, error = estimate(losses.sum(axis=0), 0.5)
    bound = rdp_curve(Skellam(16.0, np.sqrt(6.0), 4)).delta(0.5)
    assert 0.1 * bound < mean <= bound + SIGMAS * error


@pytest.mark.parametrize(("categories", "steps"), [(2, 10), (5, 8)])
def test_randomised_response(categories, steps):
    rng = np.random.default_rng(15)
    true = np.exp(0.5) / (np.exp(0.5) + categories - 1)
    p = np.full(categories, (1 - true) / (categories - 1))
    q = p.copy()
    p[0] = q[1] = true
    losses = table_losses(rng, p, q, steps)
    run = RandomisedResponse(0.5, categories) * steps
    within_error(losses, 1.2, delta_interval(run, 1.2))


def mixture_losses(rng, weights, noise: float, steps: int):
    """Summed losses with the unit and without it, each under its own law."""
    k = np.arange(len(weights))
    totals = []
    for moved in (True, False):
        total = np.zeros(RUNS)
        for _ in range(steps):
            x = rng.normal(scale=noise, size=RUNS)
            if moved:
                x += rng.choice(k, RUNS, p=weights)
            terms = (2.0 * np.outer(x, k) - k * k) / (2.0 * noise * noise)
            total += logsumexp(terms, axis=1, b=weights)
        totals.append(total if moved else -total)
    return totals


@pytest.mark.parametrize(("group", "rate", "noise"), [(4, 0.1, 1.0), (2, 0.5, 3.0)])
def test_example_level_sampling(group, rate, noise):
    """The number of a user's examples in a round is drawn, not its weights."""
    rng = np.random.default_rng(16)
    counts = np.bincount(rng.binomial(group, rate, 10**7), minlength=group + 1)
    run = example_level(group, rate, noise) * 3
    one, other = mixture_losses(rng, counts / counts.sum(), noise, 3)
    either(one, other, 0.8, delta_interval(run, 0.8, tolerance=1e-4))


def test_example_level_sampling_of_a_fixed_size():
    rng = np.random.default_rng(17)
    counts = np.bincount(rng.hypergeometric(5, 45, 10, 10**7), minlength=6)
    run = example_level_fixed_size(5, 10, 50, 2.0) * 2
    one, other = mixture_losses(rng, counts / counts.sum(), 2.0, 2)
    either(one, other, 0.8, delta_interval(run, 0.8, tolerance=1e-4))


def test_a_table_from_outside():
    """Discrete Laplace noise on a count that moves by 3."""
    x = np.arange(-300, 301)
    p, q = dlaplace.pmf(x - 3, 0.2), dlaplace.pmf(x, 0.2)
    p, q = p / p.sum(), q / q.sum()
    losses = table_losses(np.random.default_rng(18), p, q, 4)
    run = DominatingPair(p.tolist(), q.tolist()) * 4
    within_error(losses, 0.9, delta_interval(run, 0.9))


@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_densities_from_outside(name):
    law = {"normal": norm(scale=1.7), "laplace": laplace(scale=2.2)}[name]
    kinks = {"normal": (), "laplace": (0.0, 1.0)}[name]
    pair = DensityPair(lambda x: law.logpdf(x - 1), law.logpdf, (-80.0, *kinks, 80.0))
    rng = np.random.default_rng(19)
    x = law.rvs(size=(4, RUNS), random_state=rng) + 1
    losses = (law.logpdf(x - 1) - law.logpdf(x)).sum(axis=0)
    mean, error = estimate(losses, 0.7)
    _, high, _ = delta_interval(pair * 4, 0.7, tolerance=1e-4)
    assert mean - SIGMAS * error <= high <= mean * 1.02
