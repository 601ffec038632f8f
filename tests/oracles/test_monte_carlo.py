"""A million simulated runs: delta is the mean of (1 - e^(epsilon - L))_+ under P.

The privacy loss L of each run is summed from drawn noise, so this knows nothing
of transforms, grids or tails; it sees delta to about three digits.
"""

import numpy as np
import pytest

from drdp.privacy.events import Adjacency, Gaussian, Laplace, PoissonSampled
from drdp.privacy.pld import delta_interval

RUNS = 1_000_000
SIGMAS = 5.0


def within_error(losses: np.ndarray, epsilon: float, interval) -> None:
    gains = np.maximum(-np.expm1(epsilon - losses), 0.0)
    mean, error = gains.mean(), gains.std() / np.sqrt(gains.size)
    low, high, _ = interval
    assert error < 0.2 * mean
    assert low - SIGMAS * error <= mean <= high + SIGMAS * error


def sampled_loss(rng, rate: float, noise: float, steps: int) -> np.ndarray:
    """The summed loss of a sampled Gaussian when the unit is present."""
    total = np.zeros(RUNS)
    for _ in range(steps):
        present = rng.random(RUNS) < rate
        output = rng.normal(size=RUNS) + present / noise
        total += np.log1p(rate * np.expm1(output / noise - 0.5 / noise**2))
    return total


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "epsilon"),
    [
        (0.05, 0.748028, 20, 1.0),
        (0.05, 0.748028, 20, 0.0),
        (0.05, 0.4597, 20, 4.0),
        (0.3, 2.0, 10, 0.5),
        (0.9, 1.0, 3, 2.0),
    ],
)
def test_sampled_gaussians(rate, noise, steps, epsilon):
    losses = sampled_loss(np.random.default_rng(1), rate, noise, steps)
    run = PoissonSampled(rate, Gaussian(noise)) * steps
    within_error(losses, epsilon, delta_interval(run, epsilon))


def test_the_other_direction_costs_less():
    """The loss of adding: outputs without the unit, the ratio turned round."""
    rng = np.random.default_rng(2)
    rate, noise, steps, epsilon = 0.05, 0.748028, 20, 0.3
    total = np.zeros(RUNS)
    for _ in range(steps):
        output = rng.normal(size=RUNS)
        total -= np.log1p(rate * np.expm1(output / noise - 0.5 / noise**2))
    gains = np.maximum(-np.expm1(epsilon - total), 0.0)
    _, high, _ = delta_interval(PoissonSampled(rate, Gaussian(noise)) * steps, epsilon)
    assert gains.mean() < high


def test_sampled_gaussians_under_replace_one():
    rng = np.random.default_rng(3)
    rate, noise, steps, epsilon = 0.2, 1.5, 10, 0.5
    total = np.zeros(RUNS)
    for _ in range(steps):
        present = rng.random(RUNS) < rate
        output = rng.normal(size=RUNS) + present / noise
        for sign in (1, -1):
            ratio = np.expm1(sign * output / noise - 0.5 / noise**2)
            total += sign * np.log1p(rate * ratio)
    run = PoissonSampled(rate, Gaussian(noise), Adjacency.REPLACE_ONE) * steps
    within_error(total, epsilon, delta_interval(run, epsilon))


def test_laplace_noise():
    rng = np.random.default_rng(4)
    scale, steps, epsilon = 3.0, 10, 0.8
    output = rng.laplace(scale=scale, size=(steps, RUNS))
    losses = ((np.abs(output + 1) - np.abs(output)) / scale).sum(axis=0)
    within_error(losses, epsilon, delta_interval(Laplace(scale) * steps, epsilon))


def test_a_mixed_run():
    rng = np.random.default_rng(5)
    losses = sampled_loss(rng, 0.1, 1.0, 10)
    losses += (rng.normal(size=RUNS) + 1 / 3) / 3 - 1 / 18
    output = rng.laplace(scale=2.0, size=RUNS)
    losses += (np.abs(output + 1) - np.abs(output)) / 2.0
    run = PoissonSampled(0.1, Gaussian(1.0)) * 10 + Gaussian(3.0) + Laplace(2.0)
    within_error(losses, 1.0, delta_interval(run, 1.0))
