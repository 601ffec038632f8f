"""Sensitivity: totals of neighbouring cohorts differ by at most what is declared.

Every mechanism on floats, every neighbouring relation, every weighting, numpy and
torch; sums and norms are compared in exact arithmetic.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from drdp.mechanisms.adaptive import AdaptiveClip
from drdp.mechanisms.arrays import opened
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.laplace import LaplaceMechanism
from drdp.mechanisms.totals import summed, weighted_bound
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.blocks import Clipping
from tests.mechanisms.exact import difference

torch.set_num_threads(1)
SHAPES = ((3,), (2, 2))
WEIGHTS = st.one_of(st.none(), st.floats(), st.floats(0.0, 100.0))
LARGEST = 50.0


def block(shape: tuple[int, ...], dtype: type) -> st.SearchStrategy[np.ndarray]:
    width = 32 if dtype is np.float32 else 64
    wild = st.floats(width=width)
    tame = st.floats(-100.0, 100.0, width=width)
    return arrays.arrays(dtype, shape, elements=st.one_of(tame, wild))


CONTRIBUTIONS = st.one_of(
    *(
        st.tuples(*(block(shape, dtype) for shape in SHAPES)).map(list)
        for dtype in (np.float32, np.float64)
    )
)
UNITS = st.tuples(CONTRIBUTIONS, WEIGHTS)
NORMS = st.floats(1e-6, 1e6)


@st.composite
def gaussians(draw: st.DrawFn) -> GaussianMechanism:
    adjacency = draw(st.sampled_from(Adjacency))
    kind = draw(st.sampled_from(["joint", "blocks", "ratios", "allocated"]))
    norms = (draw(NORMS), draw(NORMS))
    clipping = {
        "joint": Clipping(norms[:1]),
        "blocks": Clipping(norms),
        "ratios": Clipping(norms, (draw(st.floats(0.1, 10.0)), 1.0)),
        "allocated": Clipping.allocated(norms, (3, 4)),
    }[kind]
    return GaussianMechanism(
        noise_multiplier=1.0, clipping=clipping, adjacency=adjacency
    )


def laplaces() -> st.SearchStrategy[LaplaceMechanism]:
    return st.builds(
        LaplaceMechanism,
        noise_multiplier=st.just(1.0),
        clip_norm=NORMS,
        adjacency=st.sampled_from(Adjacency),
    )


def neighbours(cohort: list, unit: Any, adjacency: Adjacency) -> tuple[list, list]:
    """Two cohorts that are neighbours, whose first unit is what differs."""
    if adjacency is Adjacency.ADD_REMOVE:
        return cohort, cohort[1:]
    if adjacency is Adjacency.ZERO_OUT:
        zero = ([np.zeros(shape) for shape in SHAPES], cohort[0][1])
        return cohort, [zero, *cohort[1:]]
    return cohort, [unit, *cohort[1:]]


def total_of(mechanism: Any, cohort: list, *, tensors: bool) -> Any:
    like = [np.zeros(shape) for shape in SHAPES]
    bounded = []
    for contribution, weight in cohort:
        value = [torch.from_numpy(a) for a in contribution] if tensors else contribution
        bounded.append(
            mechanism.bound(value)
            if weight is None
            else weighted_bound(mechanism, value, weight, largest=LARGEST)
        )
    return summed(bounded, like=like)


@settings(max_examples=200)
@given(gaussians(), st.lists(UNITS, min_size=1, max_size=4), UNITS, st.booleans())
def test_l2_totals_differ_by_at_most_the_sensitivity(
    mechanism: GaussianMechanism, cohort: list, unit: Any, tensors: bool
) -> None:
    one, other = neighbours(cohort, unit, mechanism.adjacency)
    moved = difference(
        total_of(mechanism, one, tensors=tensors),
        total_of(mechanism, other, tensors=False),
    )
    ratios = mechanism.clipping.noise_ratios
    ratios = ratios * 2 if len(ratios) == 1 else ratios
    whitened = sum(
        (x / Fraction(ratio)) ** 2
        for part, ratio in zip(moved, ratios, strict=True)
        for x in part
    )
    # what the noise is scaled by, computed as it is used
    assert whitened <= Fraction(mechanism.sensitivity) ** 2


@settings(max_examples=200)
@given(laplaces(), st.lists(UNITS, min_size=1, max_size=4), UNITS, st.booleans())
def test_l1_totals_differ_by_at_most_the_sensitivity(
    mechanism: LaplaceMechanism, cohort: list, unit: Any, tensors: bool
) -> None:
    one, other = neighbours(cohort, unit, mechanism.adjacency)
    moved = difference(
        total_of(mechanism, one, tensors=tensors),
        total_of(mechanism, other, tensors=False),
    )
    assert sum(abs(x) for part in moved for x in part) <= Fraction(
        mechanism.sensitivity
    )


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_the_sensitivity_is_reached(adjacency: Adjacency) -> None:
    # not merely an upper bound: the worst neighbours come within 2^-19 of it
    far = [np.full(3, 1e3), np.full((2, 2), 1e3)]
    opposite = [-array for array in far]
    for mechanism in (
        GaussianMechanism(noise_multiplier=1.0, clip_norm=0.7, adjacency=adjacency),
        GaussianMechanism(
            noise_multiplier=1.0, clipping=Clipping((0.5, 2.0)), adjacency=adjacency
        ),
        LaplaceMechanism(noise_multiplier=1.0, clip_norm=0.7, adjacency=adjacency),
    ):
        one, other = neighbours([(far, None)], (opposite, None), adjacency)
        moved = difference(
            total_of(mechanism, one, tensors=True),
            total_of(mechanism, other, tensors=True),
        )
        flat = np.concatenate([part.astype(float) for part in moved])
        order = 1 if isinstance(mechanism, LaplaceMechanism) else 2
        assert np.linalg.norm(flat, order) == pytest.approx(
            mechanism.sensitivity, rel=2e-6
        )


def test_many_contributions_leave_no_more_than_one_behind() -> None:
    # a float32 sum of these would be off by many clip norms
    mechanism = GaussianMechanism(noise_multiplier=1.0, clip_norm=1e-3)
    rng = np.random.default_rng(5)
    large = [
        mechanism.bound(rng.normal(size=4).astype(np.float32)) for _ in range(3000)
    ]
    one = summed(large, like=large[0])
    other = summed(reversed(large[1:]), like=large[0])  # and in another order
    moved = difference(one, other)[0]
    assert sum(x * x for x in moved) <= Fraction(mechanism.sensitivity) ** 2
    assert moved.astype(float) == pytest.approx(large[0].astype(float), rel=1e-12)


@given(
    st.lists(CONTRIBUTIONS, min_size=1, max_size=4),
    CONTRIBUTIONS,
    st.sampled_from(Adjacency),
)
def test_the_count_of_an_adaptive_clip_moves_by_its_sensitivity(
    cohort: list, unit: Any, adjacency: Adjacency
) -> None:
    clip = AdaptiveClip(clip_norm=1.0, expected_size=100, adjacency=adjacency)
    mechanism = clip.mechanism(0.5)
    shares = [clip.share(mechanism.bounded(value)) for value in cohort]
    if adjacency is Adjacency.REPLACE_ONE:
        other = [clip.share(mechanism.bounded(unit)), *shares[1:]]
    else:  # whoever is absent, or zero, has no share
        other = shares[1:]
    moved = abs(sum(shares) - sum(other))
    assert clip.count_noise is not None
    assert moved <= clip.count_noise / clip.event.noise_multiplier


# --- the same run on neighbouring data ---------------------------------------------


class Recorder:
    """A source that records what is asked of it, and gives zeros."""

    secure = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        def draw(count: int) -> np.ndarray:
            self.asked.append((name, count))
            return np.zeros(count)

        return draw


def steps_of(action: Any) -> list[tuple[str, int]]:
    """The lines of this package that an action runs, in order."""
    import sys

    lines: list[tuple[str, int]] = []

    def trace(frame: Any, kind: str, _: Any) -> Any:
        if "drdp" not in frame.f_code.co_filename:
            return None
        if kind == "line":
            lines.append((frame.f_code.co_qualname, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("adjacency", list(Adjacency))
@pytest.mark.parametrize("kind", [GaussianMechanism, LaplaceMechanism])
def test_neighbours_are_released_by_the_same_steps(
    kind: Any, adjacency: Adjacency
) -> None:
    mechanism = kind(noise_multiplier=1.0, clip_norm=1.0, adjacency=adjacency)
    rng = np.random.default_rng(9)
    cohort = [([rng.normal(size=shape) for shape in SHAPES], None) for _ in range(5)]
    wild = ([np.full(3, 1e300), np.full((2, 2), np.nan)], None)
    found = []
    for units in (
        neighbours(cohort, wild, adjacency)
        + neighbours([wild, *cohort[1:]], cohort[0], adjacency)
        + ([],)
    ):
        total, source = total_of(mechanism, units, tensors=False), Recorder()
        event = mechanism.event
        steps = steps_of(lambda t=total, s=source: mechanism.release(t, s))
        assert mechanism.event == event
        found.append((steps, source.asked, repr(event)))
    assert len(found[0][0]) > 10
    assert all(run == found[0] for run in found)


def test_a_contribution_is_bounded_whoever_else_takes_part() -> None:
    mechanism = GaussianMechanism(noise_multiplier=1.0, clip_norm=1.0)
    value = [np.full(shape, 2.0) for shape in SHAPES]
    alone = mechanism.bound(value)
    mechanism.bound([np.full(shape, np.nan) for shape in SHAPES])
    after = mechanism.bound(value)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(opened(alone).arrays, opened(after).arrays, strict=True)
    )
