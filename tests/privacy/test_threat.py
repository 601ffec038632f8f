"""Threat models: what is refused and why, and what the rest leaves of the noise."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from drdp.errors import CalibrationError, InvalidArgumentError, UnsoundThreatModelError
from drdp.privacy.blocks import Clipping
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.dr_encoder import (
    as_printed,
    printed_noise_std,
    product_noise,
    repaired,
)
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    FixedSizeSampled,
    Gaussian,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.exposure import (
    effective_event,
    effective_multiplier,
    exposure,
    noise_std,
    noise_std_for,
    reached_event,
)
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
from drdp.privacy.sampling import FixedSizeZeroOut
from drdp.privacy.threat import (
    EveryClient,
    FixedCohort,
    Placement,
    PoissonCohort,
    ThreatModel,
    View,
)

FIVE = FixedCohort(5, 100)
OUTSIDER, SUM = View.OUTSIDER, View.SUM
MESSAGES, COLLUDING = View.MESSAGES, View.COLLUDING
CENTRAL, SHARED, LOCAL = Placement.CENTRAL, Placement.DISTRIBUTED, Placement.LOCAL


# --- blocks ----------------------------------------------------------------------


def test_blocks_add_in_squares_of_clip_norm_over_noise():
    blocks = Clipping((1.0, 2.0, 0.5), (1.0, 4.0, 0.25))
    assert blocks.norm == pytest.approx(math.sqrt(1.0 + 0.25 + 4.0))
    threat = ThreatModel(OUTSIDER, CENTRAL, EveryClient(3), clipping=blocks)
    mu_squared = sum(
        (2.0 * c / (7.0 * r)) ** 2
        for c, r in zip(blocks.norms, blocks.noise_ratios, strict=True)
    )
    found = effective_multiplier(threat, 7.0)
    assert found == pytest.approx(1.0 / math.sqrt(mu_squared))


@pytest.mark.parametrize(
    ("norms", "dimensions"),
    [((1.0, 1.0), (16, 1)), ((1.0, 3.0, 0.2), (8, 100, 1)), ((2.0,), (5,))],
)
def test_the_allocation_is_optimal(norms, dimensions):
    """Against a numerical search over all noise levels of the same privacy."""

    def variance(log_stds):
        stds = np.exp(log_stds)
        mu = math.sqrt(sum((c / s) ** 2 for c, s in zip(norms, stds, strict=True)))
        return math.log(
            sum(d * (s * mu) ** 2 for d, s in zip(dimensions, stds, strict=True))
        )

    split = Clipping.allocated(norms, dimensions)
    ours = variance(np.log(split.noise_ratios))
    best = minimize(variance, np.zeros(len(norms)), method="BFGS").fun
    assert ours == pytest.approx(best, abs=1e-6)
    assert ours <= variance(np.zeros(len(norms))) + 1e-12
    assert split.norm == pytest.approx(Clipping(norms).norm)


def test_capped_weights_with_a_public_denominator():
    weighted = Clipping((1.0, 2.0)).weighted(3.0, public_denominator=True)
    assert weighted.norms == (3.0, 6.0)
    threat = ThreatModel(OUTSIDER, SHARED, FIVE, clipping=weighted)
    assert threat.sensitivity == pytest.approx(2 * 3 * math.sqrt(5.0))


@pytest.mark.parametrize("largest", [math.inf, 3.0])
def test_private_weights_are_refused(largest):
    with pytest.raises(UnsoundThreatModelError, match="cap the"):
        Clipping().weighted(largest, public_denominator=largest == math.inf)


def test_why_private_weights_are_refused():
    """One client's weight moves everyone: the mean moves by more than 2 w C / W."""
    others = np.array([1.0, 1.0, 1.0])  # their clipped updates, weight 1 each
    mean = lambda weight: (others.sum() - weight) / (3.0 + weight)  # noqa: E731
    moved = mean(0.0) - mean(3.0)
    assert moved == pytest.approx(1.0)
    assert moved > 0.5  # kappa w C / W for a weight of 1 more or less in 4 is 1/2


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"norms": ()}, "norms"),
        ({"norms": (0.0,)}, "clip_norm"),
        ({"norms": (math.inf,)}, "clip_norm"),
        ({"norms": "1"}, "clip_norms"),
        ({"norms": (1.0,), "noise_ratios": (1.0, 2.0)}, "noise_ratios"),
        ({"norms": (1.0,), "noise_ratios": (-1.0,)}, "noise_ratio"),
    ],
)
def test_blocks_outside_their_domain(arguments, names):
    with pytest.raises(InvalidArgumentError, match=names):
        Clipping(**arguments)


def test_an_allocation_needs_a_dimension_for_each_block():
    with pytest.raises(InvalidArgumentError, match="dimensions"):
        Clipping.allocated((1.0, 1.0), (4,))


# --- what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        # the number of noise shares leaks
        (
            {"view": OUTSIDER, "placement": SHARED, "cohort": PoissonCohort(0.05)},
            "variance",
        ),
        (
            {"view": OUTSIDER, "placement": LOCAL, "cohort": FIVE, "amplify": True},
            "carry none",
        ),
        (
            {
                "view": COLLUDING,
                "placement": SHARED,
                "cohort": PoissonCohort(0.05),
                "survivors": 5,
                "colluding": 1,
            },
            "variance",
        ),
        (
            {
                "view": OUTSIDER,
                "placement": SHARED,
                "cohort": EveryClient(5),
                "adjacency": Adjacency.ADD_REMOVE,
            },
            "number of noise shares",
        ),
        # amplification against whoever draws the cohort
        (
            {"view": SUM, "placement": SHARED, "cohort": FIVE, "amplify": True},
            "draws the cohort",
        ),
        (
            {"view": MESSAGES, "placement": LOCAL, "cohort": FIVE, "amplify": True},
            "draws the cohort",
        ),
        (
            {
                "view": OUTSIDER,
                "placement": SHARED,
                "cohort": FIVE,
                "amplify": True,
                "max_participations": 2,
            },
            "depend on each other",
        ),
        # relations that mean nothing
        (
            {
                "view": OUTSIDER,
                "placement": CENTRAL,
                "cohort": FIVE,
                "adjacency": Adjacency.ADD_REMOVE,
            },
            "fixed size",
        ),
        (
            {
                "view": SUM,
                "placement": CENTRAL,
                "cohort": PoissonCohort(0.05),
                "adjacency": Adjacency.ADD_REMOVE,
            },
            "exists at all",
        ),
        # no guaranteed noise
        (
            {"view": SUM, "placement": SHARED, "cohort": PoissonCohort(0.05)},
            "survivors",
        ),
        (
            {"view": COLLUDING, "placement": SHARED, "cohort": FIVE, "colluding": 5},
            "no honest noise",
        ),
        (
            {
                "view": SUM,
                "placement": SHARED,
                "cohort": FIVE,
                "survivors": 2,
                "colluding": 2,
            },
            "no honest noise",
        ),
    ],
)
def test_an_unsound_combination_is_refused_with_the_reason(arguments, reason):
    with pytest.raises(UnsoundThreatModelError, match=reason):
        ThreatModel(**arguments)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"view": "everything"}, "view"),
        ({"placement": "cloud"}, "placement"),
        ({"adjacency": "neighbour"}, "adjacency"),
        ({"cohort": 0.05}, "cohort"),
        ({"clipping": 1.0}, "clipping"),
        ({"colluding": 1}, "colluding"),
        ({"view": COLLUDING}, "colluding"),
        ({"view": MESSAGES, "colluding": 1}, "colluding"),
        ({"colluding": -1}, "colluding"),
        ({"survivors": 6}, "survivors"),
        ({"survivors": 0}, "survivors"),
        ({"placement": LOCAL, "survivors": 3}, "survivors"),
        ({"max_participations": 0}, "max_participations"),
        ({"cohort": EveryClient(5), "amplify": True}, "amplify"),
        ({"cohort": FixedCohort(5, 5), "amplify": True}, "amplify"),
    ],
)
def test_an_argument_outside_its_domain(change, names):
    good = {"view": OUTSIDER, "placement": SHARED, "cohort": FIVE}
    with pytest.raises(InvalidArgumentError, match=names):
        ThreatModel(**{**good, **change})


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: PoissonCohort(1.5), "rate"),
        (lambda: FixedCohort(0, 5), "clients_per_round"),
        (lambda: FixedCohort(6, 5), "population"),
        (lambda: FixedCohort(5, 0), "population"),
        (lambda: EveryClient(0), "clients"),
    ],
)
def test_a_cohort_outside_its_domain(make, names):
    with pytest.raises(InvalidArgumentError, match=names):
        make()


def test_a_round_with_too_few_survivors_is_refused():
    threat = ThreatModel(SUM, SHARED, FIVE, survivors=4)
    threat.check_round(arrived=4)
    with pytest.raises(UnsoundThreatModelError, match="only 3 of the 4"):
        threat.check_round(arrived=3)
    ThreatModel(SUM, LOCAL, FIVE).check_round(arrived=1)


def test_central_noise_covers_no_single_message():
    threat = ThreatModel(MESSAGES, CENTRAL, FIVE)
    assert effective_multiplier(threat, 100.0) == 0.0
    assert effective_event(threat, 100.0, 3) == NonPrivate()
    assert exposure(threat, 100.0, 3, 1e-5).upper == math.inf
    with pytest.raises(UnsoundThreatModelError, match="local"):
        noise_std(threat, 1.0)
    with pytest.raises(UnsoundThreatModelError, match="local"):
        noise_std_for(threat, 1.0, 1e-5, 3)


# --- the event -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threat", "event"),
    [
        (
            ThreatModel(OUTSIDER, CENTRAL, PoissonCohort(0.1), Adjacency.ADD_REMOVE),
            PoissonSampled(0.1, Gaussian(3.0)) * 7,
        ),
        (
            # per clip norm under every relation: the event knows of the factor 2
            ThreatModel(OUTSIDER, CENTRAL, PoissonCohort(0.1)),
            PoissonSampled(0.1, Gaussian(3.0), Adjacency.REPLACE_ONE) * 7,
        ),
        (
            # per 2C, the replace-one sensitivity
            ThreatModel(OUTSIDER, CENTRAL, FIVE),
            FixedSizeSampled(5, 100, Gaussian(1.5)) * 7,
        ),
        (
            # per C, which is how far zeroing moves the sum where the client is drawn
            ThreatModel(OUTSIDER, CENTRAL, FIVE, Adjacency.ZERO_OUT),
            FixedSizeZeroOut(5, 100, Gaussian(3.0)) * 7,
        ),
        (ThreatModel(SUM, CENTRAL, FIVE), Gaussian(1.5) * 7),
        (ThreatModel(SUM, CENTRAL, FIVE, Adjacency.ZERO_OUT), Gaussian(3.0) * 7),
        (
            ThreatModel(OUTSIDER, CENTRAL, EveryClient(4), Adjacency.ADD_REMOVE),
            Gaussian(3.0) * 7,
        ),
        (ThreatModel(MESSAGES, LOCAL, FIVE), Gaussian(1.5) * 7),
        (ThreatModel(MESSAGES, SHARED, FIVE, max_participations=2), Gaussian(1.5) * 2),
        # without anyone else's noise, being there shows
        (ThreatModel(OUTSIDER, LOCAL, FIVE), Gaussian(1.5) * 7),
        (ThreatModel(OUTSIDER, LOCAL, PoissonCohort(0.1)), Gaussian(1.5) * 7),
        (
            ThreatModel(OUTSIDER, SHARED, FixedCohort(4, 100)),
            FixedSizeSampled(4, 100, Gaussian(3.0)) * 7,
        ),
        (
            # four of five are honest, and drawn from the 99 others
            ThreatModel(COLLUDING, SHARED, FIVE, colluding=1),
            FixedSizeSampled(5, 99, Gaussian(3.0)) * 7,
        ),
        (
            # one may drop out and one collude
            ThreatModel(
                COLLUDING, SHARED, FixedCohort(6, 100), survivors=5, colluding=1
            ),
            Gaussian(3.0) * 7,
        ),
        (
            # ... without regard to who it is
            ThreatModel(
                *(COLLUDING, SHARED, FixedCohort(6, 100)),
                survivors=5,
                colluding=1,
                amplify=True,
            ),
            FixedSizeSampled(6, 99, Gaussian(3.0)) * 7,
        ),
        (
            # too few others to hide among
            ThreatModel(COLLUDING, SHARED, FixedCohort(5, 6), colluding=1),
            Gaussian(3.0) * 7,
        ),
        (
            ThreatModel(SUM, SHARED, PoissonCohort(0.1), survivors=4),
            Gaussian(3.0) * 7,
        ),
    ],
)
def test_the_effective_event(threat, event):
    assert effective_event(threat, 3.0, 7) == event
    assert effective_event(threat, 3.0, 0) == NOTHING
    assert reached_event(threat, 3.0, 0) == NOTHING


def test_two_blocks_cost_more():
    """N22: A and B clipped separately, claim 1; LLaMA central, and Qwen."""
    two = Clipping((1.0, 1.0))
    llama = ThreatModel(
        OUTSIDER, CENTRAL, PoissonCohort(0.05), Adjacency.ADD_REMOVE, two
    )
    assert exposure(llama, 0.748028, 20, 1 / 149).upper == pytest.approx(
        3.5964, abs=1e-3
    )
    qwen = as_printed(4.469237, 3, 3, placement=CENTRAL, blocks=2)
    assert qwen.exposure(4, 1 / 285).upper == pytest.approx(1.5203, abs=1e-3)


@pytest.mark.parametrize("view", [OUTSIDER, SUM, MESSAGES])
@pytest.mark.parametrize("adjacency", [Adjacency.REPLACE_ONE, Adjacency.ZERO_OUT])
def test_the_multiplier_by_simulation(view, adjacency):
    """Draw the noise, measure its deviation, divide by how far one client moves."""
    rng = np.random.default_rng(7)
    sigma, size = 0.9, 5
    stds = printed_noise_std(sigma, size)
    seen = rng.normal(0.0, stds, (200_000, size))
    if view is not MESSAGES:
        seen = seen.mean(axis=1)
        moved = (2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0) / size
    else:
        moved = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
    run = as_printed(sigma, size, 100, view=view, adjacency=adjacency)
    assert seen.std() / moved == pytest.approx(run.multiplier, rel=0.01)


def _fixed_size_delta(epsilon, size, clients, noise, first, second, others):
    """delta of one round exactly: mixtures over all cohorts, by quadrature."""
    cohorts = list(itertools.combinations(range(clients), size))
    x = np.linspace(-12 * noise - clients, 12 * noise + clients, 40_001)
    densities = []
    for contribution in (first, second):
        values = [contribution, *others]
        density = sum(
            norm.pdf(x, sum(values[i] for i in cohort), noise) for cohort in cohorts
        ) / len(cohorts)
        densities.append(density)
    p, q = densities
    return max(
        np.trapezoid(np.maximum(a - math.exp(epsilon) * b, 0.0), x)
        for a, b in ((p, q), (q, p))
    )


@pytest.mark.parametrize("epsilon", [0.1, 0.7, 1.5])
@pytest.mark.parametrize("second", [-1.0, 0.0])
@pytest.mark.parametrize(
    "others", [(1, 1, 1), (-1, -1, -1), (0, 0, 0), (1, -1, 0.5), (-1, -1, 1)]
)
def test_a_fixed_cohort_is_bounded_by_its_event(epsilon, second, others):
    """Two of four clients, all data sets of a small grid, replace-one and zero-out."""
    relation = Adjacency.REPLACE_ONE if second else Adjacency.ZERO_OUT
    threat = ThreatModel(OUTSIDER, SHARED, FixedCohort(2, 4), relation)
    exact = _fixed_size_delta(epsilon, 2, 4, 1.0 * math.sqrt(2), 1.0, second, others)
    bound = delta_interval(effective_event(threat, 1.0, 1), epsilon).upper
    assert exact <= bound + 1e-9


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
@pytest.mark.parametrize("second", [-1.0, 0.0])
def test_what_is_reached_is_reached(epsilon, second):
    """The lower curve is attained where all others send the opposite."""
    others = (-1, -1, -1)
    relation = Adjacency.REPLACE_ONE if second else Adjacency.ZERO_OUT
    threat = ThreatModel(OUTSIDER, SHARED, FixedCohort(2, 4), relation)
    exact = _fixed_size_delta(epsilon, 2, 4, 1.0 * math.sqrt(2), 1.0, second, others)
    lower = delta_interval(reached_event(threat, 1.0, 1), epsilon).lower
    assert lower <= exact * (1 + 1e-6)
    assert lower == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("epsilon", [0.1, 0.7, 1.5])
@pytest.mark.parametrize("others", [(1, 1, 1), (-1, -1, -1), (1, -1, 0)])
def test_a_colluder_who_knows_its_part_is_bounded(epsilon, others):
    """Two of five clients; one colludes, and knows whether it took part."""
    threat = ThreatModel(COLLUDING, SHARED, FixedCohort(2, 5), colluding=1)
    bound = delta_interval(effective_event(threat, 1.0, 1), epsilon).upper
    took_part = _fixed_size_delta(epsilon, 1, 4, 1.0, 1.0, -1.0, others)
    did_not = _fixed_size_delta(epsilon, 2, 4, math.sqrt(2), 1.0, -1.0, others)
    assert 2 / 5 * took_part + 3 / 5 * did_not <= bound + 1e-9
    assert max(took_part, did_not) <= bound + 1e-9


def _dropout_delta(epsilon, others, noise):
    """Two of four are drawn and each drops out by its own coin; one has to arrive.

    Exact, given how many arrived, which the adversary is told.
    """
    one = _fixed_size_delta(epsilon, 1, 4, noise, 1.0, -1.0, others)
    two = _fixed_size_delta(epsilon, 2, 4, noise * math.sqrt(2), 1.0, -1.0, others)
    return max(one, two)


@pytest.mark.parametrize("epsilon", [0.1, 0.7, 1.5])
@pytest.mark.parametrize("others", [(1, 1, 1), (-1, -1, -1), (1, -1, 0)])
def test_dropping_out_by_chance_is_bounded(epsilon, others):
    threat = ThreatModel(
        *(OUTSIDER, SHARED, FixedCohort(2, 4)), survivors=1, amplify=True
    )
    bound = delta_interval(effective_event(threat, 1.0, 1), epsilon).upper
    assert _dropout_delta(epsilon, others, 1.0) <= bound + 1e-9
    reached = delta_interval(reached_event(threat, 1.0, 1), epsilon)
    assert reached.lower <= bound


def test_why_dropouts_are_not_amplified_by_default():
    """Three of four clients never arrive: whoever arrives is the fourth."""
    exact = norm.cdf(1.0 - 0.5 / 2.0) - math.exp(0.5) * norm.cdf(-1.0 - 0.5 / 2.0)
    sampled = ThreatModel(
        *(OUTSIDER, SHARED, FixedCohort(2, 4)), survivors=1, amplify=True
    )
    careful = ThreatModel(OUTSIDER, SHARED, FixedCohort(2, 4), survivors=1)
    assert delta_interval(effective_event(sampled, 1.0, 1), 0.5).upper < exact
    found = delta_interval(effective_event(careful, 1.0, 1), 0.5)
    assert found.upper == pytest.approx(exact)


# --- the other way ---------------------------------------------------------------


def test_the_repair_is_sqrt_k_times_the_print():
    printed, mended = as_printed(0.748028, 5, 100), repaired(0.748028, 5, 100)
    assert mended.noise_std == pytest.approx(2 * 0.748028 / math.sqrt(5))
    assert mended.noise_std / printed.noise_std == pytest.approx(math.sqrt(5))
    assert mended.multiplier == pytest.approx(0.748028)


@pytest.mark.parametrize("placement", [SHARED, LOCAL])
@pytest.mark.parametrize("view", [SUM, MESSAGES, OUTSIDER])
def test_noise_and_multiplier_are_inverse(view, placement):
    threat = ThreatModel(view, placement, FIVE, clipping=Clipping((0.3, 1.1)))
    for wanted in (0.01, 1.0, 1 / 3, 77.7):
        std = noise_std(threat, wanted)
        assert effective_multiplier(threat, std) >= wanted
        assert effective_multiplier(threat, std) == pytest.approx(wanted, rel=1e-14)


def test_calibrated_noise_is_private_and_tight():
    threat = ThreatModel(SUM, SHARED, FIVE, survivors=4, colluding=1)
    found = noise_std_for(threat, 2.0, 1e-5, 20)
    assert exposure(threat, found, 20, 1e-5).upper <= 2.0 * (1 + 1e-9)
    assert exposure(threat, found * (1 - 1e-5), 20, 1e-5).upper > 2.0
    by_hand = calibrate(
        lambda s: effective_event(threat, s, 20), pld_curve, within(2.0, 1e-5)
    )
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_zero_out_takes_the_better_of_two_bounds():
    """Where nearly everybody takes part, not sampling beats another's message."""
    crowd = ThreatModel(OUTSIDER, SHARED, FixedCohort(99, 100), Adjacency.ZERO_OUT)
    plain = ThreatModel(SUM, SHARED, FixedCohort(99, 100), Adjacency.ZERO_OUT)
    std = noise_std(plain, 2.0)
    sampled = epsilon_interval(effective_event(crowd, std, 4), 1e-5)
    found = exposure(crowd, std, 4, 1e-5)
    assert found.upper < sampled.upper
    assert found.upper <= exposure(plain, std, 4, 1e-5).upper
    less = noise_std_for(crowd, 2.0, 1e-5, 4, tolerance=1e-4)
    assert less <= noise_std_for(plain, 2.0, 1e-5, 4) * (1 + 1e-5)


@pytest.mark.parametrize("arguments", [(0.0, 1e-5, 4), (1.0, 0.0, 4), (1.0, 1e-5, 0)])
def test_a_target_outside_its_domain(arguments):
    with pytest.raises(InvalidArgumentError):
        noise_std_for(ThreatModel(SUM, LOCAL, FIVE), *arguments)


def test_no_noise_is_needed_for_a_target_that_asks_for_nothing():
    rare = ThreatModel(OUTSIDER, CENTRAL, PoissonCohort(1e-6), Adjacency.ADD_REMOVE)
    with pytest.raises(CalibrationError):
        noise_std_for(rare, 5.0, 0.5, 1)


@pytest.mark.slow
def test_a_rare_cohort_under_replace_one_with_hardly_any_noise():
    """Rate 1e-6: an epsilon of 5 at delta 0.5 is kept by the least noise tried."""
    rare = ThreatModel(OUTSIDER, CENTRAL, PoissonCohort(1e-6))
    found = noise_std_for(rare, 5.0, 0.5, 1, tolerance=1e-3, rtol=1e-2)
    event = effective_event(rare, found, 1)
    assert found < 0.03
    assert delta_interval(event, 5.0).upper <= 0.5


def test_the_printed_configuration_takes_names():
    named = as_printed(0.9, 5, 100, placement="central", adjacency="zero-out")
    assert named == as_printed(
        0.9, 5, 100, placement=CENTRAL, adjacency=Adjacency.ZERO_OUT
    )


def test_the_noise_of_a_product_by_simulation():
    """N73: E ||(A + N_A)(B + N_B) - AB||^2 against 20,000 draws."""
    rng = np.random.default_rng(3)
    n, r, m, s, t = 6, 2, 5, 0.3, 0.4
    a, b = rng.normal(size=(n, r)), rng.normal(size=(r, m))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    noised = (a + rng.normal(0, s, (20_000, n, r))) @ (
        b + rng.normal(0, t, (20_000, r, m))
    )
    error = ((noised - a @ b) ** 2).sum(axis=(1, 2)).mean()
    assert error == pytest.approx(product_noise(1.0, 1.0, (n, r, m), s, t), rel=0.01)
    assert noised.mean(axis=0) == pytest.approx(a @ b, abs=0.02)
