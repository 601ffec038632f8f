"""The bounded expansion: true of laws that are known, true of privacy losses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, gamma, norm

from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy.cumulants import AbsoluteMoments, absolute_moments
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.finite_sample import (
    edgeworth_epsilon_interval,
    edgeworth_interval,
    expansion_error,
)
from drdp.privacy.losses import Direction
from drdp.privacy.pld import delta_interval, epsilon_interval
from drdp.privacy.rdp import rdp_curve


def poisson(q: float, z: float, n: int) -> Event:
    return PoissonSampled(q, Gaussian(z)) * n


def first_order(x, skewness: float, n: int):
    return norm.cdf(x) - norm.pdf(x) * skewness / (6 * math.sqrt(n)) * (x * x - 1)


# The theorem, on laws whose sums are known ----------------------------------


@pytest.mark.parametrize("n", [3, 10, 100, 1000, 100_000])
def test_it_is_true_of_sums_of_exponentials(n):
    x = np.linspace(-6, 9, 2001)
    exact = gamma.cdf(n + math.sqrt(n) * x, n)
    distance = np.max(np.abs(exact - first_order(x, 2.0, n)))
    moments = AbsoluteMoments(2 / math.e, 12 / math.e - 2, 9.0, 2.0)
    assert distance <= expansion_error(moments, n)


@settings(max_examples=200, deadline=None)
@given(st.floats(-4.5, -0.302), st.integers(3, 20_000), st.booleans())
def test_it_is_true_of_two_point_laws(log_p, n, mirrored):
    """The hardest there are: a lattice, and a kurtosis of up to 30,000."""
    p = 10.0**log_p
    deviation = math.sqrt(p * (1 - p))
    low, high = -p / deviation, (1 - p) / deviation

    def moment(power: int) -> float:
        return (1 - p) * abs(low) ** power + p * abs(high) ** power

    skewness = (1 - 2 * p) / deviation
    jumps = np.arange(n + 1)
    x = (jumps - n * p) / (deviation * math.sqrt(n))
    after = binom.cdf(jumps, n, p)
    before = np.concatenate(([0.0], after[:-1]))
    if mirrored:  # -X has the jumps at -x, and 1 - F before and after them
        x, skewness = -x, -skewness
        before, after = 1.0 - after, 1.0 - before
    smooth = first_order(x, skewness, n)
    distance = max(np.max(np.abs(after - smooth)), np.max(np.abs(before - smooth)))
    moments = AbsoluteMoments(moment(1), moment(3), moment(4), skewness)
    assert distance <= expansion_error(moments, n)


def test_it_falls_with_the_number_of_summands_like_the_root():
    moments, _ = absolute_moments(PoissonSampled(0.01, Gaussian(1.0)), Direction.REMOVE)
    errors = [expansion_error(moments, 10**k) for k in range(2, 12)]
    assert errors == sorted(errors, reverse=True)
    main = 0.1995 * (moments.third + moments.first) / math.sqrt(1e11)
    assert errors[-1] == pytest.approx(main, rel=1e-2)


@pytest.mark.parametrize(
    ("rate", "z", "n", "at_q", "at_p"),
    [
        (2000 / 392702, 0.573, 3920, 0.52, 0.74),
        (0.01, 0.8, 100_000, 0.022, 0.027),
        (0.01, 1.0, 1_000_000, 0.0016, 0.0018),
    ],
)
def test_how_large_it_is(rate, z, n, at_q, at_p):
    found = absolute_moments(PoissonSampled(rate, Gaussian(z)), Direction.REMOVE)
    assert expansion_error(found[0], n) == pytest.approx(at_q, rel=0.03)
    assert expansion_error(found[1], n) == pytest.approx(at_p, rel=0.03)


def test_after_twenty_rounds_it_says_nothing():
    one = PoissonSampled(0.05, Gaussian(0.748028))
    assert min(expansion_error(m, 20) for m in absolute_moments(one, Direction.ADD)) > 3


@pytest.mark.parametrize("count", [2, 0, -1, 2.5, None, math.nan])
def test_a_count_that_is_none(count):
    with pytest.raises(InvalidArgumentError, match="count"):
        expansion_error(AbsoluteMoments(1.0, 2.0, 9.0, 1.0), count)


# The interval ---------------------------------------------------------------

RUNS = [
    poisson(0.001, 2.0, 10**6),
    poisson(0.01, 4.0, 10**4),
    poisson(0.01, 1.0, 10**6),
    poisson(0.01, 0.8, 10**5),
    poisson(0.05, 0.748028, 20),
    poisson(2000 / 392702, 0.573, 3920),
    poisson(0.3, 20.0, 3),
    poisson(0.5, 1.0, 1),
    poisson(0.05, 1e-3, 5),
    PoissonSampled(0.02, Gaussian(3.0), Adjacency.ZERO_OUT) * 40_000,
    Gaussian(300.0) * 50_000,
    Gaussian(1e-200),
]


@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 5.0])
def test_it_contains_the_certified_delta(run, epsilon):
    low, high, method = edgeworth_interval(run, epsilon)
    truth = delta_interval(run, epsilon, tolerance=1e-8)
    assert 0.0 <= low <= truth.upper
    assert truth.lower * (1 - 1e-9) <= high <= 1.0
    assert high <= rdp_curve(run).delta(epsilon)
    assert method


@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("epsilon", [800.0, 1e6])
def test_a_huge_epsilon_gets_a_number(run, epsilon):
    low, high, _ = edgeworth_interval(run, epsilon)
    assert 0.0 <= low <= high <= rdp_curve(run).delta(epsilon)


@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("delta", [0.3, 0.05, 1e-3, 1e-6])
def test_it_contains_the_certified_epsilon(run, delta):
    low, high, _ = edgeworth_epsilon_interval(run, delta)
    truth = epsilon_interval(run, delta, tolerance=1e-8)
    assert 0.0 <= low <= truth.upper
    assert truth.lower * (1 - 1e-9) <= high
    assert high <= rdp_curve(run).epsilon(delta)


@pytest.mark.parametrize("delta", [0.2, 0.1, 0.02])
def test_epsilon_and_delta_intervals_are_inverse(delta):
    run = poisson(0.001, 2.0, 10**6)
    low, high, _ = edgeworth_epsilon_interval(run, delta)
    assert edgeworth_interval(run, low).lower == pytest.approx(delta, rel=1e-6)
    assert edgeworth_interval(run, high).upper == pytest.approx(delta, rel=1e-6)


def test_at_a_small_delta_it_says_no_more_than_renyi():
    run = poisson(0.01, 1.0, 10**6)
    low, high, method = edgeworth_interval(run, rdp_curve(run).epsilon(1e-5))
    assert low == 0.0
    assert high == pytest.approx(1e-5, rel=1e-6)
    assert method.endswith("rdp")


@pytest.mark.parametrize(
    "event",
    [
        NOTHING,
        NonPrivate(),
        Laplace(1.0) * 10,
        ApproxDP(0.1),
        Gaussian(1.0) + Gaussian(2.0),
        PoissonSampled(0.1, Laplace(1.0)),
        PoissonSampled(0.1, Gaussian(1.0), Adjacency.REPLACE_ONE),
        FixedSizeSampled(1, 10, Gaussian(1.0)),
    ],
    ids=str,
)
def test_what_the_theorem_is_not_about_is_refused(event):
    for ask in (edgeworth_interval, edgeworth_epsilon_interval):
        with pytest.raises(UnsupportedEventError, match=r"edgeworth_interval.*pld"):
            ask(event, 0.5)


@pytest.mark.parametrize("bad", [math.nan, -1.0, None, "1"])
def test_bad_arguments(bad):
    with pytest.raises(InvalidArgumentError, match="epsilon"):
        edgeworth_interval(Gaussian(1.0), bad)
    with pytest.raises(InvalidArgumentError, match="delta"):
        edgeworth_epsilon_interval(Gaussian(1.0), bad)
