"""prv-accountant, asked directly: its interval and ours hold a common truth."""

import warnings

import pytest

from drdp.privacy.events import Gaussian, Laplace, PoissonSampled
from drdp.privacy.pld import delta_interval, epsilon_interval
from drdp.privacy.prv import prv_curve

pytest.importorskip("prv_accountant")

ERROR = 0.05
RUNS = [
    (((20, 0.05, 0.99675),), 1e-5),
    (((20, 0.05, 0.748028),), 1 / 149),
    (((1000, 0.01, 1.0),), 1e-5),
    (((1000, 0.01, 1.0),), 1e-9),
    (((100, 0.1, 0.7),), 1e-6),
    (((4, 1.0, 4.469237),), 1 / 285),
    (((100, 0.01, 1.0), (50, 0.05, 2.0)), 1e-6),
]


def theirs(parts, delta_error):
    from prv_accountant import PRVAccountant
    from prv_accountant.privacy_random_variables import (
        PoissonSubsampledGaussianMechanism,
    )

    counts = [steps for steps, _, _ in parts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about numpy and scipy
        return PRVAccountant(
            prvs=[
                PoissonSubsampledGaussianMechanism(
                    sampling_probability=rate, noise_multiplier=noise
                )
                for _, rate, noise in parts
            ],
            max_self_compositions=counts,
            eps_error=ERROR,
            delta_error=delta_error,
        ), counts


def ours(parts):
    total = Gaussian(1.0) * 0
    for steps, rate, noise in parts:
        total += PoissonSampled(rate, Gaussian(noise)) * steps
    return total


@pytest.mark.parametrize(("parts", "delta"), RUNS)
def test_epsilon(parts, delta):
    accountant, counts = theirs(parts, delta / 1000)
    low, middle, high = accountant.compute_epsilon(delta, counts)
    certain_low, certain_high, _ = epsilon_interval(ours(parts), delta)
    assert low <= certain_high
    assert certain_low <= high
    # Their estimate is far better than their bounds.
    assert middle == pytest.approx(certain_high, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize(("parts", "delta"), RUNS[:4])
def test_delta(parts, delta):
    accountant, counts = theirs(parts, delta / 1000)
    bounds = accountant.compute_delta(1.0, counts)
    certain_low, certain_high, _ = delta_interval(ours(parts), 1.0)
    assert min(bounds) <= certain_high
    assert certain_low <= max(bounds)


def test_the_wrapper_gives_their_answer():
    parts, delta = RUNS[0]
    accountant, counts = theirs(parts, delta / 1000)
    wanted = accountant.compute_epsilon(delta, counts)
    for bound, value in zip(("lower", "estimate", "upper"), wanted, strict=True):
        curve = prv_curve(ours(parts), bound=bound, eps_error=ERROR)
        assert curve.bound == bound
        assert curve.epsilon(delta) == pytest.approx(value, rel=1e-9)


def test_the_wrapper_brackets_laplace():
    run = Laplace(5.0) * 100
    certain_low, certain_high, _ = epsilon_interval(run, 1e-6)
    assert prv_curve(run, bound="lower").epsilon(1e-6) <= certain_high
    assert prv_curve(run, bound="upper").epsilon(1e-6) >= certain_low
