"""Who takes part in a round: the ways to draw, beyond Poisson and fixed-size.

Each event here says how the units of a round are drawn and under which relation
the guarantee is stated.  `Gaussian` inside any of them states its noise per
clip norm C, the largest norm of one contribution, as inside `PoissonSampled`;
only `FixedSizeSampled` states it per 2C.

>>> from drdp.privacy.events import Gaussian, atoms
>>> run = RandomlyAllocated(20, Gaussian(1.0)) * 3 + Scheduled(4, Gaussian(8.0))
>>> for atom, times in atoms(run).items():
...     print(times, atom)
3 RandomlyAllocated(rounds=20, event=Gaussian(noise_multiplier=1.0))
4 Gaussian(noise_multiplier=8.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.adjacency import Adjacency, known_adjacency
from drdp.privacy.events import (
    NOTHING,
    Event,
    NonPrivate,
    PoissonSampled,
    Sampled,
)

__all__ = [
    "FixedSizeZeroOut",
    "RandomlyAllocated",
    "Scheduled",
    "Shuffled",
    "TruncatedPoissonSampled",
]


def _put(event: Event, /, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(event, name, value)


def _inner(value: object) -> Event:
    if not isinstance(value, Event):
        raise InvalidArgumentError(f"event must be an Event, got {value!r}")
    return value


def _one_of(value: object, allowed: tuple[Adjacency, ...], why: str) -> Adjacency:
    found = known_adjacency(value)
    if found not in allowed:
        names = " or ".join(allowed)
        raise InvalidArgumentError(f"adjacency must be {names}, got {found}: {why}")
    return found


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Adjacency) else value


def _short(event: Event) -> str:
    """An event's repr without the values that go without saying."""
    shown = [
        f"{item.name}={_plain(value)!r}"
        for item in fields(event)  # type: ignore[arg-type]
        if (value := getattr(event, item.name)) != item.default
    ]
    return f"{type(event).__name__}({', '.join(shown)})"


def _known(times: int, inner: Event, relation: Adjacency) -> Event:
    """What it costs where the adversary knows the rounds of a unit."""
    return PoissonSampled(1.0, inner, relation) * times


@final
@dataclass(frozen=True, slots=True)
class FixedSizeZeroOut(Sampled):
    """A uniform sample of fixed size, where one unit's contribution becomes zero.

    The sample is drawn without replacement and has the same size in both data
    sets: the unit stays in the population and sends nothing.

    Args:
        sample_size: Units in a round.
        population: Units in all.
        event: What is released about the sample; a noise multiplier is per
            clip norm C.  The same noise has half that multiplier in
            `FixedSizeSampled`, which counts per replace-one sensitivity 2C.

    It costs more than Poisson sampling at the same rate and noise: where the
    unit is not drawn another one is in its place, and the two releases are up
    to 2C apart.
    """

    sample_size: int
    population: int
    event: Event

    def __post_init__(self) -> None:
        population = _check.count(least=1, population=self.population)
        sample_size = _check.count(sample_size=self.sample_size)
        if sample_size > population:
            raise InvalidArgumentError(
                f"sample_size must be at most population={population},"
                f" got {sample_size}"
            )
        _put(self, population=population, sample_size=sample_size)
        _put(self, event=_inner(self.event))

    @property
    def rate(self) -> float:
        """The share of the population that is sampled."""
        return self.sample_size / self.population

    @property
    def adjacency(self) -> Adjacency:
        """Always zero-out."""
        return Adjacency.ZERO_OUT

    def resolved(self, inner: Event) -> Event:
        """Lowest terms; the whole population is no sample."""
        if self.sample_size == 0 or inner == NOTHING:
            return NOTHING
        if self.sample_size == self.population or isinstance(inner, NonPrivate):
            return inner
        divisor = math.gcd(self.sample_size, self.population)
        return FixedSizeZeroOut(
            self.sample_size // divisor, self.population // divisor, inner
        )


@final
@dataclass(frozen=True, slots=True, repr=False)
class RandomlyAllocated(Sampled):
    """Several rounds, of which each unit takes part in a random few.

    Each unit draws its own `participations` of the `rounds` uniformly and
    independently of the others (balls into bins for one), and nobody learns
    which: one epoch in which everybody takes part.  The event is all of these
    rounds; a further epoch, drawn afresh, is one more such event.

    Args:
        rounds: Number of rounds t.
        event: What is released in one round about those who take part.
        participations: In how many of them each unit takes part, k.
        adjacency: add-remove or zero-out; the costs are the same.

    Equal numbers of units in all rounds are not promised: a random partition
    into batches of one size is `Shuffled`.

    References: Chua et al., arXiv:2412.16802; Feldman and Shenfeld,
    arXiv:2502.08202.
    """

    rounds: int
    event: Event
    participations: int = 1
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        rounds = _check.count(least=1, rounds=self.rounds)
        participations = _check.count(participations=self.participations)
        if participations > rounds:
            raise InvalidArgumentError(
                f"participations must be at most rounds={rounds}, got {participations}"
            )
        relation = _one_of(
            self.adjacency,
            (Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT),
            "no amplification by random allocation is known under replace-one;"
            " account for it as Scheduled",
        )
        _put(self, rounds=rounds, participations=participations, adjacency=relation)
        _put(self, event=_inner(self.event))

    def __repr__(self) -> str:
        """Short where the values are the default ones."""
        return _short(self)

    def resolved(self, inner: Event) -> Event:
        """Taking part in every round, or in none, leaves nothing to chance."""
        if self.participations == 0 or inner == NOTHING:
            return NOTHING
        if isinstance(inner, NonPrivate):
            return inner
        if self.participations == self.rounds:
            return _known(self.rounds, inner, self.adjacency)
        return RandomlyAllocated(
            self.rounds, inner, self.participations, self.adjacency
        )


@final
@dataclass(frozen=True, slots=True, repr=False)
class TruncatedPoissonSampled(Sampled):
    """A Poisson sample from which a random surplus is dropped.

    What a sampler with bounded memory really does: each of `population` units
    joins with probability `rate`, and if more than `max_batch` did, a uniformly
    drawn `max_batch` of them stay.

    Args:
        rate: Probability with which a unit joins.
        population: Units in all, the one that is protected included.  Under
            add-remove, of the larger data set.
        max_batch: The most units that a round can hold.
        event: What is released about those who stay; a noise multiplier is per
            clip norm C.
        adjacency: The neighbouring relation; any.

    References: Chua et al., arXiv:2411.04205.
    """

    rate: float
    population: int
    max_batch: int
    event: Event
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        _put(self, rate=_check.rate(rate=self.rate), event=_inner(self.event))
        _put(self, population=_check.count(least=1, population=self.population))
        _put(self, max_batch=_check.count(least=1, max_batch=self.max_batch))
        _put(self, adjacency=known_adjacency(self.adjacency))

    def __repr__(self) -> str:
        """Short where the relation is the default one."""
        return _short(self)

    def resolved(self, inner: Event) -> Event:
        """Where all fit, nothing is ever dropped."""
        if self.rate == 0.0 or inner == NOTHING:
            return NOTHING
        if isinstance(inner, NonPrivate):
            return inner
        if self.max_batch >= self.population:
            return PoissonSampled(self.rate, inner, self.adjacency)
        return TruncatedPoissonSampled(
            self.rate, self.population, self.max_batch, inner, self.adjacency
        )


@final
@dataclass(frozen=True, slots=True, repr=False)
class Shuffled(Sampled):
    """One epoch over a random partition into batches of one size.

    The units are shuffled and cut into `rounds` batches, one after the other:
    each takes part exactly once.  A further epoch, shuffled afresh, is one more
    such event.

    Args:
        rounds: Batches in the epoch.
        event: What is released about one batch; a noise multiplier is per clip
            norm C.
        adjacency: zero-out or replace-one.

    No amplification is claimed: the guarantee is that of a unit whose batch is
    known.  What an adversary surely gets out of it is often hardly less.

    References: Chua et al., arXiv:2403.17673.
    """

    rounds: int
    event: Event
    adjacency: Adjacency = Adjacency.ZERO_OUT

    def __post_init__(self) -> None:
        relation = _one_of(
            self.adjacency,
            (Adjacency.ZERO_OUT, Adjacency.REPLACE_ONE),
            "batches of one size need the number of units to stay",
        )
        _put(self, rounds=_check.count(least=1, rounds=self.rounds))
        _put(self, event=_inner(self.event), adjacency=relation)

    def __repr__(self) -> str:
        """Short where the relation is the default one."""
        return _short(self)

    def resolved(self, inner: Event) -> Event:
        """A single batch is everybody."""
        if inner == NOTHING or isinstance(inner, NonPrivate):
            return inner
        if self.rounds == 1:
            return _known(1, inner, self.adjacency)
        return Shuffled(self.rounds, inner, self.adjacency)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Scheduled(Sampled):
    """Rounds in which a unit takes part for all to know.

    "Every client every round", batches in a fixed order, a rota: the number of
    times that a unit takes part is all that counts, and no other draw costs
    more for the same number.

    Args:
        participations: In how many rounds a unit takes part at most.
        event: What is released in one of them; a noise multiplier is per clip
            norm C.
        adjacency: The neighbouring relation; any.

    >>> from drdp.privacy.events import Gaussian, atoms
    >>> atoms(Scheduled(4, Gaussian(1.0), "replace-one"))
    Counter({Gaussian(noise_multiplier=0.5): 4})
    """

    participations: int
    event: Event
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        _put(self, participations=_check.count(participations=self.participations))
        _put(self, event=_inner(self.event))
        _put(self, adjacency=known_adjacency(self.adjacency))

    def __repr__(self) -> str:
        """Short where the relation is the default one."""
        return _short(self)

    def resolved(self, inner: Event) -> Event:
        """Nothing is left to chance: the bare releases."""
        return _known(self.participations, inner, self.adjacency)
