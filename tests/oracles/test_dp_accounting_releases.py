"""dp-accounting answers the same for the further mechanisms, where it is right.

Its self-composition of randomised response is not (version 0.6 forgets the count
in its event accountant); the distributions themselves are, and are composed
here by their own method.
"""

import math

import pytest

from drdp.privacy.events import PoissonSampled
from drdp.privacy.example_level import example_level
from drdp.privacy.outside import DominatingPair
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.releases import DiscreteGaussian, RandomisedResponse

pytest.importorskip("dp_accounting")

from dp_accounting.pld import privacy_loss_distribution as theirs

GRID = 1e-3


def agree(run, law, steps: int, delta: float, rel: float = 2e-3) -> None:
    """Theirs is a bound from above: no less than our lower end, and near."""
    low, high, _ = epsilon_interval(run * steps, delta, tolerance=1e-5)
    found = law.self_compose(steps).get_epsilon_for_delta(delta)
    assert low <= found * (1 + 1e-9)
    assert found == pytest.approx(high, rel=rel)


@pytest.mark.parametrize(("group", "rate", "noise"), [(4, 0.01, 1.0), (6, 0.2, 5.0)])
@pytest.mark.parametrize("steps", [1, 30])
def test_mixtures_of_gaussians(group, rate, noise, steps):
    weights = [
        math.comb(group, k) * rate**k * (1 - rate) ** (group - k)
        for k in range(group + 1)
    ]
    law = theirs.from_mixture_gaussian_mechanism(
        noise, list(range(group + 1)), weights, value_discretization_interval=GRID
    )
    agree(example_level(group, rate, noise), law, steps, 1e-6)


@pytest.mark.parametrize(("scale", "sensitivity"), [(2.0, 1), (7.5, 4), (0.6, 1)])
@pytest.mark.parametrize("steps", [1, 10])
def test_discrete_gaussians(scale, sensitivity, steps):
    law = theirs.from_discrete_gaussian_mechanism(
        scale, sensitivity, value_discretization_interval=GRID, use_connect_dots=True
    )
    agree(DiscreteGaussian(scale / sensitivity, sensitivity), law, steps, 1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_sampled_discrete_gaussians(rate):
    law = theirs.from_discrete_gaussian_mechanism(
        2.0,
        sampling_prob=rate,
        value_discretization_interval=1e-4,
        use_connect_dots=True,
    )
    agree(PoissonSampled(rate, DiscreteGaussian(2.0)), law, 20, 1e-5)


@pytest.mark.parametrize(("parameter", "sensitivity"), [(0.2, 3), (1.0, 1)])
def test_discrete_laplace_as_a_pair_from_outside(parameter, sensitivity):
    x = range(-4000, 4001)
    head = math.tanh(parameter / 2)
    p = [head * math.exp(-parameter * abs(k - sensitivity)) for k in x]
    q = [head * math.exp(-parameter * abs(k)) for k in x]
    law = theirs.from_discrete_laplace_mechanism(
        parameter, sensitivity, value_discretization_interval=GRID
    )
    agree(DominatingPair(p, q), law, 20, 1e-6)


@pytest.mark.parametrize("categories", [2, 7])
@pytest.mark.parametrize("steps", [1, 10])
def test_randomised_response(categories, steps):
    epsilon = 0.5
    other = categories / (math.exp(epsilon) + categories - 1)
    law = theirs.from_randomized_response(
        other, categories, value_discretization_interval=1e-5
    )
    agree(RandomisedResponse(epsilon, categories), law, steps, 1e-3)
