"""What a trainer is: clients' flat updates from flat parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ClientRange", "Trainer", "Update"]


@final
@dataclass(frozen=True, slots=True)
class Update:
    """What one client's local training changed.

    Args:
        client: The client's number.
        delta: New minus old trainable parameters, flat float32.  One that is not
            finite, because training diverged, is given as it is and counts as zero.
        loss: Mean training loss over the local steps; private, never released.  One
            that is not finite marks the whole update as diverged.
        examples: How many examples were used; private, never a weight.
    """

    client: int
    delta: NDArray[np.float32]
    loss: float
    examples: int


class Trainer(Protocol):
    """Local training of clients that share one flat vector of parameters.

    An update depends on the parameters, the client's own data and the seed, and
    on nothing else: not on which clients train beside it.  Nothing that depends on
    a client's data may raise: an error would show it, and end the others' round.
    """

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        ...

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        ...

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from."""
        ...

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """One update per client, in order; memory does not grow with the cohort."""
        ...

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Metrics on public held-out data, such as ``{"loss": 2.41}``."""
        ...


@final
class ClientRange:
    """Some clients of a trainer, numbered from 0.

    Args:
        trainer: All clients.
        first: The first one of the range.
        count: How many there are in the range.
    """

    def __init__(self, trainer: Trainer, first: int, count: int) -> None:
        self._trainer, self._first, self._count = trainer, first, count

    @property
    def num_clients(self) -> int:
        """How many clients are in the range."""
        return self._count

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return self._trainer.num_parameters

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from."""
        return self._trainer.initial()

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """The updates of clients of the range, in order."""
        shifted = [self._first + client for client in clients]
        for update in self._trainer.updates(parameters, shifted, seed):
            yield replace(update, client=update.client - self._first)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Metrics on public held-out data."""
        return self._trainer.evaluate(parameters)
