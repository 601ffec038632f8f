"""The ways to draw: their domains, normal forms, and the plainer bounds."""

import copy
import math
import pickle

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy.displaced import displaced
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
    adjacency_of,
    atoms,
)
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.losses import Direction, law_of
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.prv import prv_curve
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)
from drdp.privacy.standins import above, below, overflow
from drdp.privacy.statistic import maximum_points

G = Gaussian(1.0)
ZERO_OUT, REPLACE = Adjacency.ZERO_OUT, Adjacency.REPLACE_ONE


# Construction -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [
        (lambda: FixedSizeZeroOut(5, 4, G), "sample_size", "5"),
        (lambda: FixedSizeZeroOut(-1, 4, G), "sample_size", "-1"),
        (lambda: FixedSizeZeroOut(0, 0, G), "population", "0"),
        (lambda: FixedSizeZeroOut(1, 2, "g"), "event", "'g'"),
        (lambda: RandomlyAllocated(0, G), "rounds", "0"),
        (lambda: RandomlyAllocated(2.5, G), "rounds", "2.5"),
        (lambda: RandomlyAllocated(4, G, 5), "participations", "5"),
        (lambda: RandomlyAllocated(4, G, -1), "participations", "-1"),
        (lambda: RandomlyAllocated(4, None), "event", "None"),
        (lambda: RandomlyAllocated(4, G, 1, REPLACE), "adjacency", "replace-one"),
        (lambda: RandomlyAllocated(4, G, 1, "other"), "adjacency", "'other'"),
        (lambda: TruncatedPoissonSampled(1.5, 9, 3, G), "rate", "1.5"),
        (lambda: TruncatedPoissonSampled(0.5, 0, 3, G), "population", "0"),
        (lambda: TruncatedPoissonSampled(0.5, 9, 0, G), "max_batch", "0"),
        (lambda: TruncatedPoissonSampled(0.5, 9, 3, 1), "event", "1"),
        (lambda: Shuffled(0, G), "rounds", "0"),
        (lambda: Shuffled(3, G, "add-remove"), "adjacency", "add-remove"),
        (lambda: Scheduled(-1, G), "participations", "-1"),
        (lambda: Scheduled(1, G, None), "adjacency", "None"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(build, name, value):
    with pytest.raises(InvalidArgumentError) as caught:
        build()
    assert name in str(caught.value)
    assert value in str(caught.value)


EVENTS = [
    FixedSizeZeroOut(1, 20, Gaussian(2.0)),
    RandomlyAllocated(20, G),
    RandomlyAllocated(20, G, 3, ZERO_OUT),
    TruncatedPoissonSampled(0.1, 100, 25, G),
    TruncatedPoissonSampled(1.0, 100, 25, G, REPLACE),
    Shuffled(10, G),
    Shuffled(10, G, REPLACE),
    Scheduled(4, G, REPLACE),
]


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_values_are_hashable_copied_and_shown_as_they_are_built(event):
    assert eval(repr(event), globals()) == event  # noqa: S307 - text is source code
    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event) == event
    assert hash(copy.copy(event)) == hash(event)
    assert adjacency_of(event) is event.adjacency
    with pytest.raises(AttributeError):
        event.event = Gaussian(9.0)


# Normal form ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "form"),
    [
        (FixedSizeZeroOut(5, 100, G), {FixedSizeZeroOut(1, 20, G): 1}),
        (FixedSizeZeroOut(5, 5, G), {G: 1}),
        (FixedSizeZeroOut(0, 5, NonPrivate()), {}),
        (RandomlyAllocated(1, G), {G: 1}),
        (RandomlyAllocated(3, G, 3), {G: 3}),
        (RandomlyAllocated(3, G, 0), {}),
        (RandomlyAllocated(3, NonPrivate()), {NonPrivate(): 1}),
        (
            RandomlyAllocated(3, Gaussian(3.0) + Gaussian(4.0)),
            {RandomlyAllocated(3, Gaussian(2.4)): 1},
        ),
        (
            TruncatedPoissonSampled(0.1, 9, 9, G, ZERO_OUT),
            {PoissonSampled(0.1, G, ZERO_OUT): 1},
        ),
        (TruncatedPoissonSampled(1.0, 9, 9, G, REPLACE), {Gaussian(0.5): 1}),
        (TruncatedPoissonSampled(0.0, 9, 1, NonPrivate()), {}),
        (Shuffled(1, G), {G: 1}),
        (Shuffled(1, G, REPLACE), {Gaussian(0.5): 1}),
        (Shuffled(4, NOTHING), {}),
        (Scheduled(4, G), {G: 4}),
        (Scheduled(4, Gaussian(2.0), REPLACE), {G: 4}),
        (Scheduled(0, NonPrivate()), {}),
        (Scheduled(2, Gaussian(0.0)), {NonPrivate(): 2}),
    ],
)
def test_what_leaves_nothing_to_chance_is_resolved(event, form):
    assert atoms(event) == form
    assert atoms(event * 3) == {atom: 3 * n for atom, n in form.items()}


def test_relations_do_not_mix_here_either():
    with pytest.raises(InvalidArgumentError, match="mixes"):
        atoms(FixedSizeZeroOut(1, 4, G) + FixedSizeSampled(1, 4, G))
    with pytest.raises(InvalidArgumentError, match="mixes"):
        atoms(RandomlyAllocated(4, PoissonSampled(0.1, G, ZERO_OUT)))


# The bounds behind them -------------------------------------------------------


def test_fixed_size_under_zero_out_has_the_replace_one_bound_at_the_same_noise():
    """Noise of standard deviation s: s / C here, s / 2C there."""
    run = FixedSizeZeroOut(5, 100, Gaussian(2 * 0.748028)) * 20
    other = FixedSizeSampled(5, 100, Gaussian(0.748028)) * 20
    low, high, _ = epsilon_interval(run, 1 / 149)
    assert high == epsilon_interval(other, 1 / 149).upper
    # and the Poisson number, which does not hold for it, is below what is reached
    poisson = PoissonSampled(0.05, Gaussian(2 * 0.748028), ZERO_OUT) * 20
    assert epsilon_interval(poisson, 1 / 149).upper < 0.5 * low


def test_participations_become_blocks():
    run = ((RandomlyAllocated(20, G, 3), 2),)
    assert above(run) == ((RandomlyAllocated(6, G), 6),)
    ((atom, times),) = below(run)
    assert times == 2
    assert atom.noise_multiplier == pytest.approx(math.sqrt(20) / 3)
    assert above(((RandomlyAllocated(20, G, 11), 1),)) == ((G, 11),)


@pytest.mark.parametrize("relation", Adjacency)
def test_truncation_adds_its_chance_of_failure(relation):
    run = TruncatedPoissonSampled(0.01, 10_000, 140, G, relation) * 50
    plain = PoissonSampled(0.01, G, relation) * 50
    psi = overflow(0.01, 10_000, 140)
    for epsilon in (0.2, 1.0):
        low, high, _ = delta_interval(run, epsilon)
        without = delta_interval(plain, epsilon)
        failure = -math.expm1(50 * math.log1p(-psi))
        assert high == pytest.approx(failure + (1 - failure) * without.upper, rel=1e-6)
        assert high <= without.upper + 50 * psi * (1 + 1e-9)
        assert 0.99 * without.lower < low <= without.upper
    # a smaller delta is met without that failure, by another bound
    fixed = FixedSizeSampled(1, 100, Gaussian(0.5)) * 50
    other = epsilon_interval(fixed, 0.5 * failure).upper
    assert epsilon_interval(run, 0.5 * failure).upper == pytest.approx(other, rel=1e-4)
    if relation is not REPLACE:
        assert rdp_curve(run).epsilon(0.5 * failure) == math.inf


def binomial_tail(rate: float, n: int, least: int) -> mpmath.mpf:
    """P[Binomial(n, rate) >= least], term by term in 40 digits."""
    with mpmath.workdps(40):
        odds = mpmath.mpf(rate) / (1 - mpmath.mpf(rate))
        choose = mpmath.loggamma(n + 1) - mpmath.loggamma(n - least + 1)
        choose -= mpmath.loggamma(least + 1)
        rest = n * mpmath.log1p(-mpmath.mpf(rate))
        term = mpmath.exp(choose + least * mpmath.log(odds) + rest)
        total, k = term, least
        while k < n and term > total * mpmath.mpf("1e-30"):
            term *= odds * (n - k) / (k + 1)
            k += 1
            total += term
        return total


@pytest.mark.parametrize(
    ("rate", "population", "max_batch"),
    [
        (0.1, 21, 4),
        (0.01, 10_000, 180),
        (0.01, 10_000, 400),
        (1e-4, 10**9, 101_000),
        (0.5, 3, 1),
        (0.999, 500, 499),
    ],
)
def test_overflow_is_a_binomial_tail_rounded_up(rate, population, max_batch):
    found = overflow(rate, population, max_batch)
    truth = binomial_tail(rate, population - 1, max_batch)
    assert truth <= found <= truth * (1 + 1e-8)
    assert found == pytest.approx(binom.sf(max_batch - 1, population - 1, rate))


def test_overflow_at_its_ends():
    assert overflow(0.5, 10, 10) == 0.0
    assert overflow(1.0, 10, 9) == 1.0
    assert overflow(0.5, 10**400, 9) == 1.0
    assert 0.0 < overflow(1e-9, 1000, 999) <= 1e-299


@pytest.mark.parametrize("relation", Adjacency)
def test_a_full_batch_of_too_many_is_a_fixed_size_sample(relation):
    """Everybody joins and a few are kept: what is known without sampling holds."""
    run = TruncatedPoissonSampled(1.0, 100, 25, Gaussian(4.0), relation) * 3
    low, high, _ = epsilon_interval(run, 1e-5)
    assert low == 0.0
    assert high == pytest.approx(epsilon_interval(Gaussian(2.0) * 3, 1e-5).upper)


def test_a_larger_memory_costs_less():
    values = [
        pld_curve(TruncatedPoissonSampled(0.05, 200, batch, G) * 10).epsilon(1e-3)
        for batch in (20, 25, 30, 40, 200)
    ]
    assert values == sorted(values, reverse=True)
    fixed = pld_curve(FixedSizeSampled(1, 20, Gaussian(0.5)) * 10).epsilon(1e-3)
    assert values[0] == pytest.approx(fixed, rel=1e-4)
    assert values[-1] == pld_curve(PoissonSampled(0.05, G) * 10).epsilon(1e-3)


@pytest.mark.parametrize("relation", [ZERO_OUT, REPLACE])
def test_shuffling_claims_no_amplification(relation):
    run = Shuffled(100, Gaussian(2.0), relation) * 3
    known = Scheduled(3, Gaussian(2.0), relation)
    high = epsilon_interval(known, 1e-5).upper
    low, upper, _ = epsilon_interval(run, 1e-5)
    assert upper == high
    assert 0.0 < low < high
    assert gdp_curve(run).bound == "upper"
    assert gdp_curve(run).epsilon(1e-5) == pytest.approx(high, rel=1e-9)
    assert high <= rdp_curve(run).epsilon(1e-5)


@pytest.mark.parametrize(("rounds", "noise"), [(2, 1.0), (1000, 0.5), (50, 3.0)])
def test_the_largest_sum_is_worth_at_least_the_threshold(rounds, noise):
    """The bound of Chua et al., arXiv:2403.17673, at the best of many thresholds."""
    for epsilon in (0.1, 1.0, 5.0):
        best = 0.0
        for k in range(400):
            c = -6 * noise + k * (12 * noise + 2) / 400
            others = (rounds - 1) * norm.logcdf(c / noise)
            p = -math.expm1(norm.logcdf((c - 2) / noise) + others)
            q = -math.expm1(norm.logcdf((c - 1) / noise) + others)
            best = max(best, p - math.exp(epsilon) * q)
        low, high, _ = delta_interval(Shuffled(rounds, Gaussian(noise)), epsilon)
        assert best - 1e-5 <= low <= high


def test_the_largest_sum_has_masses_that_add_up():
    for replaced in (False, True):
        loss, log_mass, infinite = maximum_points(
            30, 1.5, replaced=replaced, remove=True
        )
        assert infinite == 0.0
        masses = [math.exp(value) for value in log_mass]
        assert math.fsum(masses) == pytest.approx(1.0, abs=1e-9)
        p = math.fsum(m * math.exp(x) for m, x in zip(masses, loss, strict=True))
        assert p == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize(("rate", "noise"), [(0.05, 1.5), (0.5, 0.6), (0.9, 4.0)])
def test_displaced_stretches_are_monotone_and_invertible(rate, noise, remove):
    import numpy as np

    mass = 0.0
    for start, stop, _, log_density, loss, position in displaced(
        rate, noise, remove=remove
    ):
        x = np.linspace(start, stop, 200_001)
        values = loss(x)
        assert np.all(np.diff(values) >= -1e-12)
        inner = x[(np.abs(x) < 6.0) & (np.abs(np.gradient(values, x)) > 1e-3)]
        assert position(loss(inner)) == pytest.approx(inner, abs=1e-6)
        mass += float(np.trapezoid(np.exp(log_density(x)), x))
    assert mass == pytest.approx(1.0, abs=1e-8)


# What no bound is known for ---------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        RandomlyAllocated(20, Laplace(1.0)),
        RandomlyAllocated(20, G + Laplace(1.0)),
        RandomlyAllocated(20, PoissonSampled(0.1, G)),
        FixedSizeZeroOut(1, 9, ApproxDP(1.0)),
        Shuffled(9, ApproxDP(1.0)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("accountant", [pld_curve, rdp_curve])
def test_a_draw_without_a_bound_is_refused_with_advice(accountant, event):
    with pytest.raises(UnsupportedEventError, match="Scheduled") as caught:
        accountant(event + Gaussian(9.0))
    assert type(event).__name__ in str(caught.value)


@pytest.mark.parametrize("accountant", [gdp_curve, prv_curve])
@pytest.mark.parametrize(
    "event",
    [
        RandomlyAllocated(20, G),
        TruncatedPoissonSampled(0.1, 100, 25, G),
        FixedSizeZeroOut(1, 9, G),
    ],
    ids=repr,
)
def test_accountants_without_a_formula_say_which_has(accountant, event):
    with pytest.raises(UnsupportedEventError, match="use pld_curve"):
        accountant(event)


@pytest.mark.parametrize("noise", [1e-200, 1e-3, 1e5, 1e200])
@pytest.mark.parametrize("size", [10, 10**400], ids=["ten", "huge"])
def test_absurd_draws_get_a_bound(noise, size):
    release = Gaussian(noise)
    for event in (
        FixedSizeZeroOut(1, size, release),
        FixedSizeZeroOut(size - 1, size, release),
        RandomlyAllocated(size, release),
        RandomlyAllocated(size, release, 2),
        Shuffled(size, release),
        TruncatedPoissonSampled(0.1, size, 5, release),
    ):
        low, high, _ = epsilon_interval(event, 1e-5)
        assert 0.0 <= low <= high
        low, high, _ = delta_interval(event, 1.0)
        assert 0.0 <= low <= high <= 1.0


# Laws -------------------------------------------------------------------------


def draws(relation: Adjacency) -> st.SearchStrategy[Event]:
    """Draws of a few settings, so that their tables are computed once."""
    noise = st.sampled_from([0.8, 1.5]).map(Gaussian)
    kinds = [
        st.builds(
            PoissonSampled, st.sampled_from([0.05, 0.3]), noise, st.just(relation)
        ),
        st.builds(
            TruncatedPoissonSampled,
            st.just(0.05),
            st.just(400),
            st.sampled_from([60, 90]),
            noise,
            st.just(relation),
        ),
        st.builds(Scheduled, st.integers(1, 3), noise, st.just(relation)),
    ]
    if relation is not REPLACE:
        kinds.append(
            st.builds(RandomlyAllocated, st.sampled_from([5, 20]), noise, st.just(1))
            if relation is Adjacency.ADD_REMOVE
            else noise.map(lambda event: RandomlyAllocated(5, event, 1, ZERO_OUT))
        )
    if relation is ZERO_OUT:
        kinds.append(noise.map(lambda event: FixedSizeZeroOut(1, 20, event)))
    if relation is not Adjacency.ADD_REMOVE:
        kinds.append(noise.map(lambda event: Shuffled(10, event, relation)))
    return st.one_of(kinds)


RUNS_UNDER = st.sampled_from(Adjacency).flatmap(
    lambda relation: st.lists(draws(relation), min_size=1, max_size=3)
)


@settings(max_examples=15)
@given(RUNS_UNDER, st.randoms(use_true_random=False))
def test_permuting_never_changes_a_curve(parts, random):
    mixed = list(parts)
    random.shuffle(mixed)
    one, two = (sum(some, NOTHING) for some in (parts, mixed))
    first = epsilon_interval(one, 1e-5, tolerance=1e-3)
    second = epsilon_interval(two, 1e-5, tolerance=1e-3)
    assert first.upper == pytest.approx(second.upper, rel=1e-9)
    assert first.lower == pytest.approx(second.lower, rel=1e-9)


@settings(max_examples=15)
@given(RUNS_UNDER)
def test_adding_an_event_never_lowers_a_curve(parts):
    """Up to the width that was asked for: the grid rounds, on the safe side."""
    *some, last = parts
    before = epsilon_interval(sum(some, NOTHING), 1e-5, tolerance=1e-3)
    after = epsilon_interval(sum(some, NOTHING) + last, 1e-5, tolerance=1e-3)
    assert before.lower <= after.upper
    assert before.upper <= after.upper * (1 + 2e-3) + 2e-3
    assert before.lower <= after.lower * (1 + 2e-3) + 2e-3
    assert 0.0 <= after.lower <= after.upper


@pytest.mark.parametrize("rate", [1e-6, 0.05, 0.999])
@pytest.mark.parametrize("noise", [0.01, 0.02, 1.0, 1e5])
def test_the_loss_of_replacing_and_its_inverse(rate, noise):
    """Also where mu = 1 / noise is so large that exp(-mu^2 / 2) is 0."""
    event = PoissonSampled(rate, Gaussian(noise), Adjacency.REPLACE_ONE)
    (piece,) = law_of(event, Direction.REMOVE).pieces
    losses = piece.loss(np.linspace(piece.start, piece.stop, 1001))
    back = piece.loss(piece.position(losses))
    assert np.abs(back - losses).max() <= 1e-14 * (1.0 + losses.max())
    assert piece.position(np.zeros(1)) == 0.0
