"""Who computes a round: how the released total comes about from its clients.

The order is the same wherever clients are: what they send is bounded, the round
is paid for, and only then is anything released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.fedsim.total import Total
    from drdp.fedsim.trainer import Trainer

__all__ = ["Ask", "Collect", "Pay", "collected_here"]

Pay = Callable[[bytes], None]
"""Charges the round, durably; the digest names what is going to be released."""


@final
@dataclass(frozen=True, slots=True)
class Ask:
    """What the clients of a round are asked to do.

    Args:
        round: The round's number, from 0.
        cohort: Who is asked, in increasing order.
        parameters: What training starts from, flat float32.
        seed: Of local training.
    """

    round: int
    cohort: tuple[int, ...]
    parameters: NDArray[np.float32]
    seed: int


class Collect(Protocol):
    """Asks the clients of a round and gives what may leave."""

    def __call__(self, ask: Ask, total: Total, pay: Pay) -> NDArray[np.float64]:
        """The released total.

        Args:
            ask: The round.
            total: Empty; adds up and adds the noise.
            pay: To be called once, before anything is released.
        """
        ...


def collected_here(trainer: Trainer) -> Collect:
    """Every client is trained in this process, by `trainer`."""

    def collect(ask: Ask, total: Total, pay: Pay) -> NDArray[np.float64]:
        for update in trainer.updates(ask.parameters, ask.cohort, ask.seed):
            total.add(update)
        total.complete()
        digest = total.digest
        pay(digest)
        return total.released(digest)

    return collect
