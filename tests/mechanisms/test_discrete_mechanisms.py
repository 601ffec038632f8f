"""Sums on an integer grid: what they cost, what they hide, what they estimate.

Statistical tests run on fixed seeds; the stated rate is the chance that correct
code would have failed when the seed was first chosen.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from drdp.errors import (
    DrdpError,
    InvalidArgumentError,
    UnsoundThreatModelError,
    UnsupportedEventError,
)
from drdp.mechanisms import integer_grid
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.integer_grid import IntegerGrid
from drdp.mechanisms.integer_noise import DiscreteGaussianMechanism, SkellamMechanism
from drdp.mechanisms.modular import centred, secure_sum, wrapped
from drdp.mechanisms.noise import SeededNoise
from drdp.mechanisms.rotation import rotated, unrotated
from drdp.privacy.codec import dumps, loads
from drdp.privacy.distributed import discrete_gaussian_gap, rounded_norm
from drdp.privacy.events import Adjacency, PoissonSampled
from drdp.privacy.pld import pld_curve
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.releases import DiscreteGaussian, Skellam, ZeroConcentrated

ALARM = 1e-4
BOTH = [DiscreteGaussianMechanism, SkellamMechanism]
PLAIN: dict[str, Any] = {
    "noise_multiplier": 1.0,
    "clip_norm": 1.0,
    "granularity": 1 / 64,
    "length": 20,
    "clients": 10,
}
SHARED: dict[str, Any] = PLAIN | {"survivors": 5, "adjacency": "zero-out"}


class Counting:
    """Seeded words, counted."""

    secure = False

    def __init__(self, *seed: int) -> None:
        self.inner, self.taken = SeededNoise(*seed), 0

    def words(self, count: int) -> np.ndarray:
        self.taken += count
        return self.inner.words(count)


vectors = arrays.arrays(
    np.float64,
    20,
    elements=st.one_of(
        st.floats(-2.0, 2.0), st.sampled_from([0.5 / 64, 1e300, -1e-300, math.nan])
    ),
)
grids = st.builds(
    IntegerGrid,
    clip_norm=st.floats(0.01, 100.0),
    granularity=st.floats(1e-4, 0.01),
    length=st.just(20),
    rotation_seed=st.integers(0, 2**128 - 1),
    beta=st.sampled_from([math.exp(-0.5), 0.01, 1e-9]),
)


# --- rotation ------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 1000, 8192, 8193, 70_000])
def test_rotation_is_an_isometry_that_can_be_undone(length: int) -> None:
    x = np.random.default_rng(length).normal(size=length)
    y = rotated(x, 123)
    assert y.size == 1 << (length - 1).bit_length()
    assert np.linalg.norm(y) == pytest.approx(np.linalg.norm(x), rel=1e-12)
    assert np.allclose(unrotated(y, 123, length), x, rtol=0, atol=1e-12)


def test_rotation_is_hadamard_after_signs() -> None:
    from scipy.linalg import hadamard

    columns = np.array([rotated(row, 5) for row in np.eye(64)]).T
    signs = np.sign(columns[0])  # Hadamard's first row is all ones
    assert np.allclose(columns * signs, hadamard(64) / 8)
    assert 16 < (signs > 0).sum() < 48  # of 64 fair signs: false alarm below 1e-4
    twice = columns * signs @ (columns * signs)
    assert np.allclose(twice, np.eye(64))  # without signs, its own inverse


def test_rotation_spreads_the_worst_vector() -> None:
    x = np.zeros(4096)
    x[7] = 1.0
    assert np.abs(rotated(x, 1)).max() == pytest.approx(1 / 64)


def test_another_seed_is_another_rotation() -> None:
    x = np.ones(100)
    assert not np.allclose(rotated(x, 1), rotated(x, 2))


def test_the_signs_are_the_same_in_every_version() -> None:
    # raw bits of Philox: clients and server must agree for ever
    found = [int(np.sign(rotated(row, 42)[0])) for row in np.eye(8)]
    assert found == [1, -1, -1, -1, 1, 1, 1, 1]


# --- rounding ------------------------------------------------------------------


@given(vectors, grids, st.integers(0, 2**32))
def test_no_rounded_norm_exceeds_the_sensitivity(
    vector: np.ndarray, grid: IntegerGrid, seed: int
) -> None:
    found = grid.rounded(vector, SeededNoise(seed)).value
    square = sum(int(v) ** 2 for v in found)
    assert square <= grid.limit
    assert square <= Fraction(grid.sensitivity) ** 2


def test_n71_the_norm_is_the_rounded_one_cut_to_a_whole_square() -> None:
    grid = IntegerGrid(clip_norm=64.0, granularity=1.0, length=8192)
    norm = rounded_norm(64.0, 8192)
    assert norm == pytest.approx(79.0775242, abs=1e-6)
    assert grid.limit == math.floor(norm**2)
    assert norm - 0.01 < grid.sensitivity <= norm


@given(grids)
def test_sensitivity_is_the_root_of_the_limit_rounded_up(grid: IntegerGrid) -> None:
    assert Fraction(grid.sensitivity) ** 2 >= grid.limit
    assert grid.sensitivity <= math.sqrt(grid.limit) * (1 + 1e-15)


def test_one_number_has_a_whole_sensitivity() -> None:
    mechanism = DiscreteGaussianMechanism(**PLAIN | {"length": 1})
    assert mechanism.event == DiscreteGaussian(1.0, 64.0)
    between = DiscreteGaussianMechanism(**PLAIN | {"length": 1, "clip_norm": 0.999})
    assert between.event.sensitivity == 64.0  # 63.936 rounds up to it
    exact = pld_curve(mechanism.event)
    assert exact.delta(1.0) < rdp_curve(mechanism.event).delta(1.0)


def test_rounding_that_is_never_refused_is_unbiased() -> None:
    grid = IntegerGrid(clip_norm=3.0, granularity=1.0, length=16, beta=1e-300)
    assert grid.limit == math.floor((3.0 + 4.0) ** 2)
    vector = np.linspace(-0.7, 0.7, 16)
    rng, count = SeededNoise(1), 40_000
    total = sum(grid.rounded(vector, rng).value for _ in range(count))
    error = (total / count - rotated(vector, 0)) * math.sqrt(count)
    # each coordinate's standard deviation is at most 1/2; 16 coordinates
    assert np.abs(error).max() < 0.5 * stats.norm.isf(ALARM / 32)


def test_bias_of_conditional_rounding_is_small() -> None:
    grid = IntegerGrid(clip_norm=8.0, granularity=1.0, length=256)
    vector = np.full(256, 0.5)
    rng, count = SeededNoise(2), 4000
    total = sum(grid.rounded(vector, rng).value for _ in range(count))
    bias = np.linalg.norm(total / count - rotated(vector, 0))
    assert bias < 0.6 * math.sqrt(256 / count)  # nothing beyond chance


def test_rounding_that_never_fits_ends_all_the_same() -> None:
    bits = np.random.Philox(key=1)
    assert integer_grid._rounded(np.full(4, 0.999), 0, bits).tolist() == [0] * 4
    assert integer_grid._rounded(np.full(4, 1.999), 4, bits).tolist() == [1] * 4
    assert integer_grid._rounded(np.full(4, 3.5), 4, bits).tolist() == [0] * 4


@given(vectors, vectors)
def test_each_rounding_takes_two_words_whatever_it_rounds(
    left: np.ndarray, right: np.ndarray
) -> None:
    grid = IntegerGrid(clip_norm=1.0, granularity=0.1, length=20)
    for vector in (left, right):
        rng = Counting(3)
        grid.rounded(vector, rng)
        assert rng.taken == 2


def test_what_is_not_finite_counts_as_zero_and_is_counted() -> None:
    mechanism = DiscreteGaussianMechanism(**PLAIN, rounding=SeededNoise(4))
    clean = replace(mechanism, rounding=SeededNoise(4))
    vector = np.full(20, 0.1)
    vector[[2, 5, 7]] = math.nan, math.inf, -math.inf
    found = mechanism.bounded(vector)
    assert (found.zeroed, found.clipped) == (3, True)
    vector[[2, 5, 7]] = 0.0
    assert np.array_equal(found.value, clean.bound(vector))


@pytest.mark.parametrize("kind", BOTH)
def test_contributions_of_any_kind(kind: Any) -> None:
    flat = np.linspace(-0.1, 0.1, 20)
    forms = [
        flat.astype(np.float32),
        flat.astype(np.float16).astype(np.float64),
        flat.reshape(4, 5),
        {"b": flat[8:], "a": flat[:8].reshape(2, 4)},
        [torch.tensor(flat[:5]), torch.tensor(flat[5:]).reshape(3, 5)],
    ]
    for form in forms:
        mechanism = kind(**PLAIN, rounding=SeededNoise(5))
        found = mechanism.bound(form)
        assert found.dtype == np.int64
        assert mechanism.unwrap(found) == pytest.approx(flat, abs=0.05)
    assert not mechanism.bound(np.zeros(20)).any()


# --- sensitivity ---------------------------------------------------------------


def totals(
    mechanism: Any, cohort: list[np.ndarray], rng: SeededNoise
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The total without noise, each unit's rounding under a key of its own."""
    parts = [
        replace(mechanism, rounding=rng.spawn("unit", i)).bound(vector)
        for i, vector in enumerate(cohort)
    ]
    return secure_sum(parts, mechanism.bits), parts


@settings(max_examples=40)
@given(
    st.lists(vectors, min_size=1, max_size=5),
    vectors,
    st.integers(0, 99),
    st.sampled_from(list(Adjacency)),
    st.sampled_from(BOTH),
)
def test_neighbouring_totals_differ_by_at_most_the_sensitivity(
    cohort: list[np.ndarray],
    other: np.ndarray,
    seed: int,
    adjacency: Adjacency,
    kind: Any,
) -> None:
    mechanism = kind(**PLAIN | {"adjacency": adjacency})
    rng = SeededNoise(seed)
    neighbour = list(cohort)
    if adjacency is Adjacency.ADD_REMOVE:
        neighbour.pop()
    elif adjacency is Adjacency.ZERO_OUT:
        neighbour[-1] = np.zeros(20)
    else:
        neighbour[-1] = other
        rng = SeededNoise(seed)
    first, _ = totals(mechanism, cohort, rng)
    second = np.zeros(32, dtype=np.int64)
    if neighbour:
        second, _ = totals(mechanism, neighbour, SeededNoise(seed))
    moved = centred(first - second, mechanism.bits)
    square = int(moved @ moved)
    assert square <= Fraction(mechanism.aggregation.sensitivity) ** 2
    assert np.abs(moved).sum() <= mechanism.aggregation.l1_sensitivity
    assert mechanism.event.sensitivity == mechanism.aggregation.sensitivity


def test_the_sensitivity_is_nearly_attained() -> None:
    mechanism = SkellamMechanism(**PLAIN | {"adjacency": "replace-one"})
    u = np.zeros(20)
    u[0] = 1.0
    moved = mechanism.bound(u) - mechanism.bound(-u)
    assert np.linalg.norm(moved) > 0.9 * 2 * 64
    assert mechanism.aggregation.sensitivity < 1.2 * 2 * 64


@settings(max_examples=25)
@given(vectors, vectors, st.sampled_from(BOTH), st.booleans())
def test_noise_and_its_cost_do_not_depend_on_the_data(
    left: np.ndarray, right: np.ndarray, kind: Any, in_shares: bool
) -> None:
    """Gray box: same event, same words taken, same noise on neighbouring inputs."""
    seen = []
    for vector in (left, right):
        mechanism = kind(**SHARED if in_shares else PLAIN, rounding=SeededNoise(6))
        rng = Counting(7)
        bounded = mechanism.bound(vector)
        noised = mechanism._noised("total", bounded, rng)
        noise = centred(noised - bounded, mechanism.bits)
        seen.append((mechanism.event, rng.taken, noise.tolist()))
    assert seen[0] == seen[1]


# --- events --------------------------------------------------------------------


def test_events_state_the_inflated_norm() -> None:
    gaussian = DiscreteGaussianMechanism(**PLAIN)
    far = gaussian.aggregation.sensitivity
    assert far > 64
    assert gaussian.event == DiscreteGaussian(1.0, far, 32)
    skellam = SkellamMechanism(**PLAIN)
    assert skellam.event == Skellam(
        skellam.event.variance, far, 32, skellam.aggregation.l1_sensitivity
    )
    assert skellam.event.variance == pytest.approx(far**2, rel=1e-14)
    assert skellam.event.l1_sensitivity == pytest.approx(math.sqrt(32) * far)
    for mechanism in (gaussian, skellam):
        assert loads(dumps(mechanism.event)) == mechanism.event


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("z", [0.3, 1.0, 7.7])
@pytest.mark.parametrize("survivors", [1, 3, 7, 10])
def test_the_noise_drawn_is_at_least_the_noise_stated(
    kind: Any, z: float, survivors: int
) -> None:
    changes = {"noise_multiplier": z, "survivors": survivors}
    mechanism = kind(**SHARED | changes)
    far = Fraction(mechanism.aggregation.sensitivity)
    stated = (Fraction(z) * far) ** 2
    if kind is SkellamMechanism:
        drawn = survivors * Fraction(mechanism.share_variance)
        assert Fraction(mechanism.event.variance) <= drawn
        assert mechanism.event.variance == pytest.approx(float(drawn), rel=1e-15)
    else:
        drawn = survivors * Fraction(mechanism.share_scale) ** 2
    assert stated <= drawn <= stated * (1 + Fraction(1, 10**14))


@pytest.mark.parametrize("kind", BOTH)
def test_replace_one_doubles_noise_and_sensitivity(kind: Any) -> None:
    once = kind(**PLAIN)
    twice = kind(**PLAIN | {"adjacency": "replace-one"})
    assert twice.adjacency is Adjacency.REPLACE_ONE
    assert twice.event.sensitivity == 2 * once.event.sensitivity
    once_std = math.sqrt(once.aggregation.width(0.0) ** 2)
    assert twice.aggregation.width(0.0) == once_std
    if kind is SkellamMechanism:
        assert twice.share_variance == pytest.approx(4 * once.share_variance)
        assert twice.event.l1_sensitivity == 2 * once.event.l1_sensitivity
        loose = Skellam(twice.event.variance, twice.event.sensitivity, 32)
        assert twice.event.l1_sensitivity <= loose.l1_sensitivity
    else:
        assert twice.share_scale == pytest.approx(2 * once.share_scale)


@pytest.mark.parametrize(
    ("shares", "scale", "tau"),
    [(5, 1.0, 5.416096e-4), (5, 2.0, 7.157180e-17), (100, 1.0, 5.477887e-4)],
)
def test_n70_shares_cost_what_their_gap_adds(
    shares: int, scale: float, tau: float
) -> None:
    assert discrete_gaussian_gap(shares, scale) == pytest.approx(tau, rel=1e-6)
    far = IntegerGrid(clip_norm=1.0, granularity=1 / 8, length=4).sensitivity
    mechanism = DiscreteGaussianMechanism(
        noise_multiplier=scale * math.sqrt(shares) / far,
        clip_norm=1.0,
        granularity=1 / 8,
        length=4,
        clients=shares,
        survivors=shares,
        adjacency=Adjacency.ZERO_OUT,
    )
    assert mechanism.share_scale == pytest.approx(scale, rel=1e-12)
    plain = far / (math.sqrt(shares) * scale)
    joint, apart = math.sqrt(plain**2 + 2.0 * tau), plain + 2.0 * tau
    assert mechanism.event.rho == pytest.approx(min(joint, apart) ** 2 / 2, rel=1e-9)


def test_n72_the_skellam_bound() -> None:
    grid = {"clip_norm": 9.5, "granularity": 1.0, "length": 1, "clients": 1}
    mechanism = SkellamMechanism(noise_multiplier=math.sqrt(10.0), **grid)
    event = mechanism.event
    assert (event.sensitivity, event.l1_sensitivity) == (10.0, 10.0)
    assert event.variance == pytest.approx(1000.0)
    from drdp.privacy.divergence import log_moment

    wide = Skellam(1000.0, 10.0, 100, 100.0)
    assert log_moment(wide, 2.0) == pytest.approx(0.100225, abs=1e-6)
    assert log_moment(event, 2.0) <= log_moment(wide, 2.0)  # less far in L1


@pytest.mark.parametrize("kind", BOTH)
def test_a_poisson_sampled_vector_is_refused_and_the_event_itself_is_not(
    kind: Any,
) -> None:
    event = kind(**PLAIN).event
    for accountant in (rdp_curve, pld_curve):
        with pytest.raises(UnsupportedEventError, match="leave the sampling out"):
            accountant(PoissonSampled(0.1, event))
    assert 3.0 < rdp_curve(event).epsilon(1e-5) < 6.0


@pytest.mark.parametrize("kind", BOTH)
def test_more_survivors_need_less_noise_each_for_the_same_event(kind: Any) -> None:
    few, many = (kind(**SHARED | {"survivors": n}) for n in (2, 8))
    epsilons = [rdp_curve(m.event).epsilon(1e-5) for m in (few, many)]
    assert epsilons[0] == pytest.approx(epsilons[1], rel=1e-6)
    if kind is SkellamMechanism:
        assert few.share_variance == pytest.approx(4 * many.share_variance)
    else:
        assert few.share_scale == pytest.approx(2 * many.share_scale)
        assert isinstance(few.event, ZeroConcentrated)


# --- sums modulo 2^b -----------------------------------------------------------


@given(
    st.lists(
        arrays.arrays(np.int64, 3, elements=st.integers(-(2**62), 2**62)), min_size=1
    ),
    st.integers(1, 62),
)
def test_secure_sum_is_the_sum_modulo(messages: list[np.ndarray], bits: int) -> None:
    found = secure_sum([wrapped(m, bits) for m in messages], bits)
    true = [sum(int(m[i]) for m in messages) % (1 << bits) for i in range(3)]
    assert found.tolist() == true
    assert secure_sum(messages, bits).tolist() == true
    again = centred(found, bits)
    assert wrapped(again, bits).tolist() == true
    half = 1 << (bits - 1)
    assert all(-half <= int(v) < half for v in again)


@pytest.mark.parametrize("kind", BOTH)
def test_an_empty_cohort_is_released_like_any_other(kind: Any) -> None:
    mechanism = kind(**PLAIN)
    total = secure_sum([], mechanism.bits, length=32)
    assert mechanism.release(total, SeededNoise(8)).any()


@pytest.mark.parametrize("kind", BOTH)
def test_the_order_of_wrapping_does_not_matter(kind: Any) -> None:
    mechanism = kind(**PLAIN, rounding=SeededNoise(9))
    parts = [mechanism.bound(np.full(20, x)) for x in (-0.1, -0.2, 0.05)]
    plain = mechanism.release(sum(parts), SeededNoise(10))
    summed = mechanism.release(secure_sum(parts, mechanism.bits), SeededNoise(10))
    assert np.array_equal(plain, summed)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("given_bits", [None, 0])
def test_totals_do_not_wrap_with_the_bits_by_default(
    kind: Any, given_bits: int | None
) -> None:
    mechanism = kind(**SHARED)
    if given_bits is not None:  # as few as are allowed
        with pytest.raises(InvalidArgumentError) as caught:
            replace(mechanism, bits=1)
        least = int(str(caught.value).split("at least ")[1].split()[0])
        assert least <= mechanism.bits
        assert replace(mechanism, bits=least).wrap_chance < 32 * 7e-5
        return
    assert mechanism.wrap_chance < 1e-6
    vector = np.ones(20)
    for seed in range(50):
        rng = SeededNoise(11, seed)
        chosen = replace(mechanism, rotation_seed=seed, rounding=rng.spawn("round"))
        noise = rng.spawn("noise")
        messages = [chosen.share(chosen.bound(vector), noise) for _ in range(10)]
        assert all(m.min() >= 0 and m.max() < 2**chosen.bits for m in messages)
        found = chosen.unwrap(secure_sum(messages, chosen.bits))
        # a wrap moves the estimate by 2^bits granularity / sqrt(d), far more
        std = math.sqrt(2.0) * chosen.aggregation.sensitivity / 64
        assert np.abs(found - 10 / math.sqrt(20)).max() < 7 * std


# --- end to end ----------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("in_shares", [False, True])
def test_a_total_is_as_good_as_with_plain_gaussian_noise(
    kind: Any, in_shares: bool
) -> None:
    """The error's variance is that of the noise and the roundings, nothing else."""
    length, clients, z = 4096, 20, 0.8
    mechanism = kind(
        noise_multiplier=z,
        clip_norm=1.0,
        granularity=1 / 2048,
        length=length,
        clients=clients,
        survivors=clients if in_shares else None,
        adjacency=Adjacency.ZERO_OUT,
        rounding=SeededNoise(12),
    )
    gaussian = GaussianMechanism(noise_multiplier=z, clip_norm=1.0)
    data = np.random.default_rng(13)
    vectors = data.normal(size=(clients, length)) / math.sqrt(length)
    vectors *= data.uniform(0.3, 3.0, size=(clients, 1))
    clipped = [gaussian.bound(v) for v in vectors]
    assert min(np.linalg.norm(v) for v in clipped) < 0.6
    truth = np.sum(clipped, axis=0)
    rng = SeededNoise(14)
    bounded = [mechanism.bound(v) for v in vectors]
    if in_shares:
        messages = [mechanism.share(b, rng) for b in bounded]
        found = mechanism.unwrap(secure_sum(messages, mechanism.bits))
    else:
        found = mechanism.release(secure_sum(bounded, mechanism.bits), rng)
    plain = gaussian.release(truth, rng)
    errors = [found - truth, plain - truth]
    inflation = mechanism.aggregation.sensitivity / 2048
    assert 1.0 < inflation < 1.002
    for error, std in zip(errors, (z * inflation, z), strict=True):
        # the sum of squares is chi-square with 4096 degrees of freedom
        ratio = float(error @ error) / std**2
        low, high = stats.chi2.interval(1 - ALARM, length)
        assert low < ratio < high * 1.001
        assert abs(error.mean()) < stats.norm.isf(ALARM / 2) * std / 64
        assert stats.kstest(error / std, "norm").pvalue > ALARM


@pytest.mark.parametrize("kind", BOTH)
def test_shares_of_zero_updates_are_all_noise(kind: Any) -> None:
    mechanism = kind(**SHARED | {"length": 8192, "clients": 5})
    rng = SeededNoise(15)
    zero = mechanism.bound(np.zeros(8192))
    messages = [mechanism.share(zero, rng) for _ in range(5)]
    total = centred(secure_sum(messages, mechanism.bits), mechanism.bits)
    variance = mechanism.aggregation.sensitivity**2
    ratio = float((total.astype(float) ** 2).sum()) / variance
    low, high = stats.chi2.interval(1 - ALARM, 8192)
    assert low < ratio < high


# --- bad input -----------------------------------------------------------------

BAD_ARGUMENTS = [
    ({"noise_multiplier": 0.0}, "noise_multiplier"),
    ({"noise_multiplier": math.nan}, "noise_multiplier"),
    ({"clip_norm": -1.0}, "clip_norm"),
    ({"granularity": 2.0}, "granularity"),
    ({"granularity": 1e-12}, "granularity"),
    ({"length": 0}, "length"),
    ({"length": 2.5}, "length"),
    ({"length": 1 << 40}, "length"),
    ({"clients": 0}, "clients"),
    ({"survivors": 11, "adjacency": "zero-out"}, "survivors"),
    ({"adjacency": "sideways"}, "adjacency"),
    ({"bits": 3}, "bits must be at least"),
    ({"bits": 63}, "bits must be at most 62"),
    ({"rotation_seed": -1}, "rotation_seed"),
    ({"rotation_seed": 1 << 128}, "rotation_seed"),
    ({"beta": 1.0}, "beta"),
    ({"noise_multiplier": 1e12}, "granularity"),
    ({"clients": 10**18, "granularity": 1e-8}, "granularity"),
]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("changes", "named"), BAD_ARGUMENTS)
def test_bad_arguments_are_one_clear_line(
    kind: Any, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        kind(**PLAIN | changes)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shares_too_small_for_a_sum_are_refused_for_the_gaussian_alone() -> None:
    coarse = SHARED | {"granularity": 1.0, "length": 4, "noise_multiplier": 0.5}
    with pytest.raises(InvalidArgumentError, match=r"granularity .* sqrt\(1/2\)"):
        DiscreteGaussianMechanism(**coarse)
    assert SkellamMechanism(**coarse).share_variance < 0.5


@pytest.mark.parametrize("kind", BOTH)
def test_shares_under_add_remove_are_refused(kind: Any) -> None:
    with pytest.raises(UnsoundThreatModelError, match="zero-out or replace-one"):
        kind(**PLAIN, survivors=3)


USES = [
    (lambda m, _: m.bound(np.zeros(19)), "length=20 entries, got 19"),
    (lambda m, _: m.bound(np.zeros(20, dtype=int)), "contribution"),
    (lambda m, _: m.bound("noise"), "contribution"),
    (lambda m, _: m.unwrap(np.zeros(32)), "vectors of integers"),
    (lambda m, _: m.unwrap(np.zeros(20, dtype=int)), "32 entries, got 20"),
    (lambda m, _: m.unwrap(np.full(32, 1 << 63, dtype=np.uint64)), "below 2^63"),
    (lambda m, _: m.unwrap(np.zeros((4, 8), dtype=int)), "2 dimensions"),
    (lambda _, __: secure_sum([], 8), "messages must not be empty"),
    (lambda _, __: secure_sum([np.zeros(3)], 8), "vectors of integers"),
    (lambda _, __: secure_sum([np.zeros(3, int), np.zeros(4, int)], 8), "3 entries"),
    (lambda _, __: secure_sum([np.zeros(3, int)], 0), "bits"),
    (lambda _, __: secure_sum([np.zeros(3, int)], 63), "bits"),
]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("use", "named"), USES)
def test_bad_data_is_one_clear_line(kind: Any, use: Any, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        use(kind(**PLAIN), SeededNoise(1))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", BOTH)
def test_noise_for_the_wrong_place_is_refused(kind: Any) -> None:
    rng, zero = SeededNoise(1), np.zeros(32, dtype=np.int64)
    with pytest.raises(DrdpError, match="survivors must be set"):
        kind(**PLAIN).share(zero, rng)
    with pytest.raises(DrdpError, match="call `unwrap`"):
        kind(**SHARED).release(zero, rng)
    with pytest.raises(InvalidArgumentError, match="bounded must be vectors of int"):
        kind(**SHARED).share(np.zeros(32), rng)


@pytest.mark.parametrize("kind", BOTH)
def test_a_mechanism_is_frozen_and_compares_by_value(kind: Any) -> None:
    mechanism = kind(**PLAIN)
    assert mechanism == kind(**PLAIN)
    assert hash(mechanism) == hash(kind(**PLAIN))
    assert isinstance(mechanism.bits, int)
    with pytest.raises(AttributeError):
        mechanism.clip_norm = 2.0
