"""Clipping keeps to its norm in exact arithmetic, whatever comes in."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from drdp.errors import InvalidArgumentError
from drdp.mechanisms import clipping as module
from drdp.mechanisms.clipping import clip_blocks, clip_l1, clip_l2
from drdp.privacy.blocks import Clipping
from tests.mechanisms.exact import entries, l1, square

torch.set_num_threads(1)
SINGLE = st.floats(width=32, allow_nan=True, allow_infinity=True)
DOUBLE = st.floats(width=64, allow_nan=True, allow_infinity=True)
NORMS = st.floats(min_value=1e-25, max_value=1e30)


def vectors(most: int = 30) -> st.SearchStrategy[np.ndarray]:
    return st.one_of(
        arrays.arrays(np.float32, st.integers(0, most), elements=SINGLE),
        arrays.arrays(np.float64, st.integers(0, most), elements=DOUBLE),
    )


@given(st.lists(vectors(), min_size=1, max_size=3), NORMS)
def test_the_exact_l2_norm_is_never_above(value: list[np.ndarray], norm: float) -> None:
    found = clip_l2(value, norm)
    assert square(found.value) <= Fraction(norm) ** 2
    assert found.zeroed == sum(int((~np.isfinite(array)).sum()) for array in value)
    assert [array.dtype for array in found.value] == [array.dtype for array in value]


@given(st.lists(vectors(), min_size=1, max_size=3), NORMS)
def test_the_exact_l1_norm_is_never_above(value: list[np.ndarray], norm: float) -> None:
    assert l1(clip_l1(value, norm).value) <= Fraction(norm)


@given(vectors(), NORMS)
def test_torch_and_numpy_agree(value: np.ndarray, norm: float) -> None:
    found = clip_l2(torch.from_numpy(value), norm)
    assert np.array_equal(found.value.numpy(), clip_l2(value, norm).value)


@given(vectors(), NORMS)
def test_clipping_twice_changes_nothing_more(value: np.ndarray, norm: float) -> None:
    once = clip_l2(value, norm).value
    twice = clip_l2(once, norm)
    assert square(twice.value) <= square(once)
    assert np.allclose(twice.value, once, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [1, 7, 100_003])
@pytest.mark.parametrize("size", [1e-20, 1.0, 3.0, 1e6, 1e25])
def test_what_is_too_long_is_scaled_to_the_norm(
    dtype: type, dimension: int, size: float
) -> None:
    value = np.random.default_rng(1).normal(size=dimension).astype(dtype)
    value *= dtype(size)
    for clip, norm_of in ((clip_l2, 2), (clip_l1, 1)):
        for norm in (1e-3, 1.0, 1e4):
            found = clip(value, norm)
            truth = np.linalg.norm(value.astype(float), norm_of)
            assert found.norm == pytest.approx(truth, rel=1e-9)
            assert found.clipped == (truth > module.SAFETY * norm)
            reached = np.linalg.norm(found.value.astype(float), norm_of)
            assert reached <= norm
            assert reached == pytest.approx(min(truth, norm), rel=2e-6)
            factor = min(1.0, norm / truth)
            assert np.allclose(found.value, value * dtype(factor), rtol=3e-6, atol=0)


def test_short_contributions_are_not_touched() -> None:
    value = np.array([3.0, 4.0]) * 0.19
    found = clip_l2(value, 1.0)
    assert np.array_equal(found.value, value)
    assert found.value is not value
    assert not found.clipped
    assert not np.shares_memory(found.value, value)


def test_the_clip_is_joint() -> None:
    found = clip_l2({"a": np.array([3.0]), "b": torch.tensor([4.0])}, 1.0)
    assert float(found.value["a"][0]) == pytest.approx(0.6, rel=1e-5)
    assert float(found.value["b"][0]) == pytest.approx(0.8, rel=1e-5)
    assert found.norm == 5.0


@pytest.mark.parametrize("clip", [clip_l1, clip_l2])
def test_zero_stays_zero(clip: object) -> None:
    for value in (np.zeros(5), np.zeros(0), np.zeros(()), [], {}):
        found = clip(value, 1.0)  # type: ignore[operator]
        assert all(x == 0 for x in entries(found.value))
        assert (found.norms, found.clipped, found.zeroed) == ((0.0,), False, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_what_is_not_finite_is_zero_before_the_norm_and_counted(
    bad: float, dtype: str
) -> None:
    value = torch.tensor([0.5, bad, 0.5, bad], dtype=getattr(torch, dtype))
    kinds = [value] if dtype == "bfloat16" else [value, value.numpy()]
    for kind in kinds:
        found = clip_l2(kind, 1.0)
        assert [float(x) for x in found.value] == [0.5, 0.0, 0.5, 0.0]
        assert found.zeroed == 2
        assert found.clipped
        assert found.norm == pytest.approx(math.sqrt(0.5))
        assert bool((kind[1:2] != 0.0).all())  # the caller's own is as it was


def test_nothing_but_bad_entries_is_a_zero_update() -> None:
    found = clip_l2(np.full(3, np.nan, np.float32), 1.0)
    assert np.array_equal(found.value, np.zeros(3))
    assert (found.clipped, found.zeroed, found.norm) == (True, 3, 0.0)


@pytest.mark.parametrize("clip", [clip_l1, clip_l2])
def test_norms_that_overflow_are_still_clipped_right(clip: object) -> None:
    value = [np.array([1.7e308, -1.7e308]), np.array([3e38], np.float32)]
    found = clip(value, 2.0)  # type: ignore[operator]
    share = 1.0 if clip is clip_l1 else math.sqrt(2.0)
    assert found.value[0] == pytest.approx([share, -share], rel=2e-6)
    assert found.value[1] == pytest.approx([0.0], abs=1e-200)
    assert found.clipped
    assert found.zeroed == 0


@pytest.mark.parametrize("clip", [clip_l1, clip_l2])
def test_subnormal_factors_do_not_lift_the_norm(clip: object) -> None:
    rng = np.random.default_rng(3)
    for scale in (3e38, 1e38, 1e30):
        value = (rng.uniform(-1, 1, 2000) * scale).astype(np.float32)
        found = clip(value, 1e-7).value  # type: ignore[operator]
        assert (l1(found) if clip is clip_l1 else square(found)) <= Fraction(1e-7) ** (
            1 if clip is clip_l1 else 2
        )
    tiny = np.full(1000, 1e-45, np.float32)
    assert np.array_equal(clip(tiny, 1e-25).value, tiny)  # type: ignore[operator]


# --- blocks ------------------------------------------------------------------------


@given(st.lists(vectors(), min_size=2, max_size=2), NORMS, NORMS)
def test_each_block_keeps_to_its_norm(
    value: list[np.ndarray], first: float, second: float
) -> None:
    found = clip_blocks(value, Clipping((first, second)))
    assert square(found.value[0]) <= Fraction(first) ** 2
    assert square(found.value[1]) <= Fraction(second) ** 2


def test_blocks_are_top_level_entries_by_sorted_key() -> None:
    value = {"b": [np.full(4, 9.0), np.full(4, 9.0)], "a": np.full(1, 9.0)}
    found = clip_blocks(value, Clipping((1.0, 2.0)))
    assert np.linalg.norm(found.value["a"]) == pytest.approx(1.0, rel=2e-6)
    assert np.linalg.norm(np.concatenate(found.value["b"])) == pytest.approx(2.0)
    assert found.norms == pytest.approx((9.0, math.sqrt(8.0) * 9.0))


def test_one_block_is_a_joint_clip() -> None:
    value = [np.array([3.0]), np.array([4.0])]
    one, joint = clip_blocks(value, Clipping((1.0,))), clip_l2(value, 1.0)
    assert [list(a) for a in one.value] == [list(a) for a in joint.value]


def test_blocks_must_be_as_many_as_norms() -> None:
    with pytest.raises(
        InvalidArgumentError, match="each of the 2 clipping blocks, got 3"
    ):
        clip_blocks([np.ones(1)] * 3, Clipping((1.0, 2.0)))
    with pytest.raises(InvalidArgumentError, match="2 clipping blocks, got 1"):
        clip_blocks(np.ones(2), Clipping((1.0, 2.0)))


@pytest.mark.parametrize(
    "norm", [0.0, -1.0, math.nan, math.inf, 1e-26, 1e31, True, "1"]
)
def test_clip_norms_are_checked(norm: object) -> None:
    for clip in (clip_l1, clip_l2):
        with pytest.raises(InvalidArgumentError, match="clip_norm must"):
            clip(np.ones(1), norm)  # type: ignore[arg-type]


def test_blocks_are_checked() -> None:
    with pytest.raises(InvalidArgumentError, match="clipping must be a Clipping"):
        clip_blocks(np.ones(1), 1.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="clip_norm must lie in"):
        clip_blocks(np.ones(1), Clipping((1e-30,)))
