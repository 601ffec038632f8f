"""Gaussian and Laplace releases: their noise, their events, their edges.

Statistical tests run on fixed seeds; ALARM is the chance that a correct release
would have failed when the seed was chosen, for each test and case.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from drdp.errors import CalibrationError, InvalidArgumentError
from drdp.mechanisms.gaussian import GaussianMechanism, analytic_gaussian
from drdp.mechanisms.laplace import LaplaceMechanism
from drdp.mechanisms.noise import SecureNoise, SeededNoise
from drdp.mechanisms.noised import GRID, grid_step
from drdp.mechanisms.protocol import Mechanism, NoiseSource
from drdp.mechanisms.totals import averaged, summed, weighted_bound, zeros
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.blocks import Clipping
from drdp.privacy.events import (
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    atoms,
)
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.pld import pld_curve

torch.set_num_threads(1)
ALARM = 1e-4
KINDS = {"gaussian": GaussianMechanism, "laplace": LaplaceMechanism}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def make(kind: str, noise: float = 1.5, norm: float = 2.0, **options: Any) -> Any:
    return KINDS[kind](noise_multiplier=noise, clip_norm=norm, **options)


def scale_of(mechanism: Any) -> float:
    if isinstance(mechanism, GaussianMechanism):
        return mechanism.noise_std
    return mechanism.noise_scale


# --- what a release is -------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("adjacency", list(Adjacency))
@pytest.mark.parametrize("source", ["secure", "seeded"])
def test_the_noise_has_its_law(kind: str, adjacency: Adjacency, source: str) -> None:
    mechanism = make(kind, adjacency=adjacency)
    rng: NoiseSource = (
        SecureNoise._with_key(b"k" * 32) if source == "secure" else SeededNoise(11)
    )
    total = np.linspace(-3.0, 3.0, 200_000)
    noise = mechanism.release(total, rng) - total
    far = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0
    assert mechanism.sensitivity == far * 2.0
    law = (stats.norm if kind == "gaussian" else stats.laplace)(scale=1.5 * far * 2.0)
    assert stats.kstest(noise, law.cdf).pvalue > ALARM
    counts = np.bincount((100 * law.cdf(noise)).astype(int), minlength=100)
    assert stats.chisquare(counts).pvalue > ALARM
    for edge in (3.0, 4.0):
        expected = noise.size * 2.0 * law.sf(edge * law.std())
        low, high = stats.poisson(expected).ppf([ALARM / 2, 1 - ALARM / 2])
        assert low <= np.count_nonzero(abs(noise) > edge * law.std()) <= high


@every_kind
def test_worst_neighbours_are_told_apart_as_often_as_the_event_says(kind: str) -> None:
    # 400,000 releases of one number; the best test has the advantage delta(0)
    mechanism, count = make(kind, noise=0.8), 400_000
    rng = SeededNoise(12)
    absent = mechanism.release(np.zeros(count), rng)
    present = mechanism.release(np.full(count, mechanism.sensitivity), rng)
    middle = mechanism.sensitivity / 2.0
    gained = np.mean(present > middle) - np.mean(absent > middle)
    truth = pld_curve(mechanism.event).delta(0.0)
    assert abs(gained - truth) < stats.norm.isf(ALARM / 2) * math.sqrt(0.5 / count)


@every_kind
def test_arrays_of_one_total_have_independent_noise(kind: str) -> None:
    mechanism = make(kind)
    a, b = mechanism.release([np.zeros(100_000), np.zeros(100_000)], SeededNoise(13))
    limit = stats.norm.isf(ALARM / 2) / math.sqrt(a.size)
    assert abs(np.corrcoef(a, b)[0, 1]) < limit
    assert abs(np.corrcoef(abs(a), abs(b))[0, 1]) < limit


def test_blocks_get_the_noise_of_their_ratio() -> None:
    clipping = Clipping((1.0, 2.0), (0.5, 4.0))
    mechanism = GaussianMechanism(noise_multiplier=1.0, clipping=clipping)
    assert mechanism.sensitivity == math.hypot(2.0, 0.5)
    total = {"b": [np.zeros(50_000), np.zeros(50_000)], "a": np.zeros(100_000)}
    found = mechanism.release(total, SeededNoise(14))
    for noise, ratio in ((found["a"], 0.5), (np.concatenate(found["b"]), 4.0)):
        law = stats.norm(scale=ratio * mechanism.sensitivity)
        assert stats.kstest(noise, law.cdf).pvalue > ALARM


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_release_lies_on_the_grid(kind: str, dtype: type) -> None:
    mechanism = make(kind)
    step = grid_step(scale_of(mechanism))
    assert GRID * scale_of(mechanism) <= step < 2.0 * GRID * scale_of(mechanism)
    total = np.random.default_rng(1).normal(size=10_000).astype(dtype)
    released = mechanism.release(total, SeededNoise(15)).astype(float)
    assert np.array_equal(np.rint(released / step) * step, released)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 2.0**20, 3.0, 1e34])
def test_the_grid_is_a_power_of_two(scale: float) -> None:
    step = grid_step(scale)
    assert math.frexp(step)[0] == 0.5
    assert scale * GRID <= step < 2.0 * scale * GRID


@every_kind
def test_a_source_is_replayed_or_not(kind: str) -> None:
    mechanism, total = make(kind), torch.zeros(5)
    one = mechanism.release(total, SeededNoise(7))
    assert torch.equal(one, mechanism.release(total, SeededNoise(7)))
    assert not torch.equal(one, mechanism.release(total, SeededNoise(8)))
    rng = SecureNoise()
    assert not torch.equal(mechanism.release(total, rng), mechanism.release(total, rng))


# --- events ------------------------------------------------------------------------


@every_kind
def test_it_is_a_mechanism_that_states_its_event(kind: str) -> None:
    mechanism: Mechanism = make(kind)
    event = {"gaussian": Gaussian, "laplace": Laplace}[kind]
    assert mechanism.event == event(1.5)
    assert make(kind, adjacency="zero-out").event == event(1.5)
    replaced = make(kind, adjacency="replace-one")
    assert replaced.event == event(1.5)
    assert replaced.per_contribution == event(3.0)


def test_per_contribution_is_what_poisson_sampling_wants() -> None:
    mechanism = GaussianMechanism(
        noise_multiplier=1.0, clip_norm=1.0, adjacency=Adjacency.REPLACE_ONE
    )
    relation = Adjacency.REPLACE_ONE
    everyone = PoissonSampled(1.0, mechanism.per_contribution, relation)
    assert atoms(everyone) == atoms(mechanism.event)
    tight = pld_curve(PoissonSampled(0.1, mechanism.per_contribution, relation))
    loose = pld_curve(PoissonSampled(0.1, mechanism.event, relation))
    assert tight.epsilon(1e-5) < loose.epsilon(1e-5)
    assert atoms(FixedSizeSampled(5, 5, mechanism.event)) == atoms(mechanism.event)


@every_kind
def test_no_noise_costs_everything(kind: str) -> None:
    mechanism = make(kind, noise=0.0)
    assert atoms(mechanism.event) == {NonPrivate(): 1}
    total = np.array([0.1, 0.2])
    assert np.array_equal(mechanism.release(total, SeededNoise(1)), total)


@pytest.mark.parametrize(
    ("epsilon", "delta", "noise"),  # N13: Balle and Wang 2018
    [
        (1.0, 1e-5, 3.7306316),
        (0.5, 1e-6, 8.0576185),
        (8.0, 1e-5, 0.6002291),
        (2.0, 1 / 149, 1.1766726),
    ],
)
def test_analytic_calibration(epsilon: float, delta: float, noise: float) -> None:
    mechanism = analytic_gaussian(epsilon, delta, clip_norm=3.0)
    assert mechanism.noise_multiplier == pytest.approx(noise, abs=1e-6)
    assert mechanism.clip_norm == 3.0
    assert gdp_curve(mechanism.event).delta(epsilon) <= delta
    less = Gaussian(mechanism.noise_multiplier * (1.0 - 1e-8))
    assert gdp_curve(less).delta(epsilon) > delta


def test_analytic_calibration_checks_its_budget() -> None:
    with pytest.raises(InvalidArgumentError, match="delta must"):
        analytic_gaussian(1.0, 0.0, clip_norm=1.0)
    with pytest.raises(InvalidArgumentError, match="epsilon must"):
        analytic_gaussian(-1.0, 1e-5, clip_norm=1.0)
    with pytest.raises(CalibrationError):
        analytic_gaussian(1e9, 1e-5, clip_norm=1.0)


# --- edges -------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("like", [np.zeros(1000), torch.zeros(1000)], ids=type)
def test_an_empty_cohort_is_released_with_noise(kind: str, like: Any) -> None:
    mechanism = make(kind)
    for total in (zeros(like), summed([], like=like)):
        found = np.asarray(mechanism.release(total, SeededNoise(3)))
        assert found.std() > 0.5 * scale_of(mechanism)


@every_kind
def test_totals_without_entries_are_released(kind: str) -> None:
    mechanism = make(kind)
    assert mechanism.release(np.zeros((0, 3)), SeededNoise(3)).shape == (0, 3)
    assert mechanism.release([], SeededNoise(3)) == []
    assert mechanism.release(np.zeros(()), SeededNoise(3)).shape == ()
    strided = np.zeros((100, 100), np.float32)[::2, ::3]
    assert mechanism.release(strided, SeededNoise(3)).shape == (50, 34)


@every_kind
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_totals_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    for total in (np.array([0.0, bad]), [np.zeros(1), torch.tensor([bad])]):
        with pytest.raises(InvalidArgumentError, match="must be finite"):
            make(kind).release(total, SeededNoise(3))


@every_kind
def test_integers_are_refused(kind: str) -> None:
    for value in (np.ones(3, np.int32), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(InvalidArgumentError, match="use a discrete mechanism"):
            make(kind).release(value, SeededNoise(3))
        with pytest.raises(InvalidArgumentError, match="use a discrete mechanism"):
            make(kind).bound(value)


@every_kind
def test_half_precision_is_bounded_and_released_in_single(kind: str) -> None:
    mechanism = make(kind)
    for value in (
        np.ones(2000, np.float16),
        torch.ones(2000, dtype=torch.bfloat16),
        torch.ones(2000, dtype=torch.float16, requires_grad=True),
    ):
        bounded = mechanism.bound(value)
        released = mechanism.release(value, SeededNoise(3))
        for found in (bounded, released):
            assert str(found.dtype).endswith("float32")
        assert len(np.unique(np.asarray(released))) > 1990  # no half-precision grid


@every_kind
def test_the_total_is_left_as_it_was(kind: str) -> None:
    total = np.ones(5)
    make(kind).release(total, SeededNoise(3))
    assert np.array_equal(total, np.ones(5))


def test_the_total_must_have_the_blocks() -> None:
    mechanism = GaussianMechanism(noise_multiplier=1.0, clipping=Clipping((1.0, 1.0)))
    with pytest.raises(
        InvalidArgumentError, match="total must have one entry for each"
    ):
        mechanism.release([np.ones(1)] * 3, SeededNoise(1))


@every_kind
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"noise_multiplier": -1.0, "clip_norm": 1.0}, "noise_multiplier must"),
        ({"noise_multiplier": 1.0, "clip_norm": 0.0}, "clip_norm must"),
        ({"noise_multiplier": 1.0, "clip_norm": 1e31}, "clip_norm must"),
        ({"noise_multiplier": 1e20, "clip_norm": 1e20}, "noise must be 0 or lie in"),
        ({"noise_multiplier": 1e-9, "clip_norm": 1e-24}, "noise must be 0 or lie in"),
        (
            {"noise_multiplier": 1.0, "clip_norm": 1.0, "adjacency": "swap"},
            "adjacency must be one of",
        ),
    ],
)
def test_arguments_are_checked(kind: str, options: dict, match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match):
        KINDS[kind](**options)


def test_a_gaussian_needs_one_bound() -> None:
    with pytest.raises(
        InvalidArgumentError, match="clip_norm or clipping must be given"
    ):
        GaussianMechanism(noise_multiplier=1.0)
    with pytest.raises(InvalidArgumentError, match="clip_norm must be left out"):
        GaussianMechanism(
            noise_multiplier=1.0, clip_norm=3.0, clipping=Clipping((1.0, 1.0))
        )
    made = GaussianMechanism(noise_multiplier=1.0, clipping=Clipping((3.0, 4.0)))
    assert made.clip_norm == 5.0
    assert dataclasses.replace(made, noise_multiplier=2.0).noise_std == 10.0
    assert hash(made) == hash(dataclasses.replace(made))


# --- sums, weights, means ----------------------------------------------------------


def test_sums_refuse_what_would_be_broadcast() -> None:
    like = [np.zeros((2, 3)), np.zeros(3)]
    for other in ([np.ones((1, 3)), np.ones(3)], [np.ones((2, 3))], np.ones((2, 3))):
        with pytest.raises(InvalidArgumentError, match="contribution 1 must have the"):
            summed([like, other], like=like)


def test_sums_carry_what_rounding_drops() -> None:
    parts = [np.array([x]) for x in (1.0, 1e-17, 1e-17, 1e-17, 1e-17, 1e-17, 1e-17)]
    parts += [np.array([1e-16])] * 1000
    assert summed(parts, like=parts[0])[0] == math.fsum(float(x[0]) for x in parts)


def test_a_mean_divides_by_a_public_number() -> None:
    total = {"a": torch.full((2,), 6.0, dtype=torch.float64)}
    assert averaged(total, 4)["a"].tolist() == [1.5, 1.5]
    assert averaged(total, 300.0, largest=50.0)["a"].tolist() == [1.0, 1.0]
    for denominator in (0, -1, math.nan, None):
        with pytest.raises(InvalidArgumentError, match="denominator must"):
            averaged(total, denominator)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weight", "share"),
    [
        *((0, 0.0), (25, 0.5), (50, 1.0), (1e9, 1.0), (math.inf, 1.0)),
        *((-3, 0.0), (math.nan, 0.0), (-math.inf, 0.0)),
    ],
)
def test_weights_are_cut_at_the_public_one(weight: float, share: float) -> None:
    mechanism = GaussianMechanism(noise_multiplier=1.0, clip_norm=1.0)
    value = np.array([0.25, 0.5])
    found = weighted_bound(mechanism, value, weight, largest=50)
    assert np.array_equal(found, share * value)


def test_a_weighted_mean_is_the_plain_one_where_weights_are_equal() -> None:
    mechanism = GaussianMechanism(noise_multiplier=0.0, clip_norm=10.0)
    values = [np.array([1.0]), np.array([2.0]), np.array([6.0])]
    parts = [weighted_bound(mechanism, v, 7.0, largest=10.0) for v in values]
    total = mechanism.release(summed(parts, like=values[0]), SeededNoise(1))
    assert averaged(total, 21.0, largest=10.0) == pytest.approx([3.0])
