"""A private mean, released round by round until its budget is used up.

Run it as ``python examples/mechanism_and_ledger.py``.
"""

import tempfile
from pathlib import Path

import numpy as np

from drdp import (
    FixedBudget,
    GaussianMechanism,
    Ledger,
    PoissonSampled,
    SecureNoise,
    noise_multiplier_for,
)
from drdp.errors import BudgetExceededError

EPSILON, DELTA, RATE, ROUNDS = 2.0, 1e-5, 0.05, 5


def main() -> None:
    """Release noisy means of sampled rows; stop where the ledger refuses."""
    rows = np.random.default_rng(0).normal(loc=0.3, size=(2_000, 4))
    mechanism = GaussianMechanism(
        noise_multiplier=noise_multiplier_for(EPSILON, DELTA, RATE, ROUNDS),
        clip_norm=2.0,
    )
    event = PoissonSampled(RATE, mechanism.event)
    noise = SecureNoise()
    folder = Path(tempfile.mkdtemp())
    budget = FixedBudget(EPSILON, DELTA, event)
    with Ledger.create(folder / "ledger.db", budget=budget, unit="example") as ledger:
        for number in range(1, 100):
            taken = rows[noise.uniform(len(rows)) <= RATE]
            total = sum((mechanism.bound(row) for row in taken), start=np.zeros(4))
            try:
                ledger.charge(event, label=f"round {number}")  # on disk from here on
            except BudgetExceededError:
                print(f"round {number} is not released: the budget is used up")
                break
            mean = mechanism.release(total, noise) / (RATE * len(rows))
            spent = budget.spent_epsilon(ledger.tally)
            print(f"round {number}: {mean.round(2)}  epsilon {spent:.3f}")
        ledger.verify()


if __name__ == "__main__":
    main()
