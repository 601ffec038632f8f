"""How a client trains: its optimiser, step size, and the order of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.lora.rows import Row

__all__ = ["ClientRows", "LocalData", "LocalOptimiser", "SingleStep"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptimiser:
    """AdamW or SGD as torch.optim has them, with a fresh state in every round.

    Args:
        name: ``"adamw"`` or ``"sgd"`` (plain, without momentum).
        learning_rate: The step size; one number, or one per client of the
            federation.
        weight_decay: Decoupled decay in AdamW, a multiple of the parameters
            added to the gradient in SGD.
        betas: AdamW's averaging coefficients.
        eps: AdamW's term in the denominator.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float | Sequence[float] = 1.5e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.name not in {"adamw", "sgd"}:
            raise InvalidArgumentError(
                f"name must be 'adamw' or 'sgd', got {self.name!r}"
            )
        rates = self.learning_rate
        for rate in rates if isinstance(rates, Sequence) else (rates,):
            _check.positive(learning_rate=rate)
        _check.at_least_zero(weight_decay=self.weight_decay)
        _check.positive(eps=self.eps)
        for beta in self.betas:
            _check.probability(beta=beta)

    def rate(self, client: int) -> float:
        """The step size of a client."""
        rates = self.learning_rate
        return rates[client] if isinstance(rates, Sequence) else rates


@final
@dataclass(frozen=True, slots=True)
class SingleStep:
    """No optimiser: the update is minus the gradient of one step (FedSGD).

    With clients of one example each, all updates together are the per-example
    gradients of one pass.
    """


class LocalData(Protocol):
    """The rows of every client, in the order in which it trains on them."""

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        ...

    def steps(self, client: int, seed: int) -> Sequence[Sequence[Row]]:
        """The rows of each local step; depends on client and seed alone."""
        ...


@final
class ClientRows:
    """Clients' rows in memory, shuffled anew for every pass over them.

    Args:
        rows: The rows of each client, at least one.
        batch_size: Rows a step; the last step of a pass has what is left.
        steps: How many local steps, over as many passes as they need; or
        epochs: how many passes.

    Raises:
        InvalidArgumentError: A client has no rows, or neither or both of
            `steps` and `epochs` are given.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Row]],
        *,
        batch_size: int,
        steps: int | None = None,
        epochs: int | None = None,
    ) -> None:
        if (steps is None) == (epochs is None):
            raise InvalidArgumentError("give either steps or epochs")
        for client, own in enumerate(rows):
            if not own:
                raise InvalidArgumentError(f"rows must not be empty: client {client}")
        self._rows = rows
        self._batch_size = _check.count(least=1, batch_size=batch_size)
        self._steps = None if steps is None else _check.count(least=1, steps=steps)
        self._epochs = None if epochs is None else _check.count(least=1, epochs=epochs)

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return len(self._rows)

    def steps(self, client: int, seed: int) -> list[list[Row]]:
        """The rows of each local step; depends on client and seed alone."""
        rows, size = self._rows[client], self._batch_size
        rng = np.random.default_rng([seed, client])
        done: list[list[Row]] = []
        epoch = 0
        while self._wants(len(done), epoch):
            order = rng.permutation(len(rows)).tolist()
            done += [
                [rows[i] for i in order[start : start + size]]
                for start in range(0, len(order), size)
            ]
            epoch += 1
        return done if self._steps is None else done[: self._steps]

    def _wants(self, steps: int, epoch: int) -> bool:
        if self._steps is not None:
            return steps < self._steps
        return epoch < (self._epochs or 0)
