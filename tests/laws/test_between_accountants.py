"""How the accountants' answers must lie to one another and to closed forms."""

import itertools
import math

import pytest
from scipy.stats import norm

from drdp.privacy.curves import Interval
from drdp.privacy.events import (
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    PoissonSampled,
    Sampled,
    atoms,
)
from drdp.privacy.example_level import example_level
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.grid import grid_interval
from drdp.privacy.outside import DominatingPair
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.prv import prv_curve
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.releases import DiscreteGaussian, RandomisedResponse, Skellam
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)

RUNS: dict[str, Event] = {
    "gaussian": Gaussian(2.0) * 10,
    "laplace": Laplace(3.0) * 10,
    "few steps": PoissonSampled(0.05, Gaussian(0.748028)) * 20,
    "many steps": PoissonSampled(0.01, Gaussian(2.0)) * 2000,
    "little noise": PoissonSampled(0.2, Gaussian(0.3)) * 5,
    "much noise": PoissonSampled(0.5, Gaussian(50.0)) * 100,
    "fixed size": FixedSizeSampled(5, 100, Gaussian(0.748028)) * 20,
    "two stages": PoissonSampled(0.05, Gaussian(1.0)) * 20 + Gaussian(10.0),
    "discrete gaussian": DiscreteGaussian(3.0, 2) * 10,
    "sampled discrete gaussian": PoissonSampled(0.1, DiscreteGaussian(2.0)) * 5,
    "skellam": Skellam(20.0, 2) * 5,
    "randomised response": RandomisedResponse(0.3, 3) * 10,
    "example level": example_level(3, 0.05, 1.5) * 10,
    "outside pair": DominatingPair([0.6, 0.3, 0.1], [0.4, 0.4, 0.2]) * 6,
    "mixed": example_level(2, 0.05, 2.0) * 3 + RandomisedResponse(0.1) * 2,
    "fixed size, zero-out": FixedSizeZeroOut(5, 100, Gaussian(1.5)) * 20,
    "allocated": RandomlyAllocated(20, Gaussian(1.0)),
    "allocated often": RandomlyAllocated(20, Gaussian(2.0)) * 10,
    "truncated": TruncatedPoissonSampled(0.05, 200, 60, Gaussian(1.0)) * 20,
    "shuffled": Shuffled(20, Gaussian(2.0)) * 3,
    "scheduled": Scheduled(4, Gaussian(2.0)) + RandomlyAllocated(9, Gaussian(1.5)),
}


def closed_gaussian(epsilon: float, mu: float) -> float:
    lead = norm.cdf(mu / 2 - epsilon / mu)
    return lead - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))


@pytest.mark.parametrize("event", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9])
def test_lower_below_upper_below_renyi(event, delta):
    low, high, method = epsilon_interval(event, delta)
    assert 0.0 <= low <= high
    assert method
    assert pld_curve(event).epsilon(delta) == pytest.approx(high, rel=1e-4)
    below = pld_curve(event, bound="lower").epsilon(delta)
    draws = any(isinstance(atom, Sampled) for atom in atoms(event))
    assert below == pytest.approx(low, rel=2e-3 if draws else 1e-4)
    assert below <= high
    improved = rdp_curve(event).epsilon(delta)
    assert low <= improved
    assert improved <= rdp_curve(event, conversion="classic").epsilon(delta) + 1e-9
    if not isinstance(next(iter(atoms(event))), FixedSizeSampled | FixedSizeZeroOut):
        assert high <= improved * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("event", RUNS.values(), ids=RUNS)
def test_a_coarser_tolerance_still_contains_the_finer_answer(event):
    fine = epsilon_interval(event, 1e-5)
    coarse = epsilon_interval(event, 1e-5, tolerance=1e-2)
    assert coarse.lower <= fine.upper
    assert fine.lower <= coarse.upper
    # and is no tighter
    assert fine.upper <= coarse.upper * (1 + 1e-8)
    assert fine.lower >= coarse.lower * (1 - 1e-8)


def test_a_finer_tolerance_is_not_looser():
    """Many points add up more rounding: less than what they gain."""
    event = FixedSizeSampled(1, 20, Gaussian(1.02597)) * 20 + Gaussian(10.0)
    found = [epsilon_interval(event, 1e-5, tolerance=10.0**-k) for k in range(2, 7)]
    for coarse, fine in itertools.pairwise(found):
        assert fine.upper <= coarse.upper
        assert fine.lower >= coarse.lower
    assert found[-1].upper == pytest.approx(1.96813, abs=1e-4)


@pytest.mark.parametrize("event", RUNS.values(), ids=RUNS)
def test_the_optimal_conversion_is_no_worse(event):
    improved = rdp_curve(event).delta(1.0)
    optimal = rdp_curve(event, conversion="optimal").delta(1.0)
    low, _, _ = delta_interval(event, 1.0)
    assert low <= optimal * (1 + 1e-6)
    assert optimal <= improved * (1 + 1e-6)


GAUSSIANS = [(1.0, 1), (2.0, 4), (0.5, 2), (50.0, 1000), (10.0, 3)]


@pytest.mark.parametrize(("noise", "steps"), GAUSSIANS)
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 2.0])
def test_the_closed_form_of_a_gaussian_is_in_every_interval(noise, steps, epsilon):
    mu = math.sqrt(steps) / noise
    truth = closed_gaussian(epsilon, mu)
    if truth < 1e-13:
        return  # where the textbook formula itself cancels
    event = Gaussian(noise) * steps
    low, high, _ = delta_interval(event, epsilon)
    assert low <= truth * (1 + 1e-9)
    assert truth <= high * (1 + 1e-9)
    assert gdp_curve(event).delta(epsilon) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize(("noise", "steps"), GAUSSIANS)
@pytest.mark.parametrize("delta", [0.05, 1e-5, 1e-12])
def test_the_grid_contains_the_closed_form(noise, steps, delta):
    """The same question as above, put to the grid behind the closed form."""
    parts = tuple(atoms(Gaussian(noise) * steps).items())
    truth = gdp_curve(Gaussian(noise) * steps).epsilon(delta)
    low, high, _ = grid_interval(parts, "epsilon", delta, 1e-4)
    assert low <= truth * (1 + 1e-12)
    assert truth <= high * (1 + 1e-12)
    assert high - low <= 2e-3 * max(1.0, high)


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0, 1.1])
def test_the_closed_form_of_laplace_is_in_the_interval(scale, share):
    epsilon = share / scale
    truth = max(0.0, -math.expm1(0.5 * (epsilon - 1 / scale)))
    low, high, _ = delta_interval(Laplace(scale), epsilon)
    assert low <= truth * (1 + 1e-12)
    assert truth <= high * (1 + 1e-12) + 1e-15


@pytest.mark.parametrize("count", [1, 5, 20])
def test_pure_dp_releases_compose_to_no_more_than_their_sum(count):
    for event in (ApproxDP(0.3) * count, Laplace(1 / 0.3) * count):
        low, high, _ = epsilon_interval(event, 1e-6)
        assert 0.0 < low <= high <= 0.3 * count * (1 + 1e-9)


def test_a_chance_of_failure_adds_up():
    event = ApproxDP(0.1, 1e-3) * 10
    revealed = 1 - (1 - 1e-3) ** 10
    low, high, _ = delta_interval(event, 50.0)
    assert low <= revealed * (1 + 1e-9)
    assert revealed <= high * (1 + 1e-9)
    assert high == pytest.approx(revealed, rel=1e-6)
    assert epsilon_interval(event, revealed * 0.99).upper == math.inf
    assert epsilon_interval(event, revealed * 1.01).upper < 1.1
    assert rdp_curve(event).epsilon(revealed * 0.99) == math.inf


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-5), (0.0, 0.1), (5.0, 0.0)])
def test_one_approximate_release_costs_what_it_says(epsilon, delta):
    low, high, _ = delta_interval(ApproxDP(epsilon, delta), epsilon)
    assert low <= delta * (1 + 1e-9)
    assert delta <= high * (1 + 1e-9)
    assert high <= delta + 1e-9


def test_an_approximate_release_with_delta_one_protects_nothing():
    assert pld_curve(ApproxDP(1.0, 1.0)).delta(5.0) == 1.0
    assert rdp_curve(ApproxDP(1.0, 1.0)).epsilon(0.5) == math.inf


# Sampling schemes -----------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "noise", "steps"), [(5, 0.748028, 20), (10, 1.0, 10), (1, 2.0, 200)]
)
def test_a_fixed_size_costs_no_less_than_poisson(size, noise, steps):
    """Of the same noise relative to its own sensitivity; both are bounds."""
    fixed = FixedSizeSampled(size, 100, Gaussian(noise)) * steps
    poisson = PoissonSampled(size / 100, Gaussian(noise)) * steps
    low, high, _ = epsilon_interval(fixed, 1e-5)
    truth = epsilon_interval(poisson, 1e-5)
    assert high >= truth.lower
    # Removing and adding are attained by data sets of fixed size.
    assert low == pytest.approx(truth.upper, rel=1e-4)


@pytest.mark.parametrize(
    ("rate", "noise", "steps"), [(0.05, 1.0, 20), (0.3, 2.0, 50), (0.001, 0.7, 500)]
)
def test_replacing_costs_between_removing_once_and_twice(rate, noise, steps):
    remove = PoissonSampled(rate, Gaussian(noise)) * steps
    replace = PoissonSampled(rate, Gaussian(noise), Adjacency.REPLACE_ONE) * steps
    doubled = PoissonSampled(rate, Gaussian(noise / 2)) * steps
    one = epsilon_interval(remove, 1e-5)
    middle = epsilon_interval(replace, 1e-5)
    assert one.lower <= middle.upper
    assert middle.lower <= 2 * epsilon_interval(remove, 1e-5 / (1 + math.e**9)).upper
    assert middle.lower <= epsilon_interval(doubled, 1e-5).upper


def test_a_subsampled_release_costs_less_than_a_plain_one():
    for inner in (Gaussian(1.0), Laplace(1.0)):
        plain = delta_interval(inner, 0.2).upper
        sampled = delta_interval(PoissonSampled(0.1, inner), 0.2).upper
        assert sampled < plain


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 1.0), (0.7, 0.5), (0.01, 3.0)])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_one_sampled_release_has_the_amplified_profile(rate, noise, epsilon):
    """Balle, Barthe and Gaboardi, arXiv:1807.01647, Theorem 2."""
    for inner in (Gaussian(noise), Laplace(noise)):
        shifted = math.log1p(math.expm1(epsilon) / rate)
        truth = rate * delta_interval(inner, shifted).upper
        low, high, _ = delta_interval(PoissonSampled(rate, inner), epsilon)
        assert low <= truth * (1 + 1e-9) + 1e-300
        assert truth <= high * (1 + 1e-9)


# A second opinion -----------------------------------------------------------


@pytest.mark.parametrize("name", ["few steps", "laplace", "gaussian", "two stages"])
def test_the_second_opinion_agrees(name):
    event = RUNS[name]
    low, high, _ = epsilon_interval(event, 1e-5)
    theirs = [
        prv_curve(event, bound=bound, eps_error=0.05).epsilon(1e-5)
        for bound in ("lower", "estimate", "upper")
    ]
    assert theirs == sorted(theirs)
    assert theirs[0] <= high
    assert low <= theirs[2]


def test_the_clt_is_labelled_an_estimate_and_is_one():
    """It reports 1.00 where the truth is 1.34, and may not be used as a bound."""
    curve = gdp_curve(RUNS["few steps"])
    assert curve.bound == "estimate"
    truth = epsilon_interval(RUNS["few steps"], 1 / 149).lower
    assert curve.epsilon(1 / 149) < 0.76 * truth


@pytest.mark.parametrize("event", RUNS.values(), ids=RUNS)
def test_bounds_are_labelled(event):
    assert pld_curve(event).bound == "upper"
    assert pld_curve(event, bound="lower").bound == "lower"
    assert rdp_curve(event).bound == "upper"
    assert isinstance(epsilon_interval(event, 0.01), Interval)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["few steps", "little noise", "fixed size"])
def test_the_trade_off_of_the_upper_curve_is_below_that_of_the_lower(name):
    above = pld_curve(RUNS[name], tolerance=1e-2)
    below = pld_curve(RUNS[name], bound="lower", tolerance=1e-2)
    assert 0.0 <= above.beta(0.05) <= below.beta(0.05) + 1e-9


def test_a_delta_that_no_double_holds_is_soon_told():
    """Chernoff's bound at a small order shows it, for both directions."""
    run = PoissonSampled(0.5, Gaussian(500.0)) * 50
    low, high, method = delta_interval(run, 300.0, tolerance=1e-4)
    assert 0.0 <= low <= high <= 1e-290
    assert method.startswith("Chernoff's bound")


def test_permuting_a_mixed_run_changes_nothing():
    parts = [
        PoissonSampled(0.05, Gaussian(1.0)) * 3,
        Gaussian(4.0),
        Laplace(6.0) * 2,
        ApproxDP(0.1, 1e-7),
    ]
    answers = set()
    for order in itertools.islice(itertools.permutations(parts), 0, 24, 9):
        total = sum(order[1:], order[0])
        answers.add(epsilon_interval(total, 1e-5, tolerance=1e-3)[:2])
    lows, highs = zip(*answers, strict=True)
    assert max(lows) == pytest.approx(min(lows), rel=1e-9)
    assert max(highs) == pytest.approx(min(highs), rel=1e-9)
