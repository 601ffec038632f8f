"""Clients that are made to be found: crafted updates whose codes an attacker knows.

A canary goes through exactly what a real client goes through (encode, clip,
noise) and takes a seat that is counted in the public number of clients.  Its
direction in code space is new in each round.

>>> from drdp.compression.identity import Identity
>>> crafted = craft(Identity(3), direction("dirac", 1, 0, 3), clip_norm=2.0)
>>> crafted.contribution.tolist()
[0.0, 2.0, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.simulate import Simulation, codec_of, local_seed
from drdp.fedsim.trainer import Trainer, Update
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.threat import Placement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor

__all__ = [
    "Crafted",
    "Crowd",
    "Direction",
    "Planting",
    "WithCanaries",
    "craft",
    "direction",
]

Direction = Literal["sphere", "dirac", "crowd"]
"""Uniform on the sphere; one coordinate; or against what all others send."""

_DOUBLINGS = 60
_ENOUGH = 1.0 + 1e-3  # above the clip norm, so that rounding cannot fall short
_MOST_KEPT = 10**7  # numbers that are remembered rather than made again


@final
@dataclass(frozen=True, slots=True)
class Crafted:
    """One canary's data for one round.

    Args:
        update: What it sends in, shape (update_length,).
        contribution: What is left of it after encode and clip, known to whoever
            knows the codec and the clip norm; shape (code_length,).
    """

    update: NDArray[np.float32]
    contribution: NDArray[np.float64]


def direction(
    kind: Direction, canary: int, round_: int, length: int, *, seed: int = 0
) -> NDArray[np.float64]:
    """A unit vector in code space for one canary in one round.

    Args:
        kind: ``"sphere"``: different ones are nearly orthogonal, with cosines of
            about length^-1/2; ``"dirac"``: exactly orthogonal for up to `length`
            canaries; ``"crowd"``: the same for all canaries and rounds.
        canary: Its number, from 0.
        round_: The round's number, from 0.
        length: Length of a code.
        seed: Public.
    """
    import numpy as np

    if kind == "dirac":
        found = np.zeros(length)
        found[(canary + round_) % length] = 1.0
        return found
    place = (seed, 0, 0) if kind == "crowd" else (seed, 1 + canary, 1 + round_)
    drawn = np.random.default_rng(place).normal(size=length)
    return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float64)


def craft(
    codec: Compressor, towards: NDArray[np.float64], *, clip_norm: float
) -> Crafted:
    """An update whose code meets the clip, near a direction of code space.

    The decoder says which update that is; where the way back through the encoder
    turns it, the contribution is what really comes out.

    Args:
        codec: Of the round.
        towards: Shape (code_length,).
        clip_norm: May be infinite: then the code has about the norm 1.

    Raises:
        InvalidArgumentError: If nothing comes out of the codec.
    """
    import numpy as np

    decoded = np.asarray(codec.decode(towards), dtype=np.float64)
    wanted = clip_norm if math.isfinite(clip_norm) else 1.0
    scale, best, size = wanted, None, 0.0
    for _ in range(_DOUBLINGS):
        update = (scale * decoded).astype(np.float32)
        code = np.asarray(codec.encode(update), dtype=np.float64)
        norm = float(np.linalg.norm(code))
        if not math.isfinite(norm):
            break
        if norm > size:
            best, size = (update, code), norm
        if norm >= wanted * _ENOUGH or math.isinf(clip_norm):
            break
        scale *= 2.0
    if best is None:
        raise InvalidArgumentError(
            "codec must give a code that is not zero for some update; no canary can"
            " be sent through this one"
        )
    update, code = best
    return Crafted(update, code * min(1.0, clip_norm / size))


@final
@dataclass(frozen=True)
class Planting:
    """Which canaries a simulation gets, and what each sends if it is in or out.

    Args:
        simulation: The audited one; its codec and clip norm shape the canaries.
        canaries: How many.
        rounds: Of a run.
        kind: Their directions.
        scale: How many times as long as the clip norm their codes are made;
            above 1 where clipping itself is under suspicion.
        examples: How many examples a canary claims to have.
        seed: Public seed of local training, as given to `simulate`.

    Where what is drawn is single examples and a guarantee is for users who have
    several, each canary is a user with as many examples as are allowed, all alike.

    Guarantees:
        Two runs that differ in one canary being in or out are neighbours under
        the run's adjacency: with replace-one the canary sends the opposite when
        it is out, otherwise it contributes nothing.
    """

    simulation: Simulation
    canaries: int
    rounds: int
    kind: Direction = "sphere"
    scale: float = 1.0
    examples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _check.count(least=1, canaries=self.canaries)
        _check.count(least=1, rounds=self.rounds)
        _check.positive(scale=self.scale)
        if self.opposes:
            return
        if self.simulation.protection.placement is not Placement.CENTRAL:
            self._check_null()

    @property
    def seats(self) -> int:
        """How many examples a canary has, where single examples are drawn."""
        return self.simulation.protection.examples_per_user or 1

    @property
    def hint_names(self) -> tuple[str, ...]:
        """A crafted update has nothing to do with what a model says."""
        return ()

    def hints(self, last: NDArray[np.float64]) -> tuple[float, ...]:
        """None."""
        return ()

    def among(self, rest: Trainer, inside: Sequence[bool]) -> WithCanaries:
        """The canaries, in or out, with real clients behind them."""
        return WithCanaries(rest, self, inside)

    @property
    def opposes(self) -> bool:
        """Whether a canary that is out sends the opposite."""
        return self.simulation.protection.relation is Adjacency.REPLACE_ONE

    @cached_property
    def _made(self) -> dict[tuple[int, int, bool], Crafted]:
        return {}

    @cached_property
    def rounds_of(self) -> dict[int, int]:
        """Rounds by the seed that local training gets in them."""
        return {local_seed(self.seed, number): number for number in range(self.rounds)}

    def sent(self, canary: int, round_: int, *, inside: bool) -> Crafted | None:
        """A canary's data; None for no contribution at all."""
        import numpy as np

        if not inside and not self.opposes:
            return None
        key = (canary, round_, inside)
        if key in self._made:
            return self._made[key]
        codec = codec_of(self.simulation.compressor, round_)
        towards = direction(
            self.kind, canary, round_, codec.code_length, seed=self.seed
        )
        if self.kind == "crowd":
            towards = -towards
        found = craft(
            codec,
            towards if inside else -towards,
            clip_norm=self.simulation.protection.clip_norm,
        )
        if self.scale != 1.0:
            update = np.asarray(found.update * self.scale, dtype=np.float32)
            found = replace(found, update=update)
        if (len(self._made) + 1) * codec.update_length <= _MOST_KEPT:
            self._made[key] = found
        return found

    def contribution(
        self,
        canary: int,
        round_: int,
        *,
        inside: bool,
        before: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """What a seat of a canary adds to the sum, whatever the model `before`."""
        import numpy as np

        found = self.sent(canary, round_, inside=inside)
        if found is None:
            return np.zeros(self.simulation.compressor.code_length)
        return found.contribution

    def _check_null(self) -> None:
        import numpy as np

        codec = self.simulation.compressor
        if np.any(codec.encode(np.zeros(codec.update_length, dtype=np.float32))):
            raise InvalidArgumentError(
                "compressor must map the zero update to the zero code for canaries"
                " under zero-out with noise at the clients; audit under replace-one"
            )


@final
class WithCanaries:
    """A trainer with canaries as its first clients, before the real ones.

    Args:
        trainer: The real clients.
        planting: The canaries.
        inside: For each canary, whether it is in.
    """

    def __init__(
        self, trainer: Trainer, planting: Planting, inside: Sequence[bool]
    ) -> None:
        if len(inside) != planting.canaries:
            raise InvalidArgumentError(
                f"inside must have {planting.canaries} entries, got {len(inside)}"
            )
        self._trainer, self._planting = trainer, planting
        self._inside = tuple(map(bool, inside))
        self._seats = len(self._inside) * planting.seats
        central = planting.simulation.protection.placement is Placement.CENTRAL
        self._silent = central and not planting.opposes

    @property
    def num_clients(self) -> int:
        """Canaries and real clients."""
        return self._seats + self._trainer.num_clients

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
        """One update per client in order, but none of a canary that adds nothing.

        With noise at the clients such a canary sends zeros, and its noise.
        """
        import numpy as np

        count = self._seats
        for seat in (client for client in clients if client < count):
            canary = seat // self._planting.seats
            made = self._planting.sent(
                canary, self._planting.rounds_of[seed], inside=self._inside[canary]
            )
            if made is not None:
                yield Update(seat, made.update, 0.0, self._planting.examples)
            elif not self._silent:
                zeros = np.zeros(self.num_parameters, dtype=np.float32)
                yield Update(seat, zeros, 0.0, self._planting.examples)
        rest = [client - count for client in clients if client >= count]
        for update in self._trainer.updates(parameters, rest, seed) if rest else ():
            yield replace(update, client=update.client + count)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """The real trainer's metrics."""
        return self._trainer.evaluate(parameters)


@final
class Crowd:
    """Clients who all send the same, whatever the parameters: the cheapest trainer.

    What clients compute is irrelevant to what the release hides, so that an audit
    of the release needs no model.

    Args:
        num_clients: How many; may be 0.
        update: What each sends, flat float32.

    >>> import numpy as np
    >>> crowd = Crowd(3, np.ones(2, dtype=np.float32))
    >>> [one.client for one in crowd.updates(crowd.initial(), [0, 2], 0)]
    [0, 2]
    """

    def __init__(self, num_clients: int, update: NDArray[np.float32]) -> None:
        self._num_clients = _check.count(num_clients=num_clients)
        self._update = update

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return self._num_clients

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return len(self._update)

    def initial(self) -> NDArray[np.float32]:
        """Zeros."""
        import numpy as np

        return np.zeros(len(self._update), dtype=np.float32)

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """The same from everybody."""
        for client in clients:
            yield Update(client, self._update, 0.0, 1)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Nothing to measure."""
        return {}
