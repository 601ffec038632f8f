"""A trainer of one's own in the federated simulator: logistic regression.

Run it with ``python examples/own_trainer.py``; it takes a few seconds.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drdp import FixedBudget, Ledger, PoissonCohort, epsilon_interval
from drdp.compression.identity import Identity
from drdp.fedsim.protection import Protection, calibrated
from drdp.fedsim.randomness import SecretRandomness
from drdp.fedsim.server import Server
from drdp.fedsim.simulate import Simulation, simulate
from drdp.fedsim.trainer import Update

EPSILON, DELTA, ROUNDS = 2.0, 1e-5, 30


class LogisticTrainer:
    """Clients with 20 points each, whose classes a plane tells apart."""

    def __init__(self, num_clients: int = 1000, length: int = 10) -> None:
        rng = np.random.default_rng(0)
        self.plane = rng.normal(size=length)
        self.points = rng.normal(size=(num_clients, 20, length))
        self.held_out = rng.normal(size=(2000, length))

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return len(self.points)

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return len(self.plane)

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from."""
        return np.zeros(self.num_parameters, dtype=np.float32)

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """Five gradient steps on each client's points."""
        for client in clients:
            x = self.points[client]
            y = x @ self.plane > 0.0
            weights = parameters.astype(np.float64)
            for _ in range(5):
                wrong = 1.0 / (1.0 + np.exp(-x @ weights)) - y
                weights -= 0.5 * wrong @ x / len(x)
            loss = float(np.mean(np.logaddexp(0.0, np.where(y, -1, 1) * (x @ weights))))
            delta = (weights - parameters).astype(np.float32)
            yield Update(client, delta, loss, len(x))

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """The share of held-out points on the right side."""
        sides = (self.held_out @ parameters > 0) == (self.held_out @ self.plane > 0)
        return {"accuracy": float(np.mean(sides))}


def main() -> None:
    """Train within a budget; every round is paid for before it is released."""
    trainer = LogisticTrainer()
    draft = Protection(PoissonCohort(0.05), clip_norm=0.5, noise_multiplier=1.0)
    protection = calibrated(draft, epsilon=EPSILON, delta=DELTA, rounds=ROUNDS)
    simulation = Simulation(
        trainer, Identity(trainer.num_parameters), protection, Server("momentum")
    )
    budget = FixedBudget(EPSILON, DELTA, protection.event(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(
            f"{folder}/ledger.db", budget=budget, adjacency="zero-out"
        ) as ledger,
    ):
        for report in simulate(
            simulation,
            rounds=ROUNDS,
            randomness=SecretRandomness(os.urandom(32)),
            payer=ledger,
        ):
            if report.round % 10 == 0:
                found = trainer.evaluate(report.state.parameters.astype(np.float32))
                spent = epsilon_interval(ledger.spent, DELTA).upper
                print(
                    f"round {report.round}: accuracy {found['accuracy']:.3f},"
                    f" certified epsilon {spent:.4f} at delta {DELTA:g}"
                )


if __name__ == "__main__":
    main()
