"""A real trainer that needs no network: linear regression by gradient steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drdp.fedsim.trainer import Update


class LinearTrainer:
    """Clients hold noisy samples of one linear function, shifted per client."""

    def __init__(
        self, num_clients: int = 40, length: int = 12, rows: int = 8, data_seed: int = 5
    ) -> None:
        rng = np.random.default_rng(data_seed)
        self.truth = rng.normal(size=length)
        shift = 0.1 * rng.normal(size=(num_clients, length))
        self.inputs = rng.normal(size=(num_clients, rows, length))
        self.outputs = np.einsum("crl,cl->cr", self.inputs, self.truth + shift)
        self.trained: list[tuple[int, ...]] = []

    @property
    def num_clients(self) -> int:
        return len(self.inputs)

    @property
    def num_parameters(self) -> int:
        return len(self.truth)

    def initial(self) -> NDArray[np.float32]:
        return np.zeros(self.num_parameters, dtype=np.float32)

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        self.trained.append(tuple(clients))
        for client in clients:
            x, y = self.inputs[client], self.outputs[client]
            order = np.random.default_rng((seed, client)).permutation(len(x))
            weights = parameters.astype(np.float64)
            for row in order:
                weights -= 0.02 * (x[row] @ weights - y[row]) * x[row]
            change = (weights - parameters).astype(np.float32)
            loss = float(np.mean((x @ weights - y) ** 2))
            yield Update(client=client, delta=change, loss=loss, examples=len(x))

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        return {"loss": float(np.sum((parameters - self.truth) ** 2))}


class Purse:
    """A payer that remembers in memory, and may run out."""

    def __init__(self, most: int | None = None) -> None:
        self.paid: list[tuple[object, str]] = []
        self.most = most

    def charge(
        self, event: object, *, label: str = "", run: str = "", key: str | None = None
    ) -> None:
        if self.most is not None and len(self.paid) >= self.most:
            raise RuntimeError("the purse is empty")
        self.paid.append((event, label))
