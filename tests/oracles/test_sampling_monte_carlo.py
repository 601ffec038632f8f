"""A million simulated runs of every way to draw, as the sampler really works.

delta is the mean of (1 - e^(epsilon - L))_+ under P.  Where the loss L of the
worst data sets is known, the mean must lie inside the certified interval; where
it is that of some data sets only, it must not lie above the upper end.
"""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from drdp.privacy.events import Event, Gaussian
from drdp.privacy.pld import delta_interval
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)

RUNS = 1_000_000
CHUNK = 1 << 16
SIGMAS = 5.0


def mean_gain(losses: np.ndarray, epsilon: float) -> tuple[float, float]:
    gains = np.maximum(-np.expm1(epsilon - losses), 0.0)
    mean, error = gains.mean(), gains.std() / np.sqrt(gains.size)
    assert error < 0.2 * mean, "the simulation sees nothing here"
    return mean, SIGMAS * error


def inside(losses: np.ndarray, epsilon: float, event: Event) -> None:
    """The losses of a pair that reaches the worst case."""
    mean, error = mean_gain(losses, epsilon)
    low, high, _ = delta_interval(event, epsilon)
    assert low - error <= mean <= high + error


def reached(losses: np.ndarray, epsilon: float, event: Event) -> None:
    """The losses of data sets that the guarantee covers."""
    mean, error = mean_gain(losses, epsilon)
    _, high, _ = delta_interval(event, epsilon)
    assert mean - error <= high


def allocation_loss(
    rng, rounds: int, noise: float, epochs: int, *, remove: bool
) -> np.ndarray:
    """Outputs of all rounds, unit by unit, and the exact ratio of the mixture."""
    total = np.zeros(RUNS)
    for _ in range(epochs):
        for start in range(0, RUNS, CHUNK):
            size = min(CHUNK, RUNS - start)
            output = rng.normal(scale=noise, size=(size, rounds))
            if remove:
                output[np.arange(size), rng.integers(rounds, size=size)] += 1.0
            ratio = (2.0 * output - 1.0) / (2.0 * noise**2)
            loss = logsumexp(ratio, axis=1) - np.log(rounds)
            total[start : start + size] += loss if remove else -loss
    return total


@pytest.mark.parametrize(
    ("rounds", "noise", "epochs", "epsilon"),
    [
        (20, 0.748028, 1, 1.0),
        (20, 1.0, 1, 0.3),
        (2, 1.5, 1, 0.4),
        (7, 1.0, 3, 1.0),
        pytest.param(50, 0.6, 2, 0.8, marks=pytest.mark.slow),
    ],
)
def test_random_allocation(rounds, noise, epochs, epsilon):
    event = RandomlyAllocated(rounds, Gaussian(noise)) * epochs
    rng = np.random.default_rng(1)
    inside(allocation_loss(rng, rounds, noise, epochs, remove=True), epsilon, event)
    other = allocation_loss(rng, rounds, noise, epochs, remove=False)
    reached(other, 0.5 * epsilon, event)


def test_several_participations_cost_no_more_than_blocks():
    """3 of 7: the ratio is an elementary symmetric polynomial over C(7, 3)."""
    rng = np.random.default_rng(2)
    rounds, k, noise = 7, 3, 1.5
    output = rng.normal(scale=noise, size=(RUNS, rounds))
    chosen = np.argsort(rng.random((RUNS, rounds)), axis=1)[:, :k]
    np.put_along_axis(
        output, chosen, np.take_along_axis(output, chosen, axis=1) + 1.0, axis=1
    )
    ratio = np.exp((2.0 * output - 1.0) / (2.0 * noise**2))
    symmetric = [np.ones(RUNS), *(np.zeros(RUNS) for _ in range(k))]
    for column in ratio.T:
        for degree in range(k, 0, -1):
            symmetric[degree] = symmetric[degree] + column * symmetric[degree - 1]
    inside(
        np.log(symmetric[k] / 35),
        1.0,
        RandomlyAllocated(rounds, Gaussian(noise), participations=k),
    )


@pytest.mark.parametrize(("max_batch", "epsilon"), [(12, 0.5), (4, 0.5), (2, 0.3)])
def test_truncated_poisson(max_batch, epsilon):
    """Twenty others who send the opposite, and a surplus that is dropped."""
    rng = np.random.default_rng(3)
    rate, population, noise, steps = 0.1, 21, 1.5, 5
    event = (
        TruncatedPoissonSampled(rate, population, max_batch, Gaussian(noise)) * steps
    )
    others = np.arange(population)
    chance = np.exp(
        [_log_binomial(population - 1, rate, count) for count in range(population)]
    )
    kept = np.minimum(others, max_batch)
    # given the others' number m: with the unit min(m + 1, B) are kept
    share = np.where(others < max_batch, 1.0, max_batch / (others + 1.0))
    total = np.zeros(RUNS)
    for _ in range(steps):
        joined = rng.binomial(population - 1, rate, size=RUNS)
        unit = rng.random(RUNS) < rate
        crowd = joined + unit
        stays = unit & (rng.random(RUNS) < np.minimum(1.0, max_batch / crowd.clip(1)))
        output = rng.normal(scale=noise, size=RUNS) + 2.0 * stays
        output -= np.minimum(crowd, max_batch)
        there, not_there = np.zeros(RUNS), np.zeros(RUNS)
        for m in range(population):
            without = norm.pdf(output, -kept[m], noise)
            not_there += chance[m] * without
            grown = min(m + 1, max_batch)
            alone = norm.pdf(output, 2.0 - grown, noise)
            dropped = norm.pdf(output, -min(m, max_batch), noise)
            there += chance[m] * (
                rate * (share[m] * alone + (1.0 - share[m]) * dropped)
                + (1.0 - rate) * without
            )
        total += np.log(there / not_there)
    reached(total, epsilon, event)


def _log_binomial(n: int, rate: float, k: int) -> float:
    from scipy.stats import binom

    return float(binom.logpmf(k, n, rate))


@pytest.mark.parametrize("remove", [True, False])
def test_fixed_size_under_zero_out(remove):
    """Others send the opposite: 2C away with the unit, 1C where it sends nothing."""
    rng = np.random.default_rng(4)
    size, population, noise, steps = 1, 10, 2.0, 10
    epsilon = 0.4 if remove else 0.05
    rate, first, second = size / population, 2.0, 1.0
    total = np.zeros(RUNS)
    for _ in range(steps):
        drawn = rng.random(RUNS) < rate
        output = rng.normal(scale=noise, size=RUNS)
        output += drawn * (first if remove else second)
        one = 1 - rate + rate * np.exp((2 * first * output - first**2) / 2 / noise**2)
        two = 1 - rate + rate * np.exp((2 * second * output - 1.0) / 2 / noise**2)
        total += np.log(one / two) * (1.0 if remove else -1.0)
    event = FixedSizeZeroOut(size, population, Gaussian(noise)) * steps
    mean, error = mean_gain(total, epsilon)
    low, high, _ = delta_interval(event, epsilon)
    assert mean - error <= high
    # the worse of the two directions is what the lower end is made of
    if remove:
        assert low == pytest.approx(mean, abs=error + 1e-3 * mean)
    else:
        assert mean - error <= low


@pytest.mark.parametrize("remove", [True, False])
def test_shuffled_batches(remove):
    """Four batches, all outputs seen, all other members sending the opposite."""
    rng = np.random.default_rng(5)
    rounds, noise, epochs, epsilon = 4, 2.0, 2, 0.3
    first, second = 2.0, 1.0
    total = np.zeros(RUNS)
    for _ in range(epochs):
        output = rng.normal(scale=noise, size=(RUNS, rounds))
        output[np.arange(RUNS), rng.integers(rounds, size=RUNS)] += (
            first if remove else second
        )
        one = logsumexp((2 * first * output - first**2) / 2 / noise**2, axis=1)
        two = logsumexp((2 * second * output - second**2) / 2 / noise**2, axis=1)
        total += (one - two) * (1.0 if remove else -1.0)
    event = Shuffled(rounds, Gaussian(noise)) * epochs
    mean, error = mean_gain(total, epsilon)
    low, high, _ = delta_interval(event, epsilon)
    assert mean - error <= high
    if remove:
        assert low <= mean + error


def test_a_schedule_under_replace_one():
    rng = np.random.default_rng(6)
    noise, times, epsilon = 4.0, 3, 1.0
    shift = 2.0 / noise
    output = rng.normal(size=(times, RUNS)) + shift
    losses = (shift * output - 0.5 * shift**2).sum(axis=0)
    inside(losses, epsilon, Scheduled(times, Gaussian(noise), "replace-one"))
