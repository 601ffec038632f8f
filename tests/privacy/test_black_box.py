"""Audits of any callable: bounds below the truth, near it, and no false alarms."""

import math

import numpy as np
import pytest

from drdp import ApproxDP, Gaussian, Laplace, NonPrivate, RandomisedResponse
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.noise import SeededNoise
from drdp.privacy.black_box import audit, judged
from drdp.privacy.findings import judged_canaries, points


def gaussian(rng, noise=1.0, length=1):  # type: ignore[no-untyped-def]
    return lambda total: total + noise * rng.normal(size=length)


def test_the_bound_on_a_gaussian_is_below_the_truth_and_near_it() -> None:
    rng = np.random.default_rng(1)
    inside = 1.0 + rng.normal(size=(10**6, 1))
    outside = rng.normal(size=(10**6, 1))
    found = judged(inside, outside, delta=1e-5, event=Gaussian(1.0))
    assert found.verdict == "consistent"
    assert 0.98 < found.mu <= 1.0
    assert found.epsilon < 4.37718


def test_true_claims_stand_and_false_ones_fall() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        true = audit(gaussian(rng), 1.0, 0.0, delta=1e-5, event=Gaussian(1.0))
        assert true.verdict == "consistent"
        false = audit(gaussian(rng), 1.0, 0.0, delta=1e-5, event=Gaussian(1.5))
        assert false.verdict == "violated"
        assert false.beyond is not None


def test_a_direction_in_many_numbers_is_learnt() -> None:
    rng = np.random.default_rng(2)
    shift = rng.normal(size=50)
    shift /= np.linalg.norm(shift)
    found = audit(lambda x: x * shift + 0.4 * rng.normal(size=50), 1.0, 0.0, delta=1e-5)
    assert found.verdict is None
    assert found.certified is None
    assert 1.5 < found.mu < 2.5


def test_pure_guarantees() -> None:
    rng = np.random.default_rng(3)
    found = audit(lambda x: x + rng.laplace(), 1.0, 0.0, delta=1e-9, event=Laplace(1.0))
    assert found.verdict == "consistent"
    assert 0.6 < found.epsilon <= 1.0

    def answers(truth: bool) -> bool:
        return bool(rng.random() < 0.9) == truth

    said = RandomisedResponse(math.log(9.0), 2)
    found = audit(answers, True, False, delta=1e-9, event=said)
    assert found.verdict == "consistent"
    assert 1.8 < found.epsilon <= math.log(9.0)
    found = audit(answers, True, False, delta=1e-9, event=ApproxDP(1.0, 0.0))
    assert found.verdict == "violated"


def test_categories_and_variances_tell_as_well_as_means() -> None:
    rng = np.random.default_rng(4)

    def category(x: int) -> int:
        # The middle value is more likely under 1: no threshold sees that.
        return int(rng.choice([0, 1, 2], p=[0.1, 0.8, 0.1] if x else [0.45, 0.1, 0.45]))

    assert audit(category, 1, 0, delta=1e-5).epsilon > 1.2

    def wide(x: float) -> object:
        return (1.0 + x) * rng.normal(size=40)

    assert audit(wide, 1.0, 0.0, delta=1e-5).mu > 3.0


def test_the_real_mechanism_keeps_its_claim() -> None:
    mechanism = GaussianMechanism(noise_multiplier=0.8, clip_norm=2.0)
    noise = SeededNoise(8)
    data = np.array([3.0, 4.0])

    def release(clients: int) -> object:
        total = sum((mechanism.bound(data) for _ in range(clients)), start=np.zeros(2))
        return mechanism.release(total, noise)

    found = audit(release, 3, 2, delta=1e-5, event=mechanism.event, trials=1000)
    assert found.verdict == "consistent"
    assert found.mu > 0.8


def test_outputs_that_are_not_finite_are_evidence() -> None:
    rng = np.random.default_rng(5)

    def broken(x: float) -> float:
        return math.nan if x and rng.random() < 0.9 else float(rng.normal())

    assert (
        audit(broken, 1.0, 0.0, delta=1e-5, event=Gaussian(1.0)).verdict == "violated"
    )


def test_a_known_attack_can_be_given() -> None:
    rng = np.random.default_rng(6)
    found = audit(
        lambda x: {"total": x + rng.normal()},
        1.0,
        0.0,
        delta=1e-5,
        score=lambda output: output["total"],
    )
    assert found.attack == "given score"
    assert 0.6 < found.mu <= 1.0


def test_nothing_shown_and_nothing_claimed_are_vacuous() -> None:
    rng = np.random.default_rng(7)
    same = audit(gaussian(rng), 0.0, 0.0, delta=1e-5, event=Gaussian(1.0))
    assert same.verdict == "vacuous"
    assert same.epsilon == same.mu == 0.0
    open_ = audit(gaussian(rng), 9.0, 0.0, delta=1e-5, event=NonPrivate())
    assert open_.verdict == "vacuous"
    assert "neither supports nor refutes" in open_.sentence()
    assert open_.to_dict()["certified"]["upper"] == "inf"


def test_coverage_of_the_bound_on_mu() -> None:
    """Of 300 audits at 95 %, with rules chosen from the data, few may exceed mu.

    A binomial of 300 at 0.05 is above 30 with probability 1e-4.
    """
    rng = np.random.default_rng(8)
    wrong = 0
    for _ in range(300):
        inside, outside = rng.normal(size=(2, 200, 3))
        inside[:, 0] += 1.0
        found = judged(inside, outside, delta=1e-5)
        wrong += found.mu > 1.0 or found.epsilon > 4.37718
    assert wrong <= 30


def test_canaries_that_tell_nothing_prove_nothing() -> None:
    rng = np.random.default_rng(9)
    inside = rng.random((2, 500)) < 0.5
    scores = rng.normal(size=(2, 500))
    found = judged_canaries(
        scores[0], inside[0], (scores[1], inside[1]), delta=1e-5, event=Gaussian(1.0)
    )
    assert found.verdict in ("vacuous", "consistent")
    assert found.mu < 0.3


def test_points_are_rates() -> None:
    rng = np.random.default_rng(10)
    found = points(1.0 + rng.normal(size=5000), rng.normal(size=5000))
    assert found == tuple(sorted(found))
    assert found[-1] == (1.0, 1.0)
    assert all(tpr >= fpr - 0.03 for fpr, tpr in found)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: audit(lambda x: x, 1, 0, delta=1e-5, trials=10), "at least 40"),
        (lambda: audit(lambda x: [0.0] * x, 1, 2, delta=1e-5), "equally many"),
        (lambda: audit(lambda x: x, 1, 0, delta=0.0), "delta"),
        (lambda: audit(lambda x: x, 1, 0, delta=1e-5, confidence=1.0), "confidence"),
        (
            lambda: judged_canaries(
                np.zeros(5),
                np.zeros(5, bool),
                (np.zeros(5), np.zeros(5, bool)),
                delta=1e-5,
            ),
            "at least 10",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgumentError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
