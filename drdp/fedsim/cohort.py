"""Who takes part in a round, drawn exactly as the accounting says.

>>> from drdp.fedsim.randomness import SeededRandomness
>>> cohort = FixedCohort(3, 10)
>>> len(draw(cohort, 10, 0, SeededRandomness(1)))
3
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.threat import EveryClient, FixedCohort, PoissonCohort

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.fedsim.randomness import Randomness

__all__ = ["AllocatedCohort", "Cohorts", "draw", "expected_size", "most_in_a_sum"]


@final
@dataclass(frozen=True, slots=True)
class AllocatedCohort:
    """Each client takes part in one of `rounds` rounds, drawn afresh per pass.

    Clients choose independently of each other, so the cohorts of a pass differ
    in size; what a pass costs is `drdp.RandomlyAllocated`.
    """

    rounds: int

    def __post_init__(self) -> None:
        _check.count(least=1, rounds=self.rounds)


Cohorts = PoissonCohort | FixedCohort | EveryClient | AllocatedCohort


def expected_size(cohort: Cohorts, num_clients: int) -> float:
    """The public number of clients that a round is expected to have.

    Sums are divided by it, never by how many happened to take part: that number
    depends on who exists.
    """
    num_clients = _check.count(least=1, num_clients=num_clients)
    match cohort:
        case PoissonCohort(rate):
            return rate * num_clients
        case FixedCohort(clients_per_round=size):
            return float(size)
        case AllocatedCohort(rounds):
            return num_clients / rounds
    return float(num_clients)


def most_in_a_sum(cohort: Cohorts, num_clients: int) -> int:
    """The largest number of clients that a round can have."""
    if isinstance(cohort, FixedCohort):
        return cohort.clients_per_round
    return num_clients


def draw(
    cohort: Cohorts, num_clients: int, round_: int, randomness: Randomness
) -> list[int]:
    """The clients of a round, in increasing order.

    Args:
        cohort: How they are drawn.
        num_clients: How many clients there are; they are numbered from 0.
        round_: The round's number, from 0.
        randomness: Where the draw comes from; the same round always gets the
            same cohort from it, so that an interrupted round can be repeated.

    Guarantees:
        Probabilities are exact to 2^-64.  Different rounds are independent, and
        for `AllocatedCohort` different passes.

    Raises:
        InvalidArgumentError: If the cohort was described for another number of
            clients.
    """
    num_clients = _check.count(least=1, num_clients=num_clients)
    match cohort:
        case PoissonCohort(rate):
            words = _words(randomness, "cohort", round_, num_clients)
            return _below(words, rate)
        case FixedCohort(clients_per_round=size, population=population):
            _same(population, num_clients)
            words = _words(randomness, "cohort", round_, num_clients)
            return sorted(words.argsort(kind="stable")[:size].tolist())
        case AllocatedCohort(rounds):
            words = _words(randomness, "allocation", round_ // rounds, num_clients)
            turn = round_ % rounds
            return [
                client
                for client, word in enumerate(words.tolist())
                if word * rounds >> 64 == turn
            ]
    _same(cohort.clients, num_clients)
    return list(range(num_clients))


def _words(
    randomness: Randomness, purpose: str, number: int, count: int
) -> NDArray[np.uint64]:
    return randomness.source(purpose, number).words(count)


def _below(words: NDArray[np.uint64], rate: float) -> list[int]:
    if rate >= 1.0:
        return list(range(len(words)))
    limit = int(rate * 2.0**64)  # exact: a float has 53 bits
    return [i for i, word in enumerate(words.tolist()) if word < limit]


def _same(described: int, num_clients: int) -> None:
    if described != num_clients:
        raise InvalidArgumentError(
            f"the cohort is described for {described} clients, but there are"
            f" {num_clients}; state the population that there is"
        )
