"""The further mechanisms: their arguments, their algebra and their exact sums."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom, norm

from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy.distributed import (
    discrete_gaussian_gap,
    distributed_discrete_gaussian,
    rounded_norm,
)
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    PoissonSampled,
    atoms,
)
from drdp.privacy.example_level import example_level, example_level_fixed_size
from drdp.privacy.outside import DensityPair, DominatingPair
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.rdp import rdp, rdp_curve
from drdp.privacy.releases import (
    DiscreteGaussian,
    MixtureOfGaussians,
    RandomisedResponse,
    Skellam,
    ZeroConcentrated,
)

REPLACE = Adjacency.REPLACE_ONE


# Arguments ------------------------------------------------------------------


def ones(x):
    return np.zeros_like(x)


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [
        (lambda: DiscreteGaussian(0.0), "noise_multiplier", "0.0"),
        (lambda: DiscreteGaussian(1.0, 1.5), "sensitivity", "1.5"),
        (lambda: DiscreteGaussian(1.0, 0), "sensitivity", "0"),
        (lambda: DiscreteGaussian(1.0, 0.5, 10), "sensitivity", "0.5"),
        (lambda: DiscreteGaussian(1.0, 1, 0), "dimension", "0"),
        (lambda: Skellam(-1.0), "variance", "-1.0"),
        (lambda: Skellam(1.0, 2.0, 9, 1.0), "l1_sensitivity", "1.0"),
        (lambda: ZeroConcentrated(-0.1), "rho", "-0.1"),
        (lambda: RandomisedResponse(0.0), "epsilon", "0.0"),
        (lambda: RandomisedResponse(1.0, 1), "categories", "1"),
        (lambda: MixtureOfGaussians([1], [1], 0.0), "noise_multiplier", "0.0"),
        (lambda: MixtureOfGaussians([-1], [1], 1.0), "sensitivities", "-1"),
        (lambda: MixtureOfGaussians([0], [1], 1.0), "sensitivities", "0"),
        (lambda: MixtureOfGaussians([], [], 1.0), "sensitivities", "empty"),
        (lambda: MixtureOfGaussians(1.0, [1], 1.0), "sensitivities", "1.0"),
        (lambda: MixtureOfGaussians([0, 1], [1], 1.0), "probabilities", "1"),
        (lambda: MixtureOfGaussians([0, 1], [0.5, 0.4], 1.0), "probabilities", "0.9"),
        (lambda: MixtureOfGaussians([1], [1], 1.0, REPLACE), "adjacency", "REPLACE"),
        (lambda: example_level(4, 1.5, 1.0), "rate", "1.5"),
        (lambda: example_level(-1, 0.5, 1.0), "group_size", "-1"),
        (lambda: example_level_fixed_size(4, 8, 10, 1.0), "batch_size", "8"),
        (lambda: DominatingPair([0.5, 0.5], [1.0]), "q", "1"),
        (lambda: DominatingPair([0.5, 0.4], [0.5, 0.5]), "p", "0.9"),
        (lambda: DominatingPair([0.5, math.nan], [0.5, 0.5]), "p", "nan"),
        (lambda: DominatingPair("ab", [0.5, 0.5]), "p", "ab"),
        (lambda: DominatingPair([1.0], [1.0], "other"), "adjacency", "other"),
        (lambda: DominatingPair.from_losses([math.inf], [1.0]), "losses", "inf"),
        (lambda: DominatingPair.from_losses([-1.0], [1.0]), "losses", "2.718"),
        (lambda: DensityPair(1.0, ones, (0, 1)), "log_p", "1.0"),
        (lambda: DensityPair(ones, ones, (1, 0)), "breaks", r"\(1, 0\)"),
        (lambda: DensityPair(ones, ones, (0, math.inf)), "breaks", "inf"),
        (lambda: discrete_gaussian_gap(5, 0.5), "scale", "0.5"),
        (lambda: discrete_gaussian_gap(0, 1.0), "shares", "0"),
        (lambda: rounded_norm(1.0, 5, beta=0.0), "beta", "0.0"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(build, name, value):
    with pytest.raises(InvalidArgumentError, match=rf"{name}[\s\S]*{value}"):
        build()


# Normal form ----------------------------------------------------------------


def test_a_replaced_release_moves_twice_as_far():
    """At rate 1 nothing is sampled, but the noise was stated per clip norm."""
    for event, doubled in [
        (DiscreteGaussian(3.0), DiscreteGaussian(1.5, 2)),
        (Skellam(9.0, 2.0, 5), Skellam(9.0, 4.0, 5, 2 * min(math.sqrt(5) * 2, 4))),
        (ZeroConcentrated(0.1), ZeroConcentrated(0.4)),
        (RandomisedResponse(1.0), RandomisedResponse(1.0)),
    ]:
        assert atoms(PoissonSampled(1.0, event, REPLACE)) == {doubled: 1}
        assert atoms(PoissonSampled(1.0, event)) == {event: 1}


def test_a_mixture_has_a_relation():
    mixture = example_level(3, 0.1, 1.0)
    with pytest.raises(InvalidArgumentError, match="mixes"):
        atoms(mixture + FixedSizeSampled(1, 10, Gaussian(1.0)))
    with pytest.raises(InvalidArgumentError, match="mixes"):
        atoms(DominatingPair([1.0], [1.0], REPLACE) + mixture)
    assert atoms(mixture + PoissonSampled(0.1, Gaussian(1.0))).total() == 2


def test_a_mixture_is_sorted_merged_and_whole():
    mixture = MixtureOfGaussians([2, 0, 2, 5], [0.25, 0.5, 0.25, 0.0], 1.0)
    assert mixture == MixtureOfGaussians([0, 2], [0.5, 0.5], 1.0)
    short = MixtureOfGaussians([0, 1], [0.5, 0.5 - 1e-13], 1.0)
    assert math.fsum(short.probabilities) == 1.0
    assert short.probabilities[0] == 0.5


@pytest.mark.parametrize(
    ("group", "rate"), [(1, 0.01), (4, 0.01), (16, 0.3), (7, 0.9), (40, 0.05)]
)
def test_the_weights_of_a_group_are_binomial(group, rate):
    found = example_level(group, rate, 1.0)
    truth = binom.pmf(np.arange(group + 1), group, rate)
    assert found.probabilities == pytest.approx(truth, rel=1e-11, abs=1e-13)
    tails = np.cumsum(found.probabilities[::-1])[:-1]
    exact = [
        mpmath.nsum(
            lambda k: (
                mpmath.binomial(group, int(k))
                * mpmath.mpf(rate) ** int(k)
                * (1 - mpmath.mpf(rate)) ** (group - int(k))
            ),
            [least, group],
        )
        for least in range(group, 0, -1)
    ]
    # never less likely to move the sum far than in truth, but for cumsum's rounding
    assert all(a >= b * (1 - 1e-15) for a, b in zip(tails, exact, strict=True))


def test_the_weights_of_a_group_in_a_fixed_batch_are_hypergeometric():
    found = example_level_fixed_size(6, 30, 200, 1.0)
    truth = hypergeom.pmf(np.arange(7), 200, 6, 30)
    assert found.probabilities == pytest.approx(truth, rel=1e-10)


def test_groups_at_the_limits():
    assert example_level(0, 0.5, 1.0) == example_level(3, 0.0, 1.0) == NOTHING
    assert example_level(4, 1.0, 2.0) == Gaussian(0.5)
    assert example_level_fixed_size(3, 0, 10, 1.0) == NOTHING
    large = example_level(10_000, 1e-4, 5.0)
    assert 100 < len(large.sensitivities) < 200  # as far as a float can tell
    assert rdp_curve(large).epsilon(1e-5) > rdp_curve(Gaussian(5.0)).epsilon(1e-5)


# Exact sums -----------------------------------------------------------------


def hockey_stick(p, q, epsilon) -> mpmath.mpf:
    level = mpmath.exp(epsilon)
    return mpmath.fsum(max(0, a - level * b) for a, b in zip(p, q, strict=True))


def lattice(weight, shift: int, reach: int):
    """A symmetric law on the integers, moved and unmoved, in 40 digits."""
    mass = {k: weight(k) for k in range(reach + shift + 1)}
    total = mass[0] + 2 * mpmath.fsum(mass[k] for k in range(1, reach + 1))
    x = range(-reach, reach + shift + 1)
    return [mass[abs(k - shift)] / total for k in x], [mass[abs(k)] / total for k in x]


EXACT = {
    "discrete gaussian": (
        DiscreteGaussian(1.3),
        lambda: lattice(
            lambda k: mpmath.exp(-k * k / (2 * mpmath.mpf(1.3) ** 2)), 1, 60
        ),
    ),
    "narrow discrete gaussian": (
        DiscreteGaussian(0.2, 2),
        lambda: lattice(
            lambda k: mpmath.exp(-k * k / (2 * (mpmath.mpf(0.2) * 2) ** 2)), 2, 30
        ),
    ),
    "skellam": (
        Skellam(5.0, 3),
        lambda: lattice(lambda k: mpmath.besseli(k, 5), 3, 90),
    ),
    "thin skellam": (
        Skellam(0.05),
        lambda: lattice(lambda k: mpmath.besseli(k, mpmath.mpf(0.05)), 1, 40),
    ),
    "randomised response": (
        RandomisedResponse(0.7, 4),
        lambda: (
            [w / (mpmath.exp(0.7) + 3) for w in (mpmath.exp(0.7), 1, 1, 1)],
            [w / (mpmath.exp(0.7) + 3) for w in (1, mpmath.exp(0.7), 1, 1)],
        ),
    ),
    "outside pair": (
        DominatingPair([0.5, 0.25, 0.25, 0.0], [0.125, 0.5, 0.0, 0.375]),
        lambda: ([0.5, 0.25, 0.25, 0.0], [0.125, 0.5, 0.0, 0.375]),
    ),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("rate", [1.0, 0.3, 1e-3])
def test_one_release_has_the_profile_of_its_definition(name, rate):
    event, pair = EXACT[name]
    with mpmath.workdps(40):
        p, q = pair()
        rate_ = mpmath.mpf(rate)
        mixed = [rate_ * a + (1 - rate_) * b for a, b in zip(p, q, strict=True)]
        for epsilon in (0.0, 0.01, 0.6, 2.0, 9.0):
            truth = max(
                hockey_stick(mixed, q, epsilon), hockey_stick(q, mixed, epsilon)
            )
            low, high, method = delta_interval(PoissonSampled(rate, event), epsilon)
            assert method == "closed form"
            assert low <= truth <= high
            assert high - low <= 1e-9 * high + 1e-15 * rate


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("rate", [1.0, 0.3])
@pytest.mark.parametrize("order", [1.25, 2.0, 6.5])
def test_one_release_has_the_renyi_divergence_of_its_definition(name, rate, order):
    event, pair = EXACT[name]
    if name == "outside pair":
        assert rdp(PoissonSampled(rate, event), order) == math.inf
        return
    with mpmath.workdps(40):
        p, q = pair()
        rate_ = mpmath.mpf(rate)
        mixed = [rate_ * a + (1 - rate_) * b for a, b in zip(p, q, strict=True)]
        truth = max(
            mpmath.log(
                mpmath.fsum(
                    a * (a / b) ** (order - 1)
                    for a, b in zip(one, other, strict=True)
                    if a > 0
                )
            )
            / (order - 1)
            for one, other in ((mixed, q), (q, mixed))
        )
        found = rdp(PoissonSampled(rate, event), order)
        assert truth <= found <= truth * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("event", [Skellam(4.0, 2), DiscreteGaussian(0.7, 2)])
@pytest.mark.parametrize("order", [2.0, 3.5, 40.0, 1000.0])
def test_one_integer_costs_no_more_than_the_bound_for_vectors(event, order):
    if isinstance(event, Skellam):
        vector = Skellam(event.variance, 2, 2, event.l1_sensitivity)
    else:
        vector = DiscreteGaussian(event.noise_multiplier, 2, 2)
    for rate in (1.0, 0.4):
        found = rdp(PoissonSampled(rate, event), order)
        assert 0.0 < found <= rdp(vector, order) * (1 + 1e-12)
    assert rdp_curve(event * 5).epsilon(1e-5) <= rdp_curve(vector * 5).epsilon(1e-5)


def test_a_smaller_shift_is_dominated():
    """Why one pair stands for all sensitivities up to the stated one."""
    for build in (
        lambda d: DiscreteGaussian(2.3 / d, d),
        lambda d: Skellam(3.0, d),
    ):
        for epsilon in (0.0, 0.5, 2.0):
            deltas = [delta_interval(build(d), epsilon).lower for d in (1, 2, 3, 4)]
            assert deltas == sorted(deltas)


# Randomised response --------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 10, 60])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_responses_compose_by_the_binomial_formula(steps, epsilon):
    """Kairouz, Oh and Viswanath, arXiv:1311.0776: exact, so ten cost ten times."""
    run = RandomisedResponse(epsilon) * steps
    with mpmath.workdps(40):
        e = mpmath.mpf(epsilon)
        true = mpmath.exp(e) / (1 + mpmath.exp(e))
        for share in (0.0, 0.35, 0.8):
            asked = share * steps * epsilon
            truth = mpmath.fsum(
                mpmath.binomial(steps, k)
                * true**k
                * (1 - true) ** (steps - k)
                * max(0, 1 - mpmath.exp(asked - (2 * k - steps) * e))
                for k in range(steps + 1)
            )
            low, high, _ = delta_interval(run, asked)
            assert low <= truth <= high
            assert high - low <= 1e-7 * truth + 1e-14


@pytest.mark.parametrize(
    "event",
    [
        RandomisedResponse(1.0),
        RandomisedResponse(1.0, 6),
        DominatingPair([0.75, 0.25], [0.25, 0.75]),
        DiscreteGaussian(1.0),
        Skellam(2.0),
        example_level(2, 0.3, 1.0),
    ],
    ids=repr,
)
def test_ten_releases_cost_more_than_one(event):
    for curve in (pld_curve, rdp_curve):
        one, ten = curve(event).epsilon(1e-6), curve(event * 10).epsilon(1e-6)
        assert ten > 2.0 * one
    assert rdp(event * 10, 3.0) == pytest.approx(10 * rdp(event, 3.0))


def test_two_categories_are_the_worst_pure_mechanism():
    one, other = RandomisedResponse(0.4) * 7, ApproxDP(0.4) * 7
    assert epsilon_interval(one, 1e-4) == epsilon_interval(other, 1e-4)
    more = epsilon_interval(RandomisedResponse(0.4, 9) * 7, 1e-4)
    assert more.upper < epsilon_interval(one, 1e-4).lower


# Mixtures -------------------------------------------------------------------


def mixture_profile(shifts, weights, epsilon: float) -> float:
    """Both directions by the root of the monotone loss, the worse of them."""

    def loss(x):
        return np.log(np.exp(np.outer(x, shifts) - 0.5 * shifts**2) @ weights)

    worst = 0.0
    for level in (epsilon, -epsilon):
        low, high = -60.0, 60.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            if loss(np.array([middle]))[0] < level:
                low = middle
            else:
                high = middle
        p, q = weights @ norm.sf(low - shifts), norm.sf(low)
        if level == epsilon:
            worst = max(worst, p - math.exp(epsilon) * q)
        if level == -epsilon:
            worst = max(worst, (1 - q) - math.exp(epsilon) * (1 - p))
    return worst


@pytest.mark.parametrize(
    ("sensitivities", "weights", "noise"),
    [
        ((0.0, 1.0), (0.9, 0.1), 1.0),
        ((0.0, 1.0, 5.0), (0.5, 0.49, 0.01), 2.0),
        ((1.0, 3.0), (0.5, 0.5), 2.5),
        ((0.0, 0.25, 0.5), (0.2, 0.3, 0.5), 0.4),
    ],
)
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_one_mixture_has_the_profile_of_its_definition(
    sensitivities, weights, noise, epsilon
):
    truth = mixture_profile(np.array(sensitivities) / noise, np.array(weights), epsilon)
    event = MixtureOfGaussians(sensitivities, weights, noise)
    low, high, _ = delta_interval(event, epsilon, tolerance=1e-5)
    assert low <= truth * (1 + 1e-10) + 1e-15
    assert truth * (1 - 1e-10) - 1e-15 <= high
    assert high - low <= 1e-4 * truth + 1e-9


@pytest.mark.parametrize("order", [1.1, 2.0, 7.5, 100.0, 4000.0])
def test_a_group_of_one_is_a_sampled_gaussian(order):
    group, plain = example_level(1, 0.05, 1.3), PoissonSampled(0.05, Gaussian(1.3))
    assert rdp(group, order) == pytest.approx(rdp(plain, order), rel=1e-7)


@pytest.mark.parametrize("order", [1.5, 2.0, 3.25])
def test_the_renyi_divergence_of_a_mixture_by_quadrature(order):
    event = MixtureOfGaussians((0.0, 1.0, 4.0), (0.7, 0.25, 0.05), 1.5)
    with mpmath.workdps(25):
        terms = list(zip(event.sensitivities, event.probabilities, strict=True))

        def density(x):
            return mpmath.fsum(w * mpmath.npdf(x, c, 1.5) for c, w in terms)

        def moment(power):
            points = [-40, -10, -4, 0, 4, 10, 16, 60]
            return mpmath.quad(
                lambda x: density(x) ** power * mpmath.npdf(x, 0, 1.5) ** (1 - power),
                points,
            )

        truth = max(mpmath.log(moment(a)) for a in (order, 1 - order)) / (order - 1)
    assert rdp(event, order) == pytest.approx(float(truth), rel=1e-9)
    assert rdp(event, order) >= truth * (1 - 1e-15)


def test_a_mixture_costs_no_more_than_its_largest_shift():
    event = MixtureOfGaussians((0.0, 3.0), (0.3, 0.7), 2.0)
    for curve in (pld_curve, rdp_curve):
        assert curve(event * 4).epsilon(1e-5) < curve(Gaussian(2 / 3) * 4).epsilon(1e-5)
    absurd = MixtureOfGaussians((0.0, 16.0), (0.5, 0.5), 0.1)
    low, high, _ = epsilon_interval(absurd, 1e-5)
    assert low == 0.0
    assert high == epsilon_interval(Gaussian(0.1 / 16), 1e-5).upper


def test_larger_groups_cost_more():
    found = [
        epsilon_interval(example_level(g, 0.05, 2.0) * 20, 1e-5, tolerance=1e-4)
        for g in (1, 2, 4)
    ]
    assert all(a.upper < b.lower for a, b in itertools.pairwise(found))
    fixed = example_level_fixed_size(2, 50, 1000, 2.0) * 20
    assert epsilon_interval(fixed, 1e-5, tolerance=1e-4).upper == pytest.approx(
        found[1].upper, rel=0.02
    )


# Only a Renyi bound ---------------------------------------------------------


def test_concentrated_releases_add_up():
    event = ZeroConcentrated(0.05) * 4 + distributed_discrete_gaussian(
        10, 3.0, 3.0, dimension=50
    )
    rho = 0.2 + 0.05
    assert rdp(event, 5.0) == pytest.approx(5.0 * rho, rel=1e-9)
    best = min(
        rho * a + (math.log(1e5) - math.log(a)) / (a - 1) + math.log1p(-1 / a)
        for a in np.linspace(1.5, 30, 20_000)
    )
    assert rdp_curve(event).epsilon(1e-5) == pytest.approx(best, rel=1e-6)
    assert rdp_curve(event).epsilon(1e-5) < rho + 2 * math.sqrt(rho * math.log(1e5))


def test_a_mixed_run_is_accounted_for_by_rdp_curve():
    parts = [
        PoissonSampled(0.01, Gaussian(1.0)) * 100,
        Laplace(20.0) * 5,
        Skellam(400.0, 2.0, 30) * 10,
        DiscreteGaussian(30.0, 2.5, 64) * 10,
        ZeroConcentrated(0.001),
        RandomisedResponse(0.05, 3) * 2,
        example_level(3, 0.01, 2.0) * 10,
        PoissonSampled(0.1, DiscreteGaussian(2.0)),
    ]
    run = sum(parts[1:], parts[0])
    total = math.fsum(rdp(part, 6.5) for part in parts)
    assert rdp(run, 6.5) == pytest.approx(total, rel=1e-12)
    assert rdp_curve(run).epsilon(1e-6) > rdp_curve(parts[0]).epsilon(1e-6)
    with pytest.raises(UnsupportedEventError, match="use rdp_curve"):
        pld_curve(run)


@given(st.floats(1.001, 200.0), st.floats(0.5, 50.0), st.integers(2, 400))
def test_the_skellam_bound_is_a_chord_between_whole_orders(order, variance, dimension):
    event = Skellam(variance, 3.0, dimension)
    below, above = math.floor(order), math.floor(order) + 1
    ends = [(a - 1) * rdp(event, a) if a > 1 else 0.0 for a in (below, above)]
    found = (order - 1) * rdp(event, order)
    assert min(ends) * (1 - 1e-9) <= found <= max(ends) * (1 + 1e-9)


def test_rounding_and_distributed_noise():
    assert rounded_norm(0.0, 1) == pytest.approx(math.sqrt(0.75))
    assert rounded_norm(0.0, 1, beta=0.01) == 1.0
    assert rounded_norm(1e6, 4) == pytest.approx(1e6, rel=1e-5)
    one = distributed_discrete_gaussian(1, 4.0, 2.0, dimension=1000)
    assert one.rho == pytest.approx(0.125, rel=1e-12)  # one share: no gap at all
    many = [distributed_discrete_gaussian(n, 1.0, 5.0, dimension=9) for n in (10, 100)]
    assert many[1].rho < many[0].rho
    assert many[0].rho > 0.5 * 25 / 10
    near, far = (discrete_gaussian_gap(n, 1.0) for n in (10_000, 10_002))
    assert near < far < near * 1.001


# Pairs from outside ---------------------------------------------------------


def test_a_table_by_its_losses_is_the_same_pair():
    losses, shares = (math.log(3.0), -math.log(3.0)), (0.75, 0.25)
    pair = DominatingPair.from_losses(losses, shares)
    same = RandomisedResponse(math.log(3.0))
    for epsilon in (0.0, 0.4, 1.0):
        found = delta_interval(pair * 3, epsilon)[:2]
        assert found == pytest.approx(delta_interval(same * 3, epsilon)[:2], rel=1e-9)
    revealing = DominatingPair.from_losses((0.0,), (0.9,), infinite=0.1)
    assert delta_interval(revealing * 2, 30.0).upper == pytest.approx(0.19)
    assert epsilon_interval(revealing * 2, 0.18).lower == math.inf
    assert rdp_curve(revealing * 2).epsilon(0.18) == math.inf
    assert rdp_curve(revealing * 2).epsilon(0.191) < 1.0


def test_what_a_table_lacks_reveals_everything():
    whole, short = [0.5, 0.5], [0.5, 0.5 - 1e-13]
    assert delta_interval(DominatingPair(whole, whole), 1.0).upper == 0.0
    assert delta_interval(DominatingPair(short, whole), 1.0).upper >= 1e-13 * 0.999
    assert epsilon_interval(DominatingPair(short, whole), 1e-14).upper == math.inf


def test_both_directions_of_a_table_count():
    """An outcome that only "without the unit" has shows when the unit is added."""
    pair = DominatingPair([1.0, 0.0], [0.9, 0.1])
    turned = DominatingPair([0.9, 0.1], [1.0, 0.0])
    for event in (pair, turned):
        assert delta_interval(event, 3.0).upper == pytest.approx(0.1)
        assert delta_interval(event * 2, 9.0).upper == pytest.approx(0.19)
    sampled = PoissonSampled(0.2, pair) * 2
    low, high, _ = delta_interval(sampled, 0.01)
    # by hand: q = (.9, .1) against (1 - .2) q + .2 p = (.92, .08), twice
    q, mixed = np.array([0.9, 0.1]), np.array([0.92, 0.08])
    truth = max(
        np.maximum(0, np.outer(a, a) - math.exp(0.01) * np.outer(b, b)).sum()
        for a, b in ((q, mixed), (mixed, q))
    )
    assert low <= truth * (1 + 1e-9)
    assert truth * (1 - 1e-9) <= high <= truth * (1 + 1e-4)


def test_an_approximate_guarantee_as_a_table_is_the_same():
    table = DominatingPair.from_losses(
        (1.0, -1.0),
        (0.9 * math.e / (1 + math.e), 0.9 / (1 + math.e)),
        infinite=0.1,
    )
    for epsilon in (0.0, 0.5, 3.0):
        one = delta_interval(table * 5, epsilon)
        two = delta_interval(ApproxDP(1.0, 0.1) * 5, epsilon)
        assert one[:2] == pytest.approx(two[:2], rel=1e-6)


LOG_ROOT = 0.5 * math.log(2 * math.pi)


def normal(x):
    return -0.5 * x * x - LOG_ROOT


def moved(x):
    return normal(x - 1.0)


def either_way(x):
    return np.logaddexp(moved(x), moved(-x)) - math.log(2.0)


def test_densities_give_what_the_law_itself_gives():
    pair = DensityPair(moved, normal, (-12.0, 13.0))
    for steps in (1, 4):
        truth = epsilon_interval(Gaussian(1.0) * steps, 1e-5)
        low, high, _ = epsilon_interval(pair * steps, 1e-5, tolerance=1e-5)
        assert low == 0.0
        assert truth.lower <= high <= truth.upper * (1 + 1e-5)
    renyi = rdp_curve(Gaussian(1.0) * 4).epsilon(1e-5)
    assert rdp_curve(pair * 4).epsilon(1e-5) == pytest.approx(renyi, rel=1e-6)
    assert rdp_curve(pair * 4).epsilon(1e-5) >= renyi
    assert epsilon_interval(pair, 1e-14).upper == math.inf  # beyond what was checked


def test_a_loss_that_turns_round_is_taken_in_stretches():
    pair = DensityPair(either_way, normal, (-13.0, 0.0, 13.0))
    high = delta_interval(pair, 0.3, tolerance=1e-5).upper
    x = np.linspace(-13, 13, 2_000_001)
    p, q = np.exp(either_way(x)), np.exp(normal(x))
    step = x[1] - x[0]
    truth = max(np.maximum(0, a - math.exp(0.3) * b).sum() for a, b in ((p, q), (q, p)))
    assert truth * step == pytest.approx(high, rel=1e-4)
    assert high >= truth * step * (1 - 1e-7)


@pytest.mark.parametrize(
    ("log_p", "log_q", "breaks", "text"),
    [
        (either_way, normal, (-13.0, 13.0), "monotone"),
        (lambda x: -abs(x - 1) - math.log(2), normal, (-40.0, 41.0), "smooth|breaks"),
        (lambda x: normal(x) + 1.0, normal, (-12.0, 12.0), "integrates to"),
        (lambda x: normal(x)[:3], normal, (-12.0, 12.0), "log_p must return"),
        (lambda x: np.log(np.maximum(x, 0)), normal, (-12.0, 12.0), "log_p must"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_densities_that_break_their_promise_are_refused(log_p, log_q, breaks, text):
    with pytest.raises(InvalidArgumentError, match=text):
        pld_curve(DensityPair(log_p, log_q, breaks))


def test_mass_outside_the_interval_reveals_everything():
    pair = DensityPair(moved, normal, (-12.0, 3.0))
    lost = norm.sf(2.0)
    assert delta_interval(pair, 50.0).upper == pytest.approx(lost, rel=1e-6)
