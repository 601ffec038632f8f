"""Clients with data on trial: in or out of a run that really trains.

What such a client sends depends on the model, so that an attacker who knows its
data computes it anew from the parameters that he sees.

>>> from drdp.fedsim.canaries import Crowd
>>> import numpy as np
>>> people = Crowd(4, np.ones(2, dtype=np.float32))
>>> seated = Seated(people, (1, 2, 3), Member(people, 0), silent=False)
>>> [one.client for one in seated.updates(seated.initial(), [0, 3], 0)]
[0, 3]
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.simulate import Simulation, codec_of, local_seed
from drdp.fedsim.trainer import Trainer, Update
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.threat import Placement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Member", "Membership", "Remembering", "Seated"]

_MOST_KEPT = 5 * 10**7  # numbers that are remembered rather than computed again


@final
@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One client's data.

    Args:
        trainer: Who can train on them.
        number: Its number there.
    """

    trainer: Trainer
    number: int


@final
@dataclass(frozen=True)
class Membership:
    """A client with data that is in a run, or out of it.

    Args:
        simulation: The audited one.
        inside: Whoever has the first seat if the suspect is in.
        outside: Whoever has it if not; None for nobody, who contributes nothing.
        others: Numbers of the clients in the other seats.
        rounds: Of a run.
        seed: Public seed of local training, as given to `simulate`.
        loss: From parameters to the model's mean loss on the suspect's text.

    Guarantees:
        Being in or out are neighbours under the run's adjacency.

    Raises:
        InvalidArgumentError: If they would not be: where the guarantee is about a
            client or nobody, another client's data are two steps away.
    """

    simulation: Simulation
    inside: Member
    outside: Member | None
    others: tuple[int, ...]
    rounds: int
    seed: int = 0
    loss: Callable[[NDArray[np.float32]], float] | None = None

    def __post_init__(self) -> None:
        _check.count(least=1, rounds=self.rounds)
        protection = self.simulation.protection
        if self.outside is not None and protection.relation is not (
            Adjacency.REPLACE_ONE
        ):
            raise InvalidArgumentError(
                f"outside must be nobody under {protection.relation}: other data in a"
                " client's place are no neighbour there; audit under replace-one"
            )
        if protection.examples_per_user is not None:
            raise InvalidArgumentError(
                "simulation must draw clients, not single examples of users: audit"
                " users with canaries"
            )

    @property
    def canaries(self) -> int:
        """One suspect."""
        return 1

    @property
    def seats(self) -> int:
        """It has one seat."""
        return 1

    @property
    def opposes(self) -> bool:
        """Whether somebody else has the seat if the suspect is out."""
        return self.outside is not None

    @property
    def hint_names(self) -> tuple[str, ...]:
        """The loss, where there is text to measure it on."""
        return () if self.loss is None else ("loss of the last model on the text",)

    def hints(self, last: NDArray[np.float64]) -> tuple[float, ...]:
        """How well the last model knows the text."""
        import numpy as np

        return () if self.loss is None else (-self.loss(last.astype(np.float32)),)

    def among(self, rest: Trainer, inside: Sequence[bool]) -> Seated:
        """The suspect, or who stands in for it, before the others."""
        (there,) = inside
        central = self.simulation.protection.placement is Placement.CENTRAL
        sitting = self.inside if there else self.outside
        return Seated(rest, self.others, sitting, silent=central)

    def contribution(
        self,
        canary: int,
        round_: int,
        *,
        inside: bool,
        before: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """What the first seat adds to the sum of a round that begins at `before`."""
        import numpy as np

        who = self.inside if inside else self.outside
        codec = codec_of(self.simulation.compressor, round_)
        if who is None:
            return np.zeros(codec.code_length)
        start = who.trainer.initial() if before is None else before
        (update,) = who.trainer.updates(
            start.astype(np.float32), [who.number], local_seed(self.seed, round_)
        )
        code = np.asarray(codec.encode(np.nan_to_num(update.delta)), dtype=np.float64)
        norm, clip = float(np.linalg.norm(code)), self.simulation.protection.clip_norm
        return code * min(1.0, clip / norm) if norm > 0.0 else code


@final
class Seated:
    """Clients of a trainer in stated seats, behind one seat of its own.

    Args:
        rest: The other clients.
        others: Their numbers, in the order of their seats, from the second one.
        first: Who has the first seat; None for nobody.
        silent: Whether nobody sends nothing at all, rather than zeros.
    """

    def __init__(
        self,
        rest: Trainer,
        others: Sequence[int],
        first: Member | None,
        *,
        silent: bool,
    ) -> None:
        self._rest, self._others = rest, tuple(others)
        self._first, self._silent = first, silent

    @property
    def num_clients(self) -> int:
        """All seats."""
        return 1 + len(self._others)

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return self._rest.num_parameters

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from."""
        return self._rest.initial()

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """One update per client in order; the first seat's may be missing."""
        import numpy as np

        if 0 in clients and self._first is not None:
            who = self._first
            for update in who.trainer.updates(parameters, [who.number], seed):
                yield replace(update, client=0)
        elif 0 in clients and not self._silent:
            yield Update(0, np.zeros(self.num_parameters, dtype=np.float32), 0.0, 1)
        seats = [client for client in clients if client != 0]
        numbers = [self._others[seat - 1] for seat in seats]
        found = self._rest.updates(parameters, numbers, seed) if seats else ()
        for seat, update in zip(seats, found, strict=True):
            yield replace(update, client=seat)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """The real trainer's metrics."""
        return self._rest.evaluate(parameters)


@final
class Remembering:
    """A trainer that computes no update twice, as long as there is room.

    Runs of an audit all begin with the same parameters, and the attacker computes
    what the suspect has computed.

    Args:
        trainer: Whose updates depend on parameters, client and seed alone.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._kept: dict[tuple[bytes, int, int], Update] = {}

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return self._trainer.num_clients

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
        """One update per client, in order."""
        mark = hashlib.sha256(parameters.tobytes()).digest()
        new = [client for client in clients if (mark, seed, client) not in self._kept]
        fresh = iter(self._trainer.updates(parameters, new, seed) if new else ())
        for client in clients:
            key = (mark, seed, client)
            update = self._kept.get(key) or next(fresh)
            if (len(self._kept) + 1) * self.num_parameters <= _MOST_KEPT:
                self._kept[key] = update
            yield update

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """The trainer's metrics."""
        return self._trainer.evaluate(parameters)
