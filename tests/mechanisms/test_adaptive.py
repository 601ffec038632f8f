"""Adaptive clipping: its cost, its refusals, and that it finds the quantile."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drdp.errors import InvalidArgumentError
from drdp.mechanisms.adaptive import AdaptiveClip
from drdp.mechanisms.clipping import clip_l2
from drdp.mechanisms.noise import SeededNoise
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.events import Gaussian, PoissonSampled, atoms


@pytest.mark.parametrize(
    ("noise", "size", "updates"),  # N69: Andrew et al. 2021
    [(1.0, 100, 1.0050378), (0.8, 100, 0.8025724), (1.0, 1000, 1.0000500)],
)
def test_the_updates_get_the_rest_of_the_budget(
    noise: float, size: int, updates: float
) -> None:
    clip = AdaptiveClip(clip_norm=1.0, expected_size=size)
    mechanism = clip.mechanism(noise)
    assert mechanism.noise_multiplier == pytest.approx(updates, abs=1e-6)
    both = PoissonSampled(0.1, mechanism.event + clip.event)
    ((atom, times),) = atoms(both).items()
    assert times == 1
    assert atom.event.noise_multiplier == pytest.approx(noise, rel=1e-12)
    assert atom.event.noise_multiplier >= noise * (1.0 - 1e-15)


@pytest.mark.parametrize("noise", [1e-6, 0.3, 1.0, 9.0, 9.999999])
@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_together_they_never_cost_more(noise: float, adjacency: Adjacency) -> None:
    clip = AdaptiveClip(
        clip_norm=1.0, expected_size=1, count_noise=10.0, adjacency=adjacency
    )
    updates = clip.mechanism(noise).noise_multiplier
    count = clip.event.noise_multiplier
    assert updates**-2 + count**-2 == pytest.approx(noise**-2, rel=1e-9)
    assert (noise / updates) ** 2 + (noise / count) ** 2 <= 1.0


def test_the_count_costs_twice_as_much_where_one_unit_replaces_another() -> None:
    make = {
        a: AdaptiveClip(clip_norm=1, expected_size=100, adjacency=a) for a in Adjacency
    }
    assert make[Adjacency.ADD_REMOVE].event == Gaussian(10.0)  # 2 sigma_b
    assert make[Adjacency.ZERO_OUT].event == Gaussian(10.0)
    assert make[Adjacency.REPLACE_ONE].event == Gaussian(5.0)
    assert make[Adjacency.REPLACE_ONE].mechanism(1.0).sensitivity == 2.0


@pytest.mark.parametrize("noise", [0.5, 0.748, 10.0])
def test_what_cannot_be_paid_is_refused_with_the_reason(noise: float) -> None:
    paper = AdaptiveClip(clip_norm=1.0, expected_size=5)  # 2 sigma_b = 0.5
    with pytest.raises(InvalidArgumentError, match=r"must be below 0\.5.*count_noise"):
        paper.mechanism(noise)
    assert paper.mechanism(0.4999).noise_multiplier > 0.4999


def test_it_finds_the_quantile() -> None:
    norms = np.random.default_rng(1).lognormal(1.0, 1.0, size=100)
    rng = SeededNoise(2, "count")
    for quantile in (0.2, 0.5, 0.8):
        clip = AdaptiveClip(clip_norm=0.5, expected_size=100, quantile=quantile)
        tail = []
        for _ in range(100):
            mechanism = clip.mechanism(1.0)
            shares = sum(
                clip.share(mechanism.bounded(np.array([norm]))) for norm in norms
            )
            clip = clip.step(shares, rng)
            tail.append(clip.clip_norm)
        found = float(np.mean(np.array(tail[-20:])[:, None] >= norms))
        assert found == pytest.approx(quantile, abs=0.05)


def test_one_step_is_the_formula() -> None:
    clip = AdaptiveClip(clip_norm=2.0, expected_size=100, count_noise=1e-9)
    after = clip.step(20.0, SeededNoise(1))  # 70 of 100 were not clipped
    assert after.clip_norm == pytest.approx(2.0 * math.exp(-0.2 * (0.7 - 0.5)))
    assert after == AdaptiveClip(
        clip_norm=after.clip_norm, expected_size=100, count_noise=1e-9
    )
    assert clip.clip_norm == 2.0


def test_an_empty_cohort_moves_by_noise_alone() -> None:
    clip = AdaptiveClip(clip_norm=2.0, expected_size=100)
    moved = {clip.step(0.0, SeededNoise(seed)).clip_norm for seed in range(20)}
    assert len(moved) == 20
    assert all(1.8 < norm < 2.2 for norm in moved)


def test_shares_are_half_up_or_down() -> None:
    clip = AdaptiveClip(clip_norm=1.0, expected_size=100)
    assert clip.share(clip_l2(np.array([0.5]), 1.0)) == 0.5
    assert clip.share(clip_l2(np.array([5.0]), 1.0)) == -0.5
    assert clip.share(clip_l2(np.array([0.5, np.nan]), 1.0)) == -0.5
    assert clip.share(clip_l2(np.full(1, np.nan), 1.0)) == -0.5
    assert clip.share(clip_l2(np.zeros(1), 1.0)) == 0.0  # as if it were absent


@pytest.mark.parametrize("shares", [1e300, -1e300])
def test_the_clip_norm_stays_in_its_range(shares: float) -> None:
    clip = AdaptiveClip(clip_norm=1.0, expected_size=1)
    for _ in range(5):
        clip = clip.step(shares, SeededNoise(1))
    assert clip.clip_norm == (1e-25 if shares > 0 else 1e30)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"clip_norm": 0.0}, "clip_norm must"),
        ({"expected_size": 0}, "expected_size must"),
        ({"quantile": 1.0}, "quantile must"),
        ({"learning_rate": 0.0}, "learning_rate must"),
        ({"count_noise": 0.0}, "count_noise must"),
        ({"adjacency": "swap"}, "adjacency must"),
    ],
)
def test_arguments_are_checked(options: dict, match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match):
        AdaptiveClip(**({"clip_norm": 1.0, "expected_size": 10} | options))
    with pytest.raises(InvalidArgumentError, match="shares must"):
        AdaptiveClip(clip_norm=1.0, expected_size=10).step(math.nan, SeededNoise(1))
