"""Risk by other means: simulated attacks, and a peer's own privacy curve."""

import numpy as np
import pytest

from drdp.privacy import risk
from drdp.privacy.attained import attained
from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.figures import certified_curve

RUNS = 400_000
FPRS = (0.4, 0.1, 0.01, 1e-3)
CASES = [(0.05, 0.748028, 20), (0.2, 1.5, 50), (1.0, 2.0, 4)]


def losses(rate: float, noise: float, steps: int, *, member: bool, seed: int):
    """The privacy loss of simulated runs: log of the likelihood ratio."""
    rng = np.random.default_rng(seed)
    total = np.zeros(RUNS)
    for _ in range(steps):
        seen = rng.standard_normal(RUNS)
        if member:
            seen += (rng.random(RUNS) < rate) / noise
        total += np.log1p(rate * np.expm1(seen / noise - 0.5 / noise**2))
    return total


@pytest.mark.parametrize(("rate", "noise", "steps"), CASES)
def test_the_best_simulated_attack(rate, noise, steps):
    """Likelihood-ratio tests in both directions: none above, the better one near."""
    event = PoissonSampled(rate, Gaussian(noise)) * steps
    curve = certified_curve(event, "upper")
    reached = attained(event)
    inside = losses(rate, noise, steps, member=True, seed=1)
    outside = losses(rate, noise, steps, member=False, seed=2)
    for fpr in FPRS:
        upper = risk.true_positive_rate(curve, fpr).value
        found = max(
            np.mean(inside > np.quantile(outside, 1 - fpr)),
            np.mean(outside < np.quantile(inside, fpr)),
        )
        # the threshold is as uncertain as the rate: the slope there is TPR / FPR
        error = np.sqrt(upper / RUNS) + upper / fpr * np.sqrt(fpr / RUNS)
        assert found <= upper + 4 * error
        if fpr < 0.2 or rate == 1.0:  # else the two orders differ
            assert found >= upper - 4 * error
        assert reached(fpr) <= found + 4 * error
    guesses = 0.5 * (np.mean(inside > 0) + np.mean(outside <= 0))
    success = risk.bayes_success(curve, 0.5).value
    assert guesses == pytest.approx(success, abs=4 / np.sqrt(RUNS))


@pytest.mark.parametrize(("rate", "noise", "steps"), CASES[:2])
def test_the_curve_of_a_peer(rate, noise, steps):
    """The lowest of the lines that dp-accounting's own deltas give."""
    theirs = pytest.importorskip("dp_accounting.pld.privacy_loss_distribution")
    options = {"sampling_prob": rate, "value_discretization_interval": 1e-4}
    law = theirs.from_gaussian_mechanism(noise, **options).self_compose(steps)
    event = PoissonSampled(rate, Gaussian(noise)) * steps
    curve = certified_curve(event, "upper")
    reached = attained(event)
    epsilons = np.linspace(0.0, 8.0, 1601)
    deltas = np.asarray(law.get_delta_for_epsilon(epsilons))
    for fpr in (0.1, 1e-3, 1e-5):
        peer = float(np.min(deltas + np.exp(epsilons) * fpr))
        found = risk.true_positive_rate(curve, fpr).value
        assert found == pytest.approx(peer, rel=1e-3)
        assert reached(fpr) <= peer * (1 + 1e-9)
