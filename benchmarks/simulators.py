"""Claim: the round loop itself is no slower than that of pfl-research.

Run ``python -m benchmarks.simulators`` in the repository root.  pfl-research
(``pip install --no-deps pfl multiprocess``: it wants an older dp-accounting than
the tests do) is optional, and left out where it is missing.

The same work for both: 100 clients with 32 rows of a linear regression of 1,000
numbers in torch, 20 of them a round, one local epoch of SGD in batches of 8,
clipping to norm 1 and central Gaussian noise of multiplier 1.  The model is so
small that what is measured is the loop around it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import Section, is_quick, seconds, show, table
from drdp.compression.identity import Identity
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import SecretRandomness, SeededRandomness
from drdp.fedsim.simulate import Simulation, simulate
from drdp.fedsim.trainer import Update
from drdp.privacy.threat import FixedCohort

LENGTH, CLIENTS, COHORT, ROWS, BATCH, RATE = 1000, 100, 20, 32, 8, 1e-3


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and outputs of every client."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(CLIENTS, ROWS, LENGTH, generator=generator)
    return inputs, inputs @ torch.randn(LENGTH, generator=generator)


class Linear(torch.nn.Module):
    """A linear regression, with the methods that pfl-research calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(LENGTH))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The predictions."""
        return inputs @ self.weight

    def loss(
        self, inputs: torch.Tensor, outputs: torch.Tensor, is_eval: bool = False
    ) -> torch.Tensor:
        """The mean squared error."""
        return (self(inputs) - outputs).square().mean()

    @torch.no_grad()
    def metrics(self, inputs: torch.Tensor, outputs: torch.Tensor) -> dict[str, Any]:
        """The same as a weighted mean."""
        from pfl.metrics import Weighted

        total = float(self.loss(inputs, outputs)) * len(inputs)
        return {"loss": Weighted(total, len(inputs))}


class LinearClients:
    """A trainer of drdp, one client after another."""

    num_clients, num_parameters = CLIENTS, LENGTH

    def __init__(self) -> None:
        self._data, self._model = data(), Linear()

    def initial(self) -> NDArray[np.float32]:
        """Zeros."""
        return np.zeros(LENGTH, dtype=np.float32)

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """An epoch of SGD by torch for each client."""
        start = torch.from_numpy(parameters)
        for client in clients:
            inputs, outputs = self._data[0][client], self._data[1][client]
            self._model.weight.data.copy_(start)
            sgd = torch.optim.SGD(self._model.parameters(), lr=RATE)
            total = 0.0
            for first in range(0, ROWS, BATCH):
                part = slice(first, first + BATCH)
                sgd.zero_grad()
                loss = self._model.loss(inputs[part], outputs[part])
                loss.backward()
                sgd.step()
                total += float(loss.detach())
            delta = (self._model.weight.detach() - start).numpy()
            yield Update(client, delta, total * BATCH / ROWS, ROWS)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Nothing."""
        return {}


class Purse:
    """A payer that forgets: pfl-research has no ledger either."""

    def charge(
        self, event: object, *, label: str = "", run: str = "", key: str | None = None
    ) -> None:
        """Take the charge."""


def ours(rounds: int, *, secure: bool) -> list[float]:
    """The processor seconds of each round of drdp."""
    parts = Simulation(
        LinearClients(),
        Identity(LENGTH),
        Protection(FixedCohort(COHORT, CLIENTS), clip_norm=1.0, noise_multiplier=1.0),
    )
    randomness = SecretRandomness(bytes(32)) if secure else SeededRandomness(0)
    made = simulate(parts, rounds=rounds, randomness=randomness, payer=Purse())
    marks = [time.process_time(), *(time.process_time() for _ in made)]
    return [after - before for before, after in pairwise(marks)]


def theirs(rounds: int) -> list[float]:
    """The processor seconds of each round of pfl-research."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data import FederatedDataset
    from pfl.data.dataset import Dataset
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel
    from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism

    inputs, outputs = data()
    module, rng = Linear(), np.random.default_rng(0)
    marks: list[float] = []

    class Marked(FederatedAveraging):
        """Notes when each round begins."""

        def get_next_central_contexts(self, *options: Any, **named: Any) -> Any:
            """As it was."""
            marks.append(time.process_time())
            return super().get_next_central_contexts(*options, **named)

    noise = GaussianMechanism(clipping_bound=1.0, relative_noise_stddev=1.0)
    Marked().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=COHORT,
            val_cohort_size=None,
        ),
        SimulatedBackend(
            training_data=FederatedDataset(
                lambda i: Dataset(raw_data=[inputs[i], outputs[i]]),
                lambda: int(rng.integers(CLIENTS)),
            ),
            val_data=None,
            postprocessors=[CentrallyAppliedPrivacyMechanism(noise)],
        ),
        PyTorchModel(
            model=module,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(module.parameters(), 1.0),
        ),
        NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=RATE, local_batch_size=BATCH
        ),
        NNEvalHyperParams(local_batch_size=None),
    )
    return [after - before for before, after in pairwise(marks)]


def section(*, quick: bool) -> Section:
    """Medians of rounds after the first, by turns."""
    rounds = 6 if quick else 15
    taken: dict[str, list[float]] = {}
    for _ in range(1 if quick else 3):
        taken.setdefault("drdp, secret noise", []).extend(ours(rounds, secure=True)[1:])
        taken.setdefault("drdp, seeded noise", []).extend(
            ours(rounds, secure=False)[1:]
        )
        if find_spec("pfl") is not None:
            name = f"pfl-research {version('pfl')}"
            taken.setdefault(name, []).extend(theirs(rounds)[1:])
    found = {name: statistics.median(spent) for name, spent in taken.items()}
    lines = [
        (name, seconds(spent), f"{1.0 / spent:.1f}") for name, spent in found.items()
    ]
    text = (
        f"{COHORT} of {CLIENTS} clients a round, a linear model of {LENGTH:,} numbers,"
        " one epoch of four SGD steps, central noise; processor time, one thread.\n\n"
        + table(("simulator", "a round", "rounds/s"), lines)
    )
    return Section("Beside pfl-research", "python -m benchmarks.simulators", text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    show(section(quick=is_quick(__doc__)))
