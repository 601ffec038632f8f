"""Randomised response: exact probabilities, unbiased frequencies, plain errors."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from drdp.errors import InvalidArgumentError
from drdp.mechanisms import randomised_response
from drdp.mechanisms.noise import SeededNoise
from drdp.mechanisms.randomised_response import RandomisedResponseMechanism
from drdp.privacy.pld import pld_curve
from drdp.privacy.releases import RandomisedResponse

ALARM = 1e-4  # false-alarm rate of each single statistical test
COUNT = 300_000


@pytest.mark.parametrize("epsilon", [1e-6, 0.5, 2.0, 20.0, 60.0, 800.0])
@pytest.mark.parametrize("categories", [2, 3, 1000])
def test_the_threshold_is_exact_in_the_last_bit(
    epsilon: float, categories: int
) -> None:
    mechanism = RandomisedResponseMechanism(epsilon=epsilon, categories=categories)
    with mpmath.workdps(400):
        truth = 1 / (1 + (categories - 1) * mpmath.exp(-mpmath.mpf(epsilon)))
        exact = int(mpmath.floor(mpmath.ldexp(truth, 63)))
    assert mechanism._lookup.thresholds[0] == exact
    assert mechanism.true_probability == pytest.approx(float(truth), rel=1e-14)


@pytest.mark.parametrize("categories", [2, 3, 10])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_answers_pass_chi_square(epsilon: float, categories: int) -> None:
    mechanism = RandomisedResponseMechanism(epsilon=epsilon, categories=categories)
    for true in (0, categories - 1):
        answers = mechanism.release(np.full(COUNT, true), SeededNoise(1, true))
        lie = math.exp(-epsilon) * mechanism.true_probability
        hoped = np.full(categories, lie)
        hoped[true] = mechanism.true_probability
        seen = np.bincount(answers, minlength=categories)
        assert stats.chisquare(seen, hoped * COUNT).pvalue > ALARM


def test_the_likelihood_ratio_is_what_the_event_says() -> None:
    mechanism = RandomisedResponseMechanism(epsilon=1.5, categories=4)
    assert mechanism.event == RandomisedResponse(1.5, 4)
    true = mechanism.true_probability
    assert true / ((1 - true) / 3) == pytest.approx(math.exp(1.5), rel=1e-12)
    assert pld_curve(mechanism.event).delta(1.5) < 1e-12
    assert pld_curve(mechanism.event).delta(1.4) > 1e-3


@pytest.mark.parametrize("categories", [2, 5])
def test_frequencies_are_unbiased(categories: int) -> None:
    mechanism = RandomisedResponseMechanism(epsilon=1.0, categories=categories)
    truth = np.random.default_rng(2).integers(0, categories, size=200) ** 2 % categories
    shares = np.bincount(truth, minlength=categories) / truth.size
    rng, repeats = SeededNoise(3), 4000
    found = np.array(
        [mechanism.frequencies(mechanism.release(truth, rng)) for _ in range(repeats)]
    )
    assert np.allclose(found.sum(axis=1), 1.0)
    error = (found.mean(axis=0) - shares) / (found.std(axis=0) / math.sqrt(repeats))
    assert np.abs(error).max() < stats.norm.isf(ALARM / 2 / categories)


@given(st.integers(2, 50), st.floats(0.01, 50.0), st.integers(0, 2**32))
def test_answers_are_categories_in_the_shape_asked(
    categories: int, epsilon: float, seed: int
) -> None:
    mechanism = RandomisedResponseMechanism(epsilon=epsilon, categories=categories)
    truth = np.arange(12).reshape(3, 4) % categories
    answers = mechanism.release(truth, SeededNoise(seed))
    assert answers.shape == (3, 4)
    assert answers.dtype == np.int64
    assert 0 <= answers.min() <= answers.max() < categories
    assert mechanism.release(1, SeededNoise(seed)).shape == ()
    # gray box: as many words for other categories, and the same lies
    again = mechanism.release(np.zeros((3, 4), dtype=int), SeededNoise(seed))
    assert np.array_equal(again == 0, answers == truth)


def test_other_categories_are_drawn_without_bias() -> None:
    class Late:
        """Words of which the first would be biased, then 0."""

        secure = False

        def __init__(self) -> None:
            self.first = True

        def words(self, count: int) -> np.ndarray:
            value = (1 << 64) - 1 if self.first else 0
            self.first = False
            return np.full(count, value, dtype=np.uint64)

    assert Fraction((1 << 64) - 1) % 3 == 0  # would be 0 as well, but once too often
    assert randomised_response._below(3, 2, Late()).tolist() == [0, 0]
    assert randomised_response._below(1, 2, Late()).tolist() == [0, 0]
    x = randomised_response._below(7, COUNT, SeededNoise(4))
    assert stats.chisquare(np.bincount(x, minlength=7)).pvalue > ALARM


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m: m.bound(3), "between 0 and 2, got 3"),
        (lambda m: m.bound([0, -1]), "got -1"),
        (lambda m: m.bound(1.0), "whole numbers"),
        (lambda m: m.bound("yes"), "whole numbers"),
        (lambda m: m.bound(True), "whole numbers"),
        (lambda m: m.release([5], SeededNoise(1)), "got 5"),
        (lambda m: m.frequencies(np.zeros(0, dtype=int)), "answers"),
        (lambda _: RandomisedResponseMechanism(epsilon=0.0), "epsilon"),
        (lambda _: RandomisedResponseMechanism(epsilon=math.inf), "epsilon"),
        (
            lambda _: RandomisedResponseMechanism(epsilon=1.0, categories=1),
            "categories",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call: Any, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        call(RandomisedResponseMechanism(epsilon=1.0, categories=3))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
