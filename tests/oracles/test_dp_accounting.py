"""dp-accounting answers the same, where it is right.

Known not to be (version 0.6): a replaced Gaussian under its RDP accountant,
self-compositions of the exponential mechanism and of randomised response, PLD
grids finer than 1e-6, and PLD at delta 1e-15.  None of these is asked here.
"""

import pytest

from drdp.privacy.events import (
    Adjacency,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    PoissonSampled,
)
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.rdp import rdp, rdp_curve

dp_accounting = pytest.importorskip("dp_accounting")

from dp_accounting.pld import privacy_loss_distribution as theirs  # noqa: E402
from dp_accounting.rdp import RdpAccountant  # noqa: E402

GRID = 1e-4
POISSON = [
    (0.05, 0.99675, 20, 1e-5),
    (0.05, 0.748028, 20, 1 / 149),
    (0.01, 2.12738, 1000, 1e-5),
    (0.2, 0.6, 50, 1e-8),
    (0.5, 5.0, 300, 1e-6),
    (0.001, 0.5, 300, 1e-5),
]


def their_epsilon(law, steps: int, delta: float) -> float:
    return law.self_compose(steps).get_epsilon_for_delta(delta)


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), POISSON)
def test_sampled_gaussians(rate, noise, steps, delta):
    """Their answers from above and below enclose the truth as ours do."""
    run = PoissonSampled(rate, Gaussian(noise)) * steps
    low, high, _ = epsilon_interval(run, delta)
    options = {"sampling_prob": rate, "value_discretization_interval": GRID}
    above = theirs.from_gaussian_mechanism(noise, **options)
    below = theirs.from_gaussian_mechanism(noise, pessimistic_estimate=False, **options)
    assert low <= their_epsilon(above, steps, delta) * (1 + 1e-9)
    assert their_epsilon(below, steps, delta) <= high * (1 + 1e-9)
    near = max(1e-6, steps * GRID**2)
    assert their_epsilon(above, steps, delta) == pytest.approx(high, rel=2e-3, abs=near)


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta"), [(0.05, 1.0, 20, 1e-5), (0.3, 3.0, 100, 1e-7)]
)
def test_sampled_gaussians_under_replace_one(rate, noise, steps, delta):
    run = PoissonSampled(rate, Gaussian(noise), Adjacency.REPLACE_ONE) * steps
    low, high, _ = epsilon_interval(run, delta)
    law = theirs.from_gaussian_mechanism(
        noise,
        sampling_prob=rate,
        value_discretization_interval=GRID,
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE,
    )
    found = their_epsilon(law, steps, delta)
    assert low <= found * (1 + 1e-9)
    assert found == pytest.approx(high, rel=1e-3)


@pytest.mark.parametrize(
    ("scale", "steps", "delta"), [(5.0, 100, 1e-6), (1.0, 3, 1e-4)]
)
def test_laplace(scale, steps, delta):
    low, high, _ = epsilon_interval(Laplace(scale) * steps, delta)
    law = theirs.from_laplace_mechanism(scale, value_discretization_interval=GRID)
    found = their_epsilon(law, steps, delta)
    assert low <= found * (1 + 1e-9)
    assert found == pytest.approx(high, rel=1e-3)


def test_a_mixed_run():
    run = (
        PoissonSampled(0.01, Gaussian(1.0)) * 500
        + PoissonSampled(0.05, Gaussian(2.0)) * 200
        + Laplace(10.0) * 5
    )
    low, high, _ = epsilon_interval(run, 1e-6)
    law = theirs.from_gaussian_mechanism(1.0, sampling_prob=0.01).self_compose(500)
    law = law.compose(
        theirs.from_gaussian_mechanism(2.0, sampling_prob=0.05).self_compose(200)
    )
    law = law.compose(theirs.from_laplace_mechanism(10.0).self_compose(5))
    found = law.get_epsilon_for_delta(1e-6)
    assert low <= found
    assert found == pytest.approx(high, rel=1e-3)


WHOLE = (2, 3, 4, 8, 16, 64)


def their_divergences(event, orders, relation) -> list[float]:
    accountant = RdpAccountant(orders, relation)
    accountant.compose(event)
    return list(accountant._rdp)


@pytest.mark.parametrize(
    ("rate", "noise"), [(0.01, 1.0), (0.2, 0.7), (0.001, 3.0), (0.5, 20.0)]
)
def test_renyi_divergence_of_sampled_gaussians(rate, noise):
    event = dp_accounting.PoissonSampledDpEvent(
        rate, dp_accounting.GaussianDpEvent(noise)
    )
    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    ours = PoissonSampled(rate, Gaussian(noise))
    for order, found in zip(
        WHOLE, their_divergences(event, WHOLE, relation), strict=True
    ):
        assert rdp(ours, order) == pytest.approx(found, rel=1e-8)
    # Between whole orders theirs is a bound, at times an infinite one: it forgets
    # the sign of a binomial.
    between = (1.5, 2.5, 7.3)
    for order, found in zip(
        between, their_divergences(event, between, relation), strict=True
    ):
        assert rdp(ours, order) <= found * (1 + 1e-9)


@pytest.mark.parametrize(
    ("size", "population", "noise"), [(1, 100, 1.0), (5, 100, 0.8), (300, 1000, 4.0)]
)
def test_renyi_bound_of_fixed_size_sampling(size, population, noise):
    event = dp_accounting.SampledWithoutReplacementDpEvent(
        population, size, dp_accounting.GaussianDpEvent(noise)
    )
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE
    ours = FixedSizeSampled(size, population, Gaussian(noise))
    orders = (2, 3, 5, 12)
    for order, found in zip(
        orders, their_divergences(event, orders, relation), strict=True
    ):
        assert rdp(ours, order) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), POISSON)
def test_the_best_real_order_is_no_worse_than_any_of_theirs(rate, noise, steps, delta):
    accountant = RdpAccountant()
    accountant.compose(
        dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)),
        steps,
    )
    ours = rdp_curve(PoissonSampled(rate, Gaussian(noise)) * steps).epsilon(delta)
    assert ours <= accountant.get_epsilon(delta) * (1 + 1e-9)
    assert ours >= accountant.get_epsilon(delta) * 0.9
