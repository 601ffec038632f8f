"""Lower bounds from attacks: published values, coverage, and agreement."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp import Gaussian, pld_curve
from drdp.errors import InvalidArgumentError
from drdp.privacy.audit import (
    clopper_pearson,
    gaussian_epsilon,
    one_run,
    one_run_mu,
    one_run_p_value,
    refutes,
    two_sample,
)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "epsilon"),
    [
        (1000, 1000, 1000, 0.0, 5.8090683),  # N66
        (100, 100, 100, 0.0, 3.4929655),
        (1000, 1000, 1000, 1e-5, 5.7822831),  # N67
        (1000, 100, 95, 1e-5, 2.1651758),
        (200, 200, 150, 1e-5, 0.8211126),
    ],
)
def test_published_one_run_bounds(
    canaries: int, guesses: int, correct: int, delta: float, epsilon: float
) -> None:
    found = one_run(canaries, guesses, correct, delta=delta)
    assert found == pytest.approx(epsilon, abs=1e-5)


def test_published_two_sample_bound() -> None:
    """N68."""
    found = two_sample(500, 1000, 0, 1000, delta=1e-5)
    assert found.tpr == pytest.approx(0.4685492, abs=1e-5)
    assert found.fpr == pytest.approx(0.0036821, abs=1e-5)
    assert found.epsilon == pytest.approx(4.8461408, abs=1e-5)
    assert found.mu == pytest.approx(2.6009939, abs=1e-5)


@given(st.integers(1, 300), st.data())
def test_the_p_value_is_the_sum_it_is_defined_by(
    guesses: int, data: st.DataObject
) -> None:
    from scipy.stats import binom

    correct = data.draw(st.integers(1, guesses))
    epsilon = data.draw(st.floats(0.0, 6.0))
    delta = data.draw(st.sampled_from([0.0, 1e-6, 1e-3]))
    right = 1.0 / (1.0 + math.exp(-epsilon))
    law = binom.pmf(np.arange(guesses + 1), guesses, right)
    shares = [law[correct - i : correct].sum() / i for i in range(1, correct + 1)]
    plain = min(1.0, law[correct:].sum() + 2 * 400 * delta * max(shares))
    found = one_run_p_value(400, guesses, correct, epsilon=epsilon, delta=delta)
    assert found == pytest.approx(plain, rel=1e-9, abs=1e-12)


@given(st.integers(1, 400), st.data())
def test_more_right_guesses_never_prove_less(guesses: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, guesses - 1))
    for bound in (
        lambda right: one_run(400, guesses, right, delta=1e-6),
        lambda right: one_run_mu(400, guesses, right),
        lambda right: two_sample(right, guesses, 5, 400, delta=1e-6).epsilon,
    ):
        assert bound(correct) <= bound(correct + 1) + 1e-9


@given(st.integers(0, 50), st.integers(1, 50), st.sampled_from([0.005, 0.025, 0.1]))
def test_confidence_limits_are_where_the_tails_say(
    k: int, n: int, level: float
) -> None:
    from scipy.stats import binom

    k = min(k, n)
    low, high = clopper_pearson(k, n, level)
    if k > 0:
        assert binom.sf(k - 1, n, low) == pytest.approx(level, rel=1e-6)
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(level, rel=1e-6)


def test_a_true_claim_is_contradicted_as_rarely_as_promised() -> None:
    """Gaussian mu=1, one run with 2,000 canaries, 1,000 repetitions at 95 %.

    The false-alarm rate of each assertion is below 1e-6: a binomial of 1,000
    at 0.05 exceeds 90 with probability 1e-7.
    """
    rng = np.random.default_rng(1)
    canaries, guesses = 2000, 400
    wrong = {"one_run": 0, "mu": 0, "curve": 0}
    claimed = pld_curve(Gaussian(1.0))
    epsilon = gaussian_epsilon(1.0, 1e-5)
    verdicts: dict[int, tuple[bool, bool, bool]] = {}
    for _ in range(1000):
        inside = rng.random(canaries) < 0.5
        scores = inside + rng.normal(size=canaries) - 0.5
        chosen = np.argsort(-np.abs(scores))[:guesses]
        correct = int(((scores > 0) == inside)[chosen].sum())
        if correct not in verdicts:
            verdicts[correct] = (
                one_run(canaries, guesses, correct, delta=1e-5) > epsilon,
                one_run_mu(canaries, guesses, correct) > 1.0,
                refutes(canaries, guesses, correct, claimed),
            )
        for name, verdict in zip(wrong, verdicts[correct], strict=True):
            wrong[name] += verdict
    assert max(wrong.values()) <= 90, wrong


def test_a_false_claim_is_contradicted() -> None:
    """Noise a third of what is claimed: mu = 3, claimed mu = 1."""
    rng = np.random.default_rng(2)
    canaries, guesses = 5000, 500
    inside = rng.random(canaries) < 0.5
    scores = 3.0 * inside + rng.normal(size=canaries) - 1.5
    chosen = np.argsort(-np.abs(scores))[:guesses]
    correct = int(((scores > 0) == inside)[chosen].sum())
    assert refutes(canaries, guesses, correct, pld_curve(Gaussian(1.0)))
    assert one_run_mu(canaries, guesses, correct) > 1.5


def test_the_gaussian_form_is_refutation_of_the_gaussian_curve() -> None:
    mu = one_run_mu(1000, 200, 180)
    assert refutes(1000, 200, 180, pld_curve(Gaussian(1.0 / (0.99 * mu))))
    assert not refutes(1000, 200, 180, pld_curve(Gaussian(1.0 / (1.01 * mu))))


def test_a_million_samples_reach_nine_tenths_of_the_truth() -> None:
    """A plain Gaussian release, mu=1, half a million runs of each kind."""
    rng = np.random.default_rng(3)
    half = 500_000
    cut = 2.5
    inside = int((1.0 + rng.normal(size=half) > cut).sum())
    outside = int((rng.normal(size=half) > cut).sum())
    found = two_sample(inside, half, outside, half, delta=1e-5)
    assert 0.9 < found.mu <= 1.0
    assert 0.9 * gaussian_epsilon(1.0, 1e-5) < gaussian_epsilon(found.mu, 1e-5)


def test_a_million_canaries_are_quick_enough_to_count() -> None:
    assert one_run(10**6, 10**6, 600_000, delta=1e-9) == pytest.approx(0.4021, abs=1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: one_run(10, 11, 3, delta=1e-5),
        lambda: one_run(10, 5, 6, delta=1e-5),
        lambda: one_run(10, 5, 5, delta=math.nan),
        lambda: one_run(10, 5, 5, delta=1e-5, confidence=1.0),
        lambda: two_sample(11, 10, 0, 10, delta=1e-5),
        lambda: clopper_pearson(1, 0),
    ],
)
def test_bad_input_is_one_clear_line(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgumentError) as error:
        call()
    assert "\n" not in str(error.value)
